//! Child processes: closed stdin, a group of their own, death with us, a deadline, and their stderr in the error.

use crate::error::{Class, Classify};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most bytes of a tool's output that are kept for its caller and for error reports.
const MAX_OUTPUT: usize = 8 << 20;

/// How long what a tool prints is waited for after its end. Longer it lasts only when the tool has left something behind
/// that holds its pipes.
const AFTERMATH: Duration = Duration::from_secs(1);

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
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() != parent {
                return Err(io::Error::from(io::ErrorKind::NotConnected));
            }
            Ok(())
        });
    }
    command
}

/// Variables that a program which serves the guest keeps: what it needs to find its files and libraries, and the marks by
/// which logs and tests tell one process from another.
const KEPT: [&str; 8] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PARTICLE_VM_LOG", "PARTICLE_VM_TEST"];

/// Take the environment away from a program that a guest could take over: tokens and passwords stand in it.
pub fn without_environment(command: &mut Command) {
    let kept: Vec<_> = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
    command.env_clear().envs(kept);
}

/// Run `command` to its end and give back what it wrote to stdout. What it has started itself ends with it.
///
/// # Errors
/// When it cannot be run, fails, or has not ended after `deadline`.
pub async fn run(command: Command, deadline: Duration) -> Result<Vec<u8>, ChildError> {
    run_reporting(command, deadline, |_| {}).await
}

/// The same, and `report` sees each piece of stdout as it comes, for a tool that prints its progress.
///
/// # Errors
/// As [`run`].
pub async fn run_reporting(
    mut command: Command,
    deadline: Duration,
    report: impl FnMut(&[u8]),
) -> Result<Vec<u8>, ChildError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ChildError::Spawn { program: program.clone(), source })?;
    // After `child`, so that it is dropped before it: its number is not reused until the child has been waited for.
    let group = Group(child.id());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = {
        let read_out = read_capped(stdout, &mut out, report);
        let read_err = read_capped(stderr, &mut err, |_| {});
        let whole = async {
            let mut read = std::pin::pin!(async { tokio::try_join!(read_out, read_err) });
            tokio::select! {
                status = child.wait() => {
                    let status = status?;
                    if let Ok(read) = tokio::time::timeout(AFTERMATH, read).await {
                        read?;
                    }
                    Ok(status)
                }
                read = &mut read => {
                    read?;
                    child.wait().await
                }
            }
        };
        tokio::time::timeout(deadline, whole).await
    };
    drop(group);
    let stderr = String::from_utf8_lossy(&err).trim_end().to_owned();
    match ended {
        Ok(Ok(status)) if status.success() => Ok(out),
        Ok(Ok(status)) => Err(ChildError::Failed { program, status, stderr }),
        Ok(Err(source)) => Err(ChildError::Read { program, source }),
        Err(_) => Err(ChildError::Deadline { program, deadline, stderr }),
    }
}

/// The process group of a child. A tool that is killed cannot end what it has started itself (apt-get's methods, for
/// instance), and one that ends may leave it running, so that is killed with it.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // All of the group may have ended in the meantime.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// Read `pipe` to its end and keep the first [`MAX_OUTPUT`] bytes; the rest is read too, so that the tool does not
/// wait for a reader.
async fn read_capped(
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Vec<u8>,
    mut report: impl FnMut(&[u8]),
) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 16 << 10];
    loop {
        let piece = match pipe.read(&mut buffer).await? {
            0 => return Ok(()),
            length => &buffer[..length],
        };
        report(piece);
        kept.extend_from_slice(&piece[..piece.len().min(MAX_OUTPUT - kept.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_is_given_back_and_reported() {
        let mut seen: Vec<u8> = Vec::new();
        let out = run_reporting(shell("echo one; echo two"), Duration::from_secs(10), |piece| seen.extend(piece)).await;
        assert_eq!(out.unwrap(), b"one\ntwo\n");
        assert_eq!(seen, b"one\ntwo\n");
    }

    #[tokio::test]
    async fn a_tool_that_prints_more_than_is_kept_still_ends() {
        let out = run(shell("head -c 9000000 /dev/zero"), Duration::from_secs(30)).await.unwrap();
        assert_eq!(out.len(), MAX_OUTPUT);
    }

    #[tokio::test]
    async fn stderr_and_status_stand_in_the_error() {
        let error = run(shell("echo reason >&2; exit 3"), Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3)");
        assert_eq!(error.details().as_deref(), Some("reason"));
    }

    /// Wait until the process whose number stands in `text` has gone.
    async fn has_gone(text: &[u8]) {
        let number = std::str::from_utf8(text).unwrap().trim();
        let state = || std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        for _ in 0..100 {
            // Gone, or a zombie that nobody has waited for yet.
            if state().split(' ').nth(2).is_none_or(|state| state == "Z") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("still there: {}", state());
    }

    #[tokio::test]
    async fn a_program_that_serves_the_guest_gets_no_secrets() {
        let mut command = shell("env");
        command.env("AWS_SECRET_ACCESS_KEY", "secret");
        without_environment(&mut command);
        let out = String::from_utf8(run(command, Duration::from_secs(10)).await.unwrap()).unwrap();
        let names: Vec<_> = out.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(names.contains(&"PATH"), "{out}");
        // The shell adds some of its own.
        let known = |name: &&str| KEPT.contains(name) || ["PWD", "OLDPWD", "SHLVL", "_"].contains(name);
        assert!(names.iter().all(known), "{out}");
    }

    #[tokio::test]
    async fn what_a_tool_has_started_ends_with_it() {
        let mut seen: Vec<u8> = Vec::new();
        let script = shell("sleep 60 & echo $!; wait");
        let run = run_reporting(script, Duration::from_millis(500), |piece| seen.extend(piece));
        assert!(matches!(run.await.unwrap_err(), ChildError::Deadline { .. }));
        has_gone(&seen).await;
    }

    #[tokio::test]
    async fn a_tool_that_leaves_something_behind_is_not_waited_for_longer() {
        let out = run(shell("sleep 60 & echo $!"), Duration::from_secs(20)).await.unwrap();
        has_gone(&out).await;
        let out = run(shell("sleep 60 >&- 2>&- & echo $!"), Duration::from_secs(20)).await.unwrap();
        has_gone(&out).await;
        let error = run(shell("sleep 60 & exit 3"), Duration::from_secs(20)).await.unwrap_err();
        assert!(matches!(error, ChildError::Failed { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_tool_is_killed_at_its_deadline() {
        let error = run(shell("sleep 60"), Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, ChildError::Deadline { .. }), "{error}");
    }
}
