//! Why a VM or its job failed.

use super::config::ConfigError;
use super::hypervisor::HypervisorError;
use super::link::LinkError;
use super::proxy::ProxyError;
use super::share;
use crate::clean;
use crate::error::{Class, Classify};
use bytesize::ByteSize;
use particle_vm_protocol::{Failure, FailureKind};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use thiserror::Error;

/// What a guest has done that nobody has asked it for.
pub(super) const RESTARTED: &str = "restarted";
pub(super) const SWITCHED_OFF: &str = "switched itself off";

/// Why a VM or its job failed.
#[derive(Debug, Error)]
pub enum VmError {
    /// There can be no such VM.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No VM can be run here.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The machine has less memory than the VM is to have.
    #[error("the VM is to have {wanted_mib} MiB of memory, and this machine or container has {there_mib} MiB")]
    Memory {
        /// Memory of the VM.
        wanted_mib: u64,
        /// Memory of the machine, or the limit of the container.
        there_mib: u64,
    },
    /// A file for the VM cannot be made.
    #[error("cannot write {}", .path.display())]
    Prepare {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file server of a share cannot be started.
    #[error("cannot share {} with the VM", .folder.display())]
    Share {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU cannot be started.
    #[error("cannot start QEMU")]
    Spawn(#[source] io::Error),
    /// QEMU did not get through its command line.
    #[error("QEMU had not started after {seconds} s")]
    NoGreeting {
        /// The deadline.
        seconds: u64,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// QEMU ended by itself.
    #[error("QEMU ended unexpectedly ({status})")]
    QemuDied {
        /// How.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// QEMU stopped the VM.
    #[error("QEMU cannot go on with the VM ({state})")]
    Stopped {
        /// Its state in QEMU's words.
        state: String,
        /// What QEMU wrote to stderr.
        stderr: String,
    },
    /// The agent did not say hello.
    #[error("the VM did not come up within {seconds} s")]
    NoHello {
        /// The deadline.
        seconds: u64,
        /// The end of the console.
        console: String,
    },
    /// The control channel is of no use.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The guest's kernel gave up.
    #[error("the VM's kernel panicked: {reason}")]
    Panic {
        /// What the kernel says.
        reason: String,
        /// The end of the console.
        console: String,
    },
    /// The guest restarted or switched off without being asked.
    #[error("the VM {what} in the middle of its work")]
    GuestEnded {
        /// `restarted` or `switched itself off`.
        what: &'static str,
        /// The end of the console.
        console: String,
    },
    /// The agent closed its channel, or died without its machine.
    #[error("the agent in the VM is gone")]
    AgentGone {
        /// The end of the console.
        console: String,
    },
    /// The guest does not answer any more.
    #[error("the VM has not answered for {seconds} s")]
    Lost {
        /// How long.
        seconds: u64,
        /// The end of the console.
        console: String,
    },
    /// A stage goes on long after its deadline.
    #[error("the VM has not got on for {seconds} s, and does not keep its deadline")]
    Overdue {
        /// The deadline, and what the agent has beyond it.
        seconds: u64,
        /// The end of the console.
        console: String,
    },
    /// The host has no space for what the guest writes.
    #[error("the file system of {} is full", .path.display())]
    HostDiskFull {
        /// File of the disk.
        path: PathBuf,
    },
    /// The host cannot read or write a disk's file.
    #[error("the disk file {} cannot be read or written: {reason}", .path.display())]
    HostDisk {
        /// File of the disk.
        path: PathBuf,
        /// The reason in the host's words.
        reason: String,
    },
    /// The file server of a share ended.
    #[error("the file server for {} ended unexpectedly ({status})", .folder.display())]
    ShareDied {
        /// The folder.
        folder: PathBuf,
        /// How.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// The guest has put more into a share than anybody has asked it for.
    #[error(
        "the VM has put more into {} than it may: {} and {} files",
        .folder.display(),
        ByteSize(share::MAX_BYTES).display().iec(),
        share::MAX_ENTRIES
    )]
    ShareFull {
        /// The folder.
        folder: PathBuf,
    },
    /// The network of the guest broke.
    #[error(transparent)]
    Network(#[from] ProxyError),
    /// The user's terminal or pipe takes or gives nothing any more.
    #[error("cannot pass on what the command in the VM prints")]
    Output(#[source] io::Error),
    /// The agent says that the job failed.
    #[error("{}", describe(.0))]
    Failed(Box<Failure>),
    /// The VM did not switch off.
    #[error("the VM had not switched off after {seconds} s and was ended")]
    PowerOff {
        /// The deadline.
        seconds: u64,
        /// The end of the console.
        console: String,
    },
}

impl From<Failure> for VmError {
    /// With what the guest says made fit to be shown.
    fn from(failure: Failure) -> Self {
        let Failure { kind, stage, message, output } = failure;
        Self::Failed(Box::new(Failure {
            kind,
            stage: stage.map(|(index, title)| (index, clean::line(&title).into_owned())),
            message: clean::lines(&message),
            output: output.iter().map(|line| clean::line(line).into_owned()).collect(),
        }))
    }
}

/// The failure in one line: the stage, then what failed and why.
fn describe(failure: &Failure) -> String {
    let message = failure.message.lines().collect::<Vec<_>>().join(": ");
    match &failure.stage {
        Some((_, title)) => format!("stage {title} failed: {message}"),
        None => message,
    }
}

impl Classify for VmError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Hypervisor(error) => error.class(),
            Self::Network(error) => error.class(),
            Self::Memory { .. }
            | Self::Prepare { .. }
            | Self::Share { .. }
            | Self::Spawn(_)
            | Self::NoGreeting { .. }
            | Self::QemuDied { .. }
            | Self::Stopped { .. }
            | Self::HostDiskFull { .. }
            | Self::HostDisk { .. }
            | Self::ShareDied { .. }
            | Self::Output(_) => Class::Host,
            Self::Link(LinkError::OtherBuild { .. }) => Class::Internal,
            // The agent does not say such things: something in the guest has taken its place.
            Self::Link(_) => Class::Build,
            Self::NoHello { .. }
            | Self::Panic { .. }
            | Self::ShareFull { .. }
            | Self::GuestEnded { .. }
            | Self::AgentGone { .. }
            | Self::Lost { .. }
            | Self::Overdue { .. }
            | Self::PowerOff { .. } => Class::Build,
            Self::Failed(failure) => match failure.kind {
                FailureKind::Cancelled => Class::Interrupted,
                _ => Class::Build,
            },
        }
    }

    fn advice(&self) -> Option<String> {
        const MEMORY: &str = "give the VM more memory with --memory, for instance `--memory 4GiB`";
        let text = match self {
            Self::Config(error) => return error.advice(),
            Self::Hypervisor(error) => return error.advice(),
            Self::Network(error) => return error.advice(),
            Self::Memory { .. } => "give the VM less with --memory, or the container more",
            Self::Link(LinkError::OtherBuild { .. }) => "build particle-vm again as a whole",
            Self::NoGreeting { .. } => {
                "see whether the file systems of the work folder, the output folder and the cache answer (NFS, FUSE); if \
                 the machine is very busy, try again when it is not"
            }
            Self::QemuDied { status, .. } if killed(*status) => {
                "somebody killed it, or the machine ran out of memory (`journalctl -k` tells): give the VM less with \
                 --memory"
            }
            Self::ShareDied { status, .. } if killed(*status) => {
                "somebody killed it, or the machine ran out of memory (`journalctl -k` tells)"
            }
            Self::HostDiskFull { .. } => "make space there, or name a folder elsewhere with --work-dir or --output",
            Self::Panic { reason, .. } if is_memory_panic(reason) => MEMORY,
            Self::NoHello { .. } | Self::Lost { .. } | Self::Overdue { .. } | Self::PowerOff { .. } => {
                "if the machine is very busy, try again when it is not; without KVM, fewer --cpus may help"
            }
            Self::Failed(failure) => match failure.kind {
                FailureKind::OutOfMemory => MEMORY,
                FailureKind::ScratchFull => "give the VM a larger scratch disk with --scratch-size",
                FailureKind::TargetFull => {
                    "make the image, or the partition that is full, larger in the recipe (`disk`)"
                }
                FailureKind::ArchiveFull => {
                    "give the VM a larger scratch disk with --scratch-size; that for the archives grows with it"
                }
                FailureKind::Deadline => "give the stage a longer `timeout` in the recipe",
                FailureKind::Command | FailureKind::Cancelled | FailureKind::Input | FailureKind::Agent => return None,
            },
            _ => return None,
        };
        Some(text.into())
    }

    fn details(&self) -> Option<String> {
        let text = match self {
            Self::Hypervisor(error) => return error.details(),
            Self::NoGreeting { stderr: text, .. }
            | Self::QemuDied { stderr: text, .. }
            | Self::Stopped { stderr: text, .. }
            | Self::ShareDied { stderr: text, .. }
            | Self::NoHello { console: text, .. }
            | Self::Panic { console: text, .. }
            | Self::GuestEnded { console: text, .. }
            | Self::AgentGone { console: text }
            | Self::Lost { console: text, .. }
            | Self::Overdue { console: text, .. }
            | Self::PowerOff { console: text, .. } => text.clone(),
            Self::Failed(failure) => failure.output.join("\n"),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGKILL)
}

/// Whether a signal from elsewhere has ended a process; a crash is one of its own.
fn ended_by_another(status: ExitStatus) -> bool {
    status.signal().is_some_and(|signal| [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP].contains(&signal))
}

/// Whether a panic is for want of memory, in the kernel's words.
fn is_memory_panic(reason: &str) -> bool {
    reason.contains("Out of memory") || reason.contains("deadlocked on memory")
}

impl VmError {
    /// Whether a guest that failed so may run with another acceleration: the reason lies between QEMU and the guest's
    /// first message.
    pub(super) fn may_be_acceleration(&self) -> bool {
        match self {
            // Whoever has ended it had another reason: the user, or the kernel for want of memory.
            Self::QemuDied { status, .. } => !ended_by_another(*status),
            Self::Stopped { .. }
            | Self::NoHello { .. }
            | Self::Panic { .. }
            | Self::GuestEnded { .. }
            | Self::AgentGone { .. } => true,
            _ => false,
        }
    }

    /// Whether a start may have failed for QEMU's emulation of several processors, and the next one not: in one of some
    /// thousand starts the guest stands still, or restarts before its agent has said anything (seen with QEMU 10.0).
    pub(super) fn may_be_emulation(&self) -> bool {
        match self {
            Self::Panic { reason, .. } => !is_memory_panic(reason),
            Self::NoHello { .. } => true,
            Self::GuestEnded { what, .. } => *what == RESTARTED,
            _ => false,
        }
    }

    /// Whether it is KVM that did not do what it should, in its own words or QEMU's.
    pub(super) fn is_of_kvm(&self) -> bool {
        match self {
            Self::Stopped { state, .. } => state == "internal-error",
            Self::QemuDied { status, stderr } => {
                !ended_by_another(*status) && stderr.to_ascii_lowercase().contains("kvm")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
