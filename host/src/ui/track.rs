//! What listeners remember of the events: the names of the stages, the current one, what it has fetched.

use crate::event::Event;
use std::collections::{BTreeMap, HashSet};

/// The stages so far.
#[derive(Debug, Default)]
pub struct Stages {
    titles: BTreeMap<usize, String>,
    current: Option<usize>,
    fetched: Fetched,
    warned: HashSet<String>,
    log: Option<String>,
}

/// What the current stage has fetched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many of the files came from the store.
    pub cached: u64,
}

impl Stages {
    /// Remember what matters of `event`.
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::StageStarted { index, title, .. } => {
                self.titles.insert(*index, title.clone());
                self.current = Some(*index);
                self.fetched = Fetched::default();
            }
            Event::StageFinished { index, .. } if self.current == Some(*index) => self.current = None,
            Event::Fetched { size, cached, .. } => {
                self.fetched.files += 1;
                self.fetched.bytes += size;
                self.fetched.cached += u64::from(*cached);
            }
            Event::LogKept { path } => self.log = Some(path.clone()),
            _ => {}
        }
    }

    /// Where the log of the build is that has failed.
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// The title of a stage.
    pub fn title(&self, index: usize) -> &str {
        self.titles.get(&index).map_or("?", String::as_str)
    }

    /// The title of the stage under way.
    pub fn current(&self) -> Option<&str> {
        self.current.map(|index| self.title(index))
    }

    /// What the current stage, or the one that has just ended, has fetched.
    pub fn fetched(&self) -> Fetched {
        self.fetched
    }

    /// Whether this warning has not been told yet.
    pub fn is_new_warning(&mut self, message: &str) -> bool {
        self.warned.insert(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_that_has_not_finished_is_the_current_one() {
        let mut stages = Stages::default();
        let start = |index, title: &str| Event::StageStarted { index, count: 2, title: title.into() };
        stages.follow(&start(0, "1/2 apt"));
        stages.follow(&Event::StageFinished { index: 0, seconds: 1.0, cpu_seconds: 1.0, programs: Vec::new() });
        assert_eq!(stages.current(), None);
        stages.follow(&start(1, "2/2 run"));
        assert_eq!(stages.current(), Some("2/2 run"));
        assert_eq!(stages.title(0), "1/2 apt");
    }

    #[test]
    fn a_warning_is_new_once() {
        let mut stages = Stages::default();
        assert!(stages.is_new_warning("there is no KVM"));
        assert!(!stages.is_new_warning("there is no KVM"));
    }
}
