//! Child processes: closed stdin, a group of their own, death with us, a deadline, and their stderr in the error.

use crate::error::{Class, Classify};
use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use thiserror::Error;
use tokio::process::Command;

/// Most bytes of a tool's output that are kept for its caller and for error reports.
const MAX_OUTPUT: u64 = 8 << 20;

/// Why a tool did not do its work.
#[derive(Debug, Error)]
pub enum ChildError {
    /// The program is not installed or cannot be executed.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Talking to it failed.
    #[error("cannot read what {program} prints")]
    Read {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another code than 0, or by a signal.
    #[error("{program} failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// It was still running at its deadline and was killed.
    #[error("{program} had not ended after {} s and was killed", .deadline.as_secs())]
    Deadline {
        /// The program.
        program: String,
        /// The deadline.
        deadline: Duration,
        /// What it wrote to stderr until then.
        stderr: String,
    },
}

impl Classify for ChildError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Failed { stderr, .. } | Self::Deadline { stderr, .. } if !stderr.is_empty() => Some(stderr.clone()),
            _ => None,
        }
    }
}

/// A command with stdin closed, in a process group of its own, that is killed when its handle is dropped and when the
/// thread that spawned it dies. Spawn it from the runtime's own thread only (`PR_SET_PDEATHSIG` follows the thread, and
/// the threads of the blocking pool come and go).
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called; both are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from(io::ErrorKind::NotConnected));
            }
            Ok(())
        });
    }
    command
}

/// Run `command` to its end and give back what it wrote to stdout.
///
/// # Errors
/// When it cannot be run, fails, or has not ended after `deadline`.
pub async fn run(mut command: Command, deadline: Duration) -> Result<Vec<u8>, ChildError> {
    use tokio::io::AsyncReadExt;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ChildError::Spawn { program: program.clone(), source })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = {
        let read_out = async {
            if let Some(pipe) = stdout {
                pipe.take(MAX_OUTPUT).read_to_end(&mut out).await?;
            }
            io::Result::Ok(())
        };
        let read_err = async {
            if let Some(pipe) = stderr {
                pipe.take(MAX_OUTPUT).read_to_end(&mut err).await?;
            }
            io::Result::Ok(())
        };
        let whole = async { tokio::try_join!(read_out, read_err, child.wait()) };
        tokio::time::timeout(deadline, whole).await
    };
    let stderr = String::from_utf8_lossy(&err).trim_end().to_owned();
    match ended {
        Ok(Ok(((), (), status))) if status.success() => Ok(out),
        Ok(Ok(((), (), status))) => Err(ChildError::Failed { program, status, stderr }),
        Ok(Err(source)) => Err(ChildError::Read { program, source }),
        Err(_) => Err(ChildError::Deadline { program, deadline, stderr }),
    }
}
