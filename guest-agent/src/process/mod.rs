//! Running commands.
//!
//! A command is an argument vector. It runs in a session of its own without a controlling terminal, so that nothing can
//! ask a question, with an environment that has only what is set here, and in a control group of its own, so that
//! everything it has started can be ended with it.

pub mod accounting;
mod cgroup;
mod command;
pub mod lines;
pub(crate) mod reaper;
mod run;
mod spawn;

pub use command::Command;
pub use run::{Limits, run};
pub use spawn::{Spawned, Stdio, spawn};

use std::io;
use std::process::ExitStatus;
use std::time::Duration;
use thiserror::Error;

/// Why a command did not do its work.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It cannot be started.
    #[error("cannot run {command}")]
    Spawn {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent cannot talk to it or wait for it.
    #[error("cannot wait for {command}")]
    Wait {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0, or by a signal.
    #[error("{command} failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Processes that the kernel killed for want of memory while it ran.
        out_of_memory: u64,
    },
    /// It was still running at the deadline and was killed.
    #[error("{command} was killed at the deadline, {} s after it began", .after.as_secs())]
    Deadline {
        /// The command line.
        command: String,
        /// How long it had run.
        after: Duration,
    },
    /// The host asked for the end.
    #[error("{command} was cancelled")]
    Cancelled {
        /// The command line.
        command: String,
    },
}
