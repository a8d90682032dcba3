//! Running the command under test, with a deadline.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A command that runs; what it writes is read as it comes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<Line>,
    seen: Vec<Line>,
    started: Instant,
}

/// A line and where it came from.
#[derive(Debug, Clone)]
enum Line {
    Out(String),
    Err(String),
}

impl Line {
    fn text(&self) -> &str {
        let (Self::Out(text) | Self::Err(text)) = self;
        text
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; 128 + signal for a command that a signal ended.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Running {
    /// Start `command` in a process group of its own, with closed stdin.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        let other = sender.clone();
        std::thread::spawn(move || read_lines(out, |line| other.send(Line::Out(line)).is_ok()));
        std::thread::spawn(move || read_lines(err, |line| sender.send(Line::Err(line)).is_ok()));
        Self { child, lines, seen: Vec::new(), started: Instant::now() }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Wait for a line that contains `text`.
    ///
    /// # Panics
    /// When the command ends, or the time is over, before it writes such a line.
    pub fn wait_for(&mut self, text: &str, deadline: Duration) -> String {
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.text().contains(text) {
                        return line.text().to_owned();
                    }
                }
                Err(reason) => panic!("no line with {text:?} ({reason}); it wrote:\n{}", self.written()),
            }
        }
    }

    /// Send a signal to the process alone, not to its group.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Wait for the end.
    ///
    /// # Panics
    /// When it has not ended at the deadline; the process is killed then.
    pub fn finish(mut self, deadline: Duration) -> Outcome {
        let end = Instant::now() + deadline;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("still running after {} s; it wrote:\n{}", deadline.as_secs(), self.written());
                }
            }
        }
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = |out: bool| {
            let lines = self.seen.iter().filter(|line| matches!(line, Line::Out(_)) == out);
            lines.map(|line| format!("{}\n", line.text())).collect::<String>()
        };
        Outcome { code, stdout: text(true), stderr: text(false), took: self.started.elapsed() }
    }

    fn written(&self) -> String {
        self.seen.iter().map(|line| format!("{}\n", line.text())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails half-way must not leave its command behind for the others.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Assert the exit code.
    ///
    /// # Panics
    /// When it is another.
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Assert that stderr contains each of `texts`, on one line or wrapped as findings are.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn says(self, texts: &[&str]) -> Self {
        // Where a line ends depends on the length of the paths in it.
        let unwrapped = self.stderr.replace("\n  | ", " ");
        for text in texts {
            let is_there = self.stderr.contains(text) || unwrapped.contains(text);
            assert!(is_there, "no {text:?} in stderr:\n{}", self.stderr);
        }
        self
    }
}

fn read_lines(pipe: impl Read, mut tell: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        line.clear();
        if !tell(text) {
            return;
        }
    }
}
