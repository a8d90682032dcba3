//! Running a command to its end.

use super::{Command, ProcessError, Stdio, spawn};
use crate::cancel::Cancel;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the last output of killed processes is waited for.
const DRAIN: Duration = Duration::from_secs(10);

/// Most bytes of a standard output that are captured; what comes after them is dropped.
const MAX_CAPTURED: usize = 64 << 20;

/// What ends a command before it ends itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The host's wish.
    pub cancel: &'a Cancel,
    /// The end of its time.
    pub deadline: Option<Instant>,
}

/// Run `command` to its end. Its standard output and standard error come to `output`, merged; with `captured`, its
/// standard output goes there instead, up to 64 MiB.
///
/// # Errors
/// When it cannot be started, fails, is at its deadline or is cancelled. It and all it has started have ended then.
pub fn run(
    command: &Command,
    limits: Limits<'_>,
    captured: Option<&mut Vec<u8>>,
    output: &mut dyn FnMut(&[u8]),
) -> Result<(), ProcessError> {
    let begin = Instant::now();
    let killed_before = out_of_memory_kills();
    let (stdio, mut streams) = connect(command, captured, output)
        .map_err(|source| ProcessError::Spawn { command: command.to_string(), source })?;
    let spawned = spawn(command, stdio)?;
    let line = spawned.line().to_owned();
    let outcome = attend(spawned.pidfd().as_fd(), &mut streams, limits);
    // What it has left running holds the pipes open.
    let killed = spawned.kill();
    streams.drain(Instant::now() + DRAIN);
    let outcome = outcome
        .and_then(|outcome| killed.map(|()| outcome))
        .map_err(|source| ProcessError::Wait { command: line.clone(), source })?;
    let status = spawned.wait()?;
    match outcome {
        Outcome::Ended if status.success() => Ok(()),
        Outcome::Ended => {
            let out_of_memory = out_of_memory_kills().saturating_sub(killed_before);
            Err(ProcessError::Failed { command: line, status, out_of_memory })
        }
        Outcome::Deadline => Err(ProcessError::Deadline { command: line, after: begin.elapsed() }),
        Outcome::Cancelled => Err(ProcessError::Cancelled { command: line }),
    }
}

/// Why the attendance ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ended,
    Deadline,
    Cancelled,
}

/// Pass output on until the command, whose descriptor `pidfd` is, ends or has to end.
fn attend(pidfd: BorrowedFd<'_>, streams: &mut Streams<'_>, limits: Limits<'_>) -> io::Result<Outcome> {
    loop {
        if limits.cancel.is_set() {
            return Ok(Outcome::Cancelled);
        }
        let left = limits.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(Outcome::Deadline);
        }
        // The kernel's limit for the time is above 24 days.
        let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds =
            vec![PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(limits.cancel.as_fd(), PollFlags::POLLIN)];
        fds.extend(streams.open().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        streams.read(&ready[2..])?;
        if ready[0] {
            return Ok(Outcome::Ended);
        }
    }
}

/// The agent's ends of a command's output.
struct Streams<'a> {
    pipes: Vec<(Goal, PipeReader)>,
    captured: Option<&'a mut Vec<u8>>,
    output: &'a mut dyn FnMut(&[u8]),
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Goal {
    Output,
    Captured,
}

impl Streams<'_> {
    fn open(&self) -> impl Iterator<Item = &PipeReader> {
        self.pipes.iter().map(|(_, pipe)| pipe)
    }

    /// Read once from each pipe that is ready; forget those that have ended.
    fn read(&mut self, ready: &[bool]) -> io::Result<()> {
        let mut position = 0;
        let mut pipes = std::mem::take(&mut self.pipes);
        let mut result = Ok(());
        pipes.retain_mut(|(goal, pipe)| {
            let ready = ready.get(position).copied().unwrap_or(false);
            position += 1;
            if !ready {
                return true;
            }
            match pipe.read(&mut self.buffer) {
                Ok(0) => false,
                Ok(length) => {
                    let bytes = &self.buffer[..length];
                    match (*goal, self.captured.as_deref_mut()) {
                        (Goal::Captured, Some(captured)) => {
                            let room = MAX_CAPTURED.saturating_sub(captured.len());
                            captured.extend_from_slice(&bytes[..length.min(room)]);
                        }
                        _ => (self.output)(bytes),
                    }
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                Err(error) => {
                    result = Err(error);
                    false
                }
            }
        });
        self.pipes = pipes;
        result
    }

    /// Read what is left in the pipes of a command that has ended.
    fn drain(&mut self, deadline: Instant) {
        while !self.pipes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds: Vec<_> = self.open().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
            if !matches!(poll(&mut fds, timeout), Ok(1..)) {
                return;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            // A pipe that cannot be read has been forgotten.
            let _ = self.read(&ready);
        }
    }
}

