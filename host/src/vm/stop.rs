//! Why a machine stands still: QEMU tells that it does in one event, and why only when it is asked.

use super::console::Followed;
use super::qmp::{Qmp, RunState};

/// Whether QEMU has told of a stop whose reason is not known yet.
#[derive(Debug, Default)]
pub struct Stop {
    unexplained: bool,
}

impl Stop {
    /// QEMU has told that the machine stands still.
    pub fn told(&mut self) {
        self.unexplained = true;
    }

    /// Why it stands still, in QEMU's word and with what QEMU has written; none when it does not, or is about to end.
    ///
    /// Can be dropped and called again: there is no second event for whoever is interrupted.
    pub async fn reason(&mut self, qmp: &Qmp, stderr: &mut Followed) -> Option<(String, String)> {
        if !self.unexplained {
            return None;
        }
        let state = qmp.state().await.ok();
        // An error of a disk is told by an incident of its own, a shutdown by QEMU's end.
        let passed = |state: &RunState| matches!(state, RunState::running | RunState::shutdown | RunState::io_error);
        let Some(state) = state.filter(|state| !passed(state)) else {
            self.unexplained = false;
            return None;
        };
        // QEMU writes the reason to stderr before it stops, and goes on running.
        Some((format!("{state:?}").replace('_', "-"), stderr.finished().await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::qmp::imagined;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_stop_that_has_passed_is_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(imagined::monitor(theirs, &[], "running"));
        let (qmp, mut stderr) = (Qmp::connect(ours).await.unwrap(), Followed::new(tokio::io::empty()));
        let mut stop = Stop::default();
        assert_eq!(stop.reason(&qmp, &mut stderr).await, None);
        stop.told();
        assert_eq!(stop.reason(&qmp, &mut stderr).await, None);
        assert!(!stop.unexplained);
    }
}
