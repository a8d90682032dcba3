//! The messages of the control channel.
//!
//! The guest speaks first: [`FromGuest::Hello`] as soon as the machine is ready, or [`FromGuest::Failed`] when it cannot be
//! brought up. The host answers a hello with [`FromHost::Time`] and [`FromHost::Start`] or closes the channel. From then on the guest sends
//! events until [`FromGuest::Done`] or [`FromGuest::Failed`]; the host may send [`FromHost::Cancel`] at any time. After
//! the end the agent waits, with everything still mounted, for [`FromHost::PowerOff`] or for one more
//! [`FromHost::Start`] (a shell in the stage that failed). When the channel closes, it powers the machine off.

use crate::archive::Archive;
use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds between two [`FromHost::Ping`]s. A guest that answers none for [`HEARTBEAT_LOST`] seconds is lost.
pub const HEARTBEAT: u64 = 5;

/// Seconds without a [`FromGuest::Pong`] after which the host gives the guest up. Long, because under emulation on a
/// busy machine the guest may get no processor for a while.
pub const HEARTBEAT_LOST: u64 = 60;

/// Most bytes of [`FromHost::Input`] that the host may have sent without a [`FromGuest::InputTaken`] for them. Without
/// this limit a command that does not read its standard input would fill the guest's memory, or hold up the channel that
/// the heartbeat needs.
pub const INPUT_WINDOW: u64 = 256 << 10;

/// Most programs of a stage that the guest tells of.
pub const MAX_PROGRAMS: usize = 12;

/// What the host sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromHost {
    /// The time since the Unix epoch. The clock of the machine counts whole seconds, and the kernel's own loses time while
    /// it starts on a busy host: signatures that are seconds old would come from the future.
    Time(Duration),
    /// What is to be done.
    Start(Box<Job>),
    /// Answered with [`FromGuest::Pong`] and the same number.
    Ping(u64),
    /// End the job: kill its processes and answer [`FromGuest::Failed`] with [`FailureKind::Cancelled`].
    Cancel,
    /// What was typed, or the standard input of an [`Exec`] without a terminal; at most [`INPUT_WINDOW`] ahead.
    Input(Vec<u8>),
    /// The standard input of an [`Exec`] has ended.
    InputEnd,
    /// The terminal has another size now.
    Resize(TerminalSize),
    /// What the scratch disk held at [`FromGuest::Settled`] is kept, or nobody wants it: the build may go on.
    Kept,
    /// Unmount everything and power off.
    PowerOff,
}

/// What the guest sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromGuest {
    /// The first message.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the agent.
        protocol: u32,
        /// Build id of the agent; the host accepts only its own.
        build: String,
        /// `uname -r` of the running kernel.
        kernel: String,
    },
    /// The answer to [`FromHost::Ping`].
    Pong(u64),
    /// A stage, or another step with a name of its own, begins.
    StageStarted {
        /// Position among the steps of the job: those before the stages, [`Plan::stages`], those after them.
        index: usize,
        /// What people call it, for instance `3/9 apt`.
        title: String,
    },
    /// One line that a command wrote, without its line end; invalid UTF-8 replaced, at most 8 KiB.
    Output {
        /// The stage it belongs to.
        index: usize,
        /// The line.
        line: String,
    },
    /// The stage ended well.
    StageFinished {
        /// The stage.
        index: usize,
        /// How long it took, in milliseconds of guest time.
        milliseconds: u64,
        /// Processor time of its processes and of the agent, getrusage(2), in milliseconds.
        cpu_milliseconds: u64,
        /// The programs that took most of it, the greediest first, at most [`MAX_PROGRAMS`].
        programs: Vec<Program>,
    },
    /// All that the stage, and those before it, have made is on the scratch disk, and nothing is written there until the host
    /// has sent [`FromHost::Kept`].
    Settled {
        /// The stage, by its position in [`Plan::stages`].
        stage: usize,
        /// SHA-256, in hexadecimal, of the signed indexes of the package lists in the tree.
        indexes: Vec<String>,
    },
    /// The command has taken so many bytes more of [`FromHost::Input`].
    InputTaken(u64),
    /// Bytes from the terminal or the standard output of an [`Exec`].
    Terminal(Vec<u8>),
    /// Bytes from the standard error of an [`Exec`] without a terminal.
    TerminalError(Vec<u8>),
    /// The job ended well.
    Done(Box<JobResult>),
    /// The job failed.
    Failed(Failure),
}

