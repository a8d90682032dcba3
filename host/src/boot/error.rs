//! Why an image could not be started, or did not do what was expected.

use super::test::FailedTest;
use crate::child::ChildError;
use crate::error::{Class, Classify};
use crate::workspace::WorkspaceError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why an image could not be started, or did not do what was expected.
#[derive(Debug, Error)]
pub enum BootError {
    /// There is no place for what the machine writes.
    #[error("there is no place for the changes that the machine makes to its disk")]
    Workspace(#[source] WorkspaceError),
    /// The image cannot be opened.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `qemu-img` cannot make sense of the image.
    #[error("cannot tell what kind of disk image {} is", .path.display())]
    Probe {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: ChildError,
    },
    /// The image is of a format that is not made here.
    #[error("{} cannot be started: {reason}", .path.display())]
    Unsuitable {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel has Landlock, but does not restrict what may touch the image.
    #[error("cannot keep {} away from other files", .path.display())]
    Confine {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that the machine needs cannot be made.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk onto which the machine writes cannot be made.
    #[error("cannot make the overlay for the changes that the machine makes to its disk")]
    Overlay(#[source] ChildError),
    /// A channel to the machine cannot be made or broke.
    #[error("the channel to the machine broke")]
    Channel(#[source] io::Error),
    /// QEMU does not start, or crashed.
    #[error("cannot run the machine")]
    Qemu(#[source] ChildError),
    /// There is no room for what the machine writes.
    #[error("the disk of this host is full: there is no room for what the machine writes")]
    HostDiskFull,
    /// The image or the overlay cannot be read or written.
    #[error("the disk of the machine cannot be read or written: {0}")]
    Disk(String),
    /// The machine stands still.
    #[error("the machine stopped: {state}")]
    Stopped {
        /// QEMU's word for why.
        state: String,
        /// What QEMU wrote to its standard error.
        stderr: String,
    },
    /// Nobody sits at a terminal.
    #[error("an interactive machine needs a terminal on standard input and standard output")]
    NoTerminal,
    /// The terminal does not do what it should.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// The machine ended before the text was seen.
    #[error("the machine ended before its console showed `{expect}`")]
    Ended {
        /// The text.
        expect: String,
        /// The last lines of the console.
        console: String,
    },
    /// The text was not seen in time.
    #[error("the console had not shown `{expect}` after {} s", .after.as_secs())]
    NotSeen {
        /// The text.
        expect: String,
        /// How long was waited.
        after: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// The machine had not powered itself off in time.
    #[error("the machine had not powered itself off after {} s", .after.as_secs())]
    StillRunning {
        /// How long was waited.
        after: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// The console shows that nothing more will come.
    #[error("the image does not boot: {reason}")]
    Dead {
        /// What the console says.
        reason: &'static str,
        /// The last lines of the console.
        console: String,
    },
    /// The shell for the tests did not come up.
    #[error("the image had not started the shell for its tests after {} s", .after.as_secs())]
    NoShell {
        /// How long was waited.
        after: Duration,
        /// The last lines of the console.
        console: String,
    },
    /// The machine switched itself off before its tests could run.
    #[error("the machine powered itself off before its tests could run")]
    PoweredOff {
        /// The last lines of the console.
        console: String,
    },
    /// The machine does not restart, which a test asks for.
    #[error("the machine cannot be restarted for the test: {reason}")]
    NoRestart {
        /// How `systemd-run`, which was to do it, ended.
        reason: String,
        /// What it wrote.
        output: String,
    },
    /// The shell for the tests went away.
    #[error("the machine was lost while the test `{test}` ran")]
    Lost {
        /// The test.
        test: String,
        /// The last lines of the console.
        console: String,
    },
    /// Tests did not pass.
    #[error("{} of {count} tests of the image failed: {}", .failed.len(), names(.failed))]
    Tests {
        /// Those that failed.
        failed: Vec<FailedTest>,
        /// How many there are.
        count: usize,
    },
}

fn names(failed: &[FailedTest]) -> String {
    failed.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Classify for BootError {
    fn class(&self) -> Class {
        match self {
            Self::Workspace(source) => source.class(),
            Self::Open { .. } | Self::Unsuitable { .. } | Self::NoTerminal => Class::Usage,
            Self::Probe { .. }
            | Self::Confine { .. }
            | Self::Overlay(_)
            | Self::Write { .. }
            | Self::Channel(_)
            | Self::Qemu(_)
            | Self::HostDiskFull
            | Self::Disk(_)
            | Self::Stopped { .. }
            | Self::Terminal(_) => Class::Host,
            Self::Ended { .. }
            | Self::NotSeen { .. }
            | Self::StillRunning { .. }
            | Self::Dead { .. }
            | Self::NoShell { .. }
            | Self::PoweredOff { .. }
            | Self::NoRestart { .. }
            | Self::Lost { .. }
            | Self::Tests { .. } => Class::Build,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Workspace(source) => source.advice(),
            Self::Probe { source: ChildError::Spawn { source, .. }, .. }
            | Self::Overlay(ChildError::Spawn { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("install the Debian package qemu-utils".into())
            }
            Self::HostDiskFull => {
                Some("free some space, or name a folder on another file system with --work-dir".into())
            }
            Self::Stopped { .. } => Some("do without KVM with `--accel tcg`".into()),
            Self::NotSeen { .. } | Self::StillRunning { .. } | Self::NoShell { .. } => {
                Some("give it more time with --timeout, or look at it with `particle-vm boot --interactive`".into())
            }
            Self::Ended { .. }
            | Self::Dead { .. }
            | Self::PoweredOff { .. }
            | Self::NoRestart { .. }
            | Self::Lost { .. } => Some("look at it with `particle-vm boot --interactive`".into()),
            _ => None,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Probe { source, .. } | Self::Overlay(source) | Self::Qemu(source) => source.details(),
            Self::Stopped { stderr: text, .. } | Self::NoRestart { output: text, .. } if !text.is_empty() => {
                Some(text.clone())
            }
            Self::Ended { console, .. }
            | Self::NotSeen { console, .. }
            | Self::StillRunning { console, .. }
            | Self::Dead { console, .. }
            | Self::NoShell { console, .. }
            | Self::PoweredOff { console }
            | Self::Lost { console, .. }
                if !console.is_empty() =>
            {
                Some(console.clone())
            }
            Self::Tests { failed, .. } => Some(failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n")),
            _ => None,
        }
    }
}
