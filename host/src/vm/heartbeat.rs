//! The question for a sign of life.

use particle_vm_protocol::message::{HEARTBEAT, HEARTBEAT_LOST};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Asks the guest for a sign of life. Questions are counted, not seconds: while this process is stopped nobody asks, and
/// nobody reads the answers.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ticks: tokio::time::Interval,
    number: u64,
    unanswered: u64,
}

impl Heartbeat {
    /// None was asked for yet.
    pub fn new() -> Self {
        let mut ticks = interval(Duration::from_secs(HEARTBEAT));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, number: 0, unanswered: 0 }
    }

    /// There was one.
    pub fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// The number of the next question, when it is time; None when too many were not answered. While nobody is
    /// `listening` to answers, none is missed. Can be dropped and called again.
    pub async fn next(&mut self, listening: impl Fn() -> bool) -> Option<u64> {
        loop {
            self.ticks.tick().await;
            if listening() {
                return self.ask();
            }
            self.heard();
        }
    }

    fn ask(&mut self) -> Option<u64> {
        if self.unanswered >= HEARTBEAT_LOST / HEARTBEAT {
            return None;
        }
        self.unanswered += 1;
        self.number += 1;
        Some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_answers_nothing_is_lost() {
        let mut heartbeat = Heartbeat::new();
        let asked = std::iter::from_fn(|| heartbeat.ask()).count() as u64;
        assert_eq!(asked * HEARTBEAT, HEARTBEAT_LOST);
    }

    #[tokio::test]
    async fn a_guest_that_answers_is_not_lost() {
        let mut heartbeat = Heartbeat::new();
        for number in 1..100 {
            assert_eq!(heartbeat.ask(), Some(number));
            heartbeat.heard();
        }
    }

    #[tokio::test]
    async fn a_guest_that_nobody_listens_to_is_not_lost() {
        let mut heartbeat = Heartbeat { ticks: interval(Duration::from_millis(1)), ..Heartbeat::new() };
        let silence = tokio::time::timeout(Duration::from_millis(200), heartbeat.next(|| false)).await;
        assert!(silence.is_err());
        assert_eq!(heartbeat.next(|| true).await.map(|_| heartbeat.unanswered), Some(1));
    }
}