/// All processes of one program in a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, as proc_pid_comm(5) has it: at most 15 bytes.
    pub name: String,
    /// How many processes of it ended.
    pub runs: u64,
    /// Their processor time in milliseconds. The kernel counts whole hundredths of a second of each process.
    pub cpu_milliseconds: u64,
}

/// What a VM is started for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Job {
    /// Say hello and be powered off: probes the acceleration, measures the start.
    Hello,
    /// Make what only maintainer scripts make of a freshly unpacked appliance, and leave it as
    /// [`crate::share::FINISHED`] in the staging share.
    Finish,
    /// Build an image.
    Build(Box<Plan>),
    /// Run one command, or a shell.
    Exec(Exec),
}

/// A command in the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The command and its arguments; empty for a login shell.
    pub argv: Vec<String>,
    /// With a pseudo-terminal of this size, or with three pipes.
    pub terminal: Option<TerminalSize>,
    /// Value of `TERM`.
    pub term: Option<String>,
    /// Where it runs.
    pub inside: Inside,
}

/// Where an [`Exec`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inside {
    /// In the appliance; the work folder is `/work`.
    Appliance,
    /// In the tree of the build that failed before, as its stages run.
    Tree,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What a job that ended well gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobResult {
    /// For [`Job::Hello`] and [`Job::Finish`].
    Nothing,
    /// For [`Job::Build`].
    Built(Built),
    /// For [`Job::Exec`]: the exit code, 128 + signal for a command that a signal ended.
    Exited(i32),
}

/// What a build tells about the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Installed packages, `name:architecture` to version, from the image's dpkg database.
    pub packages: BTreeMap<String, String>,
    /// Bytes that the files in the image occupy.
    pub content_bytes: u64,
    /// Most bytes that were in use on the scratch disk.
    pub scratch_bytes: u64,
    /// The archives that were made, in the order of [`Plan::archives`].
    pub archives: Vec<Archive>,
    /// The time that nothing in them is newer than, in seconds since the Unix epoch; none when there are none.
    pub source_date: Option<u64>,
    /// The OSTree commit that was made: its ref and its checksum.
    pub commit: Option<(String, String)>,
    /// The OSTree commit that was deployed.
    pub deployed: Option<Deployed>,
}

/// An OSTree commit that is the system on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Its checksum, which `ostree admin status` shows.
    pub commit: String,
    /// The checksum of its tree alone: the same for the same files, whatever else is written in the commit.
    pub content: String,
}

/// Why a job failed. The guest tells what it saw; the host decides about exit code and advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class of failure.
    pub kind: FailureKind,
    /// The stage that failed, if one did: index and title.
    pub stage: Option<(usize, String)>,
    /// What failed and the reason, unabridged, one line for each level, outermost first.
    pub message: String,
    /// The last lines of output of the failing command, oldest first.
    pub output: Vec<String>,
}

/// Classes of failure that the host treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// A command ended with another exit code than 0, or by a signal.
    Command,
    /// A stage ran into its deadline.
    Deadline,
    /// The scratch disk is full.
    ScratchFull,
    /// The target disk, or a file system on it, is full.
    TargetFull,
    /// The disk for the archives is full.
    ArchiveFull,
    /// The kernel killed a process for want of memory.
    OutOfMemory,
    /// The host asked for the end.
    Cancelled,
    /// A file or folder that a stage names is missing or not usable.
    Input,
    /// The agent itself could not do something (mount, fork, write).
    Agent,
}