/// The command's ends of its input and output, and ours.
fn connect<'a>(
    command: &Command,
    captured: Option<&'a mut Vec<u8>>,
    output: &'a mut dyn FnMut(&[u8]),
) -> io::Result<(Stdio, Streams<'a>)> {
    let (merged, stderr) = io::pipe()?;
    let mut pipes = vec![(Goal::Output, merged)];
    let stdout = if captured.is_some() {
        let (reader, writer) = io::pipe()?;
        pipes.push((Goal::Captured, reader));
        writer
    } else {
        stderr.try_clone()?
    };
    let stdio = Stdio { stdin: input(command)?, stdout: stdout.into(), stderr: stderr.into(), terminal: false };
    Ok((stdio, Streams { pipes, captured, output, buffer: vec![0; 64 << 10] }))
}

/// A descriptor to read the input from. Bytes are in a file in memory, because a pipe would have to be written to while
/// the command runs.
fn input(command: &Command) -> io::Result<OwnedFd> {
    if let Some(stdin) = &command.stdin {
        return stdin.try_clone();
    }
    let bytes = &command.input;
    if bytes.is_empty() {
        return Ok(File::open("/dev/null")?.into());
    }
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// How many processes the kernel has killed for want of memory since it runs. Whether this is one of the command's own
/// does not matter: nothing else runs here.
fn out_of_memory_kills() -> u64 {
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::cgroup::Cgroup;
    use crate::process::reaper;
    use std::thread;

    /// Far longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_cancel_ends_the_attendance_at_once() {
        let cancel = Cancel::new().unwrap();
        let (pid, pidfd) = reaper::spawn(std::process::Command::new("sleep").arg("600")).unwrap();
        let mut ignore = |_: &[u8]| {};
        let mut streams = Streams { pipes: Vec::new(), captured: None, output: &mut ignore, buffer: Vec::new() };
        let limits = Limits { cancel: &cancel, deadline: Some(Instant::now() + LONG) };
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                cancel.set();
            });
            attend(pidfd.as_fd(), &mut streams, limits).unwrap()
        });
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        reaper::wait(pid).unwrap();
        assert_eq!(outcome, Outcome::Cancelled);
    }

    /// Whether the process is there and no zombie.
    fn lives(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    #[test]
    fn a_cancelled_command_ends_with_all_that_it_has_started() {
        if let Err(error) = Cgroup::new() {
            return eprintln!("not run: this user cannot make a control group here: {error}");
        }
        let cancel = Cancel::new().unwrap();
        // One of them in a session of its own, which no signal to a group of processes would reach.
        let script = "sleep 600 & echo $!; setsid sleep 600 & echo $!; echo $$; wait";
        let command = Command::new("sh").args(["-c", script]);
        let limits = Limits { cancel: &cancel, deadline: Some(Instant::now() + LONG) };
        let mut seen = Vec::new();
        let ended = run(&command, limits, None, &mut |bytes| {
            seen.extend_from_slice(bytes);
            if seen.iter().filter(|byte| **byte == b'\n').count() == 3 {
                cancel.set();
            }
        });
        assert!(
            matches!(&ended, Err(ProcessError::Cancelled { command }) if command.contains("sleep 600")),
            "{ended:?}"
        );
        let seen = String::from_utf8(seen).unwrap();
        assert_eq!(seen.lines().count(), 3, "{seen}");
        for pid in seen.lines() {
            assert!(!lives(pid), "{pid} of {seen}");
        }
    }
}
