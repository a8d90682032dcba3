//! Running the command under test on a terminal of its own, as a person would.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Rows and columns of the terminal.
pub const SIZE: (u16, u16) = (40, 120);

/// A command on a terminal; what it shows is read as it comes.
#[derive(Debug)]
pub struct OnTerminal {
    child: Child,
    /// Where keys are typed.
    keys: File,
    /// The command's side. While it is open the terminal keeps its settings.
    terminal: OwnedFd,
    pieces: Receiver<Vec<u8>>,
    shown: Vec<u8>,
    /// Up to where [`Self::wait_for`] has looked.
    seen: usize,
    started: Instant,
}

/// How a command on a terminal ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; 128 + signal for a command that a signal ended.
    pub code: i32,
    /// All that was shown, with control sequences.
    pub shown: String,
    /// The terminal's settings after the end.
    pub settings: Termios,
    /// How long it ran.
    pub took: Duration,
}

impl OnTerminal {
    /// Start `command` with a new terminal as its standard input, output and error.
    pub fn start(mut command: Command) -> Self {
        let size = Winsize { ws_row: SIZE.0, ws_col: SIZE.1, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        // Not for the commands that other tests start meanwhile.
        for side in [&pair.master, &pair.slave] {
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let stdio = || Stdio::from(pair.slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(stdio()).stdout(stdio()).stderr(stdio());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let keys = File::from(pair.master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // The read fails when nobody has the other side open any more.
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                if sender.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, terminal: pair.slave, pieces, shown: Vec::new(), seen: 0, started: Instant::now() }
    }

    /// The terminal's settings as they are now.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    /// Wait until the terminal shows `text`, after what was waited for before.
    ///
    /// # Panics
    /// When the time is over before.
    pub fn wait_for(&mut self, text: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            let unseen = &self.shown[self.seen..];
            if let Some(at) = unseen.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            match self.pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.shown.extend(piece),
                Err(reason) => panic!("no {text:?} ({reason}); the terminal shows:\n{}", self.text()),
            }
        }
    }

    /// Press keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Send a signal to the process.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Wait for the end.
    ///
    /// # Panics
    /// When it has not ended at the deadline; the process is killed then.
    pub fn finish(mut self, deadline: Duration) -> Ended {
        let end = Instant::now() + deadline;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "still running after {} s; it shows:\n{}", deadline.as_secs(), self.text());
            match self.pieces.recv_timeout(Duration::from_millis(20)) {
                Ok(piece) => self.shown.extend(piece),
                // A reader that has gone means that nobody writes any more.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(20)),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let (took, settings) = (self.started.elapsed(), self.settings());
        // What is still on its way has come within this time: the writer has ended.
        while let Ok(piece) = self.pieces.recv_timeout(Duration::from_millis(200)) {
            self.shown.extend(piece);
        }
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ended { code, shown: self.text(), settings, took }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // A test that fails half-way must not leave its command behind for the others.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Assert the exit code.
    ///
    /// # Panics
    /// When it is another.
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; the terminal shows:\n{}", self.shown);
        self
    }
}
