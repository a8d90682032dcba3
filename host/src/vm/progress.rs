//! What the guest says about the steps of its job is believed only in their order, each once, and not for ever.
//!
//! The agent keeps the deadlines of the stages itself, and knows best what to say about them. A guest in which something
//! else has taken the agent's place could answer every question for a sign of life and never end.

use super::link::LinkError;
use particle_vm_protocol::Job;
use particle_vm_protocol::message::HEARTBEAT;
use particle_vm_protocol::plan::{FINISH_DEADLINE, STEP_DEADLINE};

/// Seconds that the agent has beyond the deadline of a step to say so, and for what lies between two steps. Long, because
/// of emulation on a busy machine.
const SLACK: u64 = 15 * 60;

/// How far a job is.
#[derive(Debug)]
pub(super) struct Progress {
    /// Seconds that each step may take. A job without steps may take any time.
    deadlines: Vec<u64>,
    /// The step that comes next.
    next: usize,
    under_way: Option<usize>,
    /// Questions for a sign of life since the last step began. They are counted and not the seconds: while this process
    /// is stopped, nobody reads how far the guest is.
    asked: u64,
}

impl Progress {
    /// At the beginning of `job`.
    pub fn new(job: &Job) -> Self {
        let deadlines = match job {
            Job::Build(plan) => {
                let stages = with_later(plan.stages.iter().map(|stage| stage.deadline).collect());
                let step = |count| std::iter::repeat_n(STEP_DEADLINE, count);
                step(plan.steps_before_stages()).chain(stages).chain(step(plan.steps_after_stages())).collect()
            }
            Job::Finish => vec![FINISH_DEADLINE],
            Job::Hello | Job::Exec(_) => Vec::new(),
        };
        Self { deadlines, next: 0, under_way: None, asked: 0 }
    }

    /// How many steps there are.
    pub fn count(&self) -> usize {
        self.deadlines.len()
    }

    /// The step `index` begins.
    ///
    /// # Errors
    /// When there is no such step, or it does not come after those before.
    pub fn started(&mut self, index: usize) -> Result<(), LinkError> {
        if index < self.next || index >= self.count() {
            return Err(LinkError::Unexpected("each stage begins once, in its turn"));
        }
        (self.next, self.under_way, self.asked) = (index + 1, Some(index), 0);
        Ok(())
    }

    /// The step `index` has ended.
    ///
    /// # Errors
    /// When it is not under way.
    pub fn finished(&mut self, index: usize) -> Result<(), LinkError> {
        match self.under_way.take() {
            Some(started) if started == index => Ok(()),
            _ => Err(LinkError::Unexpected("a stage ends after it has begun")),
        }
    }

    /// Whether the step `index` has ended, and the next has not begun.
    pub fn rests_after(&self, index: usize) -> bool {
        self.under_way.is_none() && self.next == index.saturating_add(1)
    }

    /// The guest is asked for a sign of life once more; gives the seconds after which it should have got on, when it has
    /// not.
    pub fn asked(&mut self) -> Option<u64> {
        let last = self.deadlines.get(self.next.saturating_sub(1))?;
        let seconds = last.saturating_add(SLACK);
        self.asked += 1;
        (self.asked.saturating_mul(HEARTBEAT) > seconds).then_some(seconds)
    }
}

/// What each stage may take at most: the agent installs packages of later stages with those of an earlier one, which has
/// the time of all of them then. Which they are the agent knows.
fn with_later(mut deadlines: Vec<u64>) -> Vec<u64> {
    let mut rest = 0;
    for deadline in deadlines.iter_mut().rev() {
        rest = deadline.saturating_add(rest);
        *deadline = rest;
    }
    deadlines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish() -> Progress {
        Progress::new(&Job::Finish)
    }

    #[test]
    fn steps_come_once_and_in_their_order() {
        let mut progress = Progress { deadlines: vec![60; 3], ..finish() };
        progress.started(0).unwrap();
        assert!(progress.started(0).is_err());
        progress.finished(0).unwrap();
        assert!(progress.finished(0).is_err());
        progress.started(2).unwrap();
        assert!(progress.finished(1).is_err());
        for index in [1, 2, 3, usize::MAX] {
            assert!(progress.started(index).is_err(), "{index}");
        }
    }

    #[test]
    fn a_step_does_not_go_on_for_ever() {
        let mut progress = Progress { deadlines: vec![60, 600], ..finish() };
        let left = |progress: &mut Progress| (1..).find_map(|times| Some((times, progress.asked()?))).unwrap();
        progress.started(0).unwrap();
        assert_eq!(left(&mut progress), ((60 + SLACK) / HEARTBEAT + 1, 60 + SLACK));
        progress.started(1).unwrap();
        assert_eq!(left(&mut progress).1, 600 + SLACK);
    }

    #[test]
    fn a_stage_that_takes_packages_of_later_ones_has_their_time() {
        assert_eq!(with_later(vec![1800, 10_800, 60]), [12_660, 10_860, 60]);
        assert_eq!(with_later(vec![u64::MAX, 1]), [u64::MAX, 1]);
    }

    #[test]
    fn a_shell_may_stay_open() {
        let mut progress = Progress { deadlines: Vec::new(), ..finish() };
        assert!((0..100_000).all(|_| progress.asked().is_none()));
    }
}
