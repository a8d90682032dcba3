//! The user's terminal, when a shell in a VM takes it over.

use nix::sys::termios::{self, InputFlags, LocalFlags, OutputFlags, SetArg, Termios};
use particle_vm_protocol::message::TerminalSize;
use std::io::{self, IsTerminal, Read};
use std::os::fd::RawFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use vmm_sys_util::terminal::Terminal;

/// Most bytes of one message.
const PIECE: usize = 4096;

/// The terminal on standard input. Not its lock: the thread that reads holds that while it waits for a key.
struct Keyboard;

// SAFETY: descriptor 0 is standard input as long as the process lives.
unsafe impl Terminal for Keyboard {
    fn tty_fd(&self) -> RawFd {
        libc::STDIN_FILENO
    }
}

/// The terminal in raw mode: every key goes to the guest, also Ctrl-C. Dropping it restores what was before.
#[derive(Debug)]
pub struct Raw(Termios);

impl Raw {
    /// Set the terminal on standard input to raw mode.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        // From here on whatever happens restores it.
        let raw = Self(termios::tcgetattr(&stdin)?);
        Keyboard.set_raw_mode()?;
        // What is left to the host by that: Ctrl-S and Ctrl-Q, Ctrl-V, Enter as a line feed, and line feeds that return
        // to the first column, which programs on a whole screen do not expect.
        let mut settings = termios::tcgetattr(&stdin)?;
        settings.input_flags &= !(InputFlags::IXON | InputFlags::ICRNL | InputFlags::INLCR | InputFlags::IGNCR);
        settings.input_flags &= !(InputFlags::ISTRIP | InputFlags::BRKINT);
        settings.local_flags &= !LocalFlags::IEXTEN;
        settings.output_flags &= !OutputFlags::OPOST;
        termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &settings)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Not when all that was printed has been shown: a terminal that shows nothing any more would be waited for. There
        // is nobody left to tell.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Whether a person sits at standard input and standard output.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of the terminal.
pub fn size() -> TerminalSize {
    let (rows, columns) = console::Term::stdout().size();
    TerminalSize { rows, columns }
}

/// What comes on standard input, piece by piece; the channel closes at its end.
///
/// A thread of its own reads, because a read of a terminal or a pipe cannot be ended: this one dies with the process,
/// where the runtime would wait for a blocking task. It reads a piece ahead at most.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin();
        let mut piece = [0; PIECE];
        loop {
            match stdin.read(&mut piece) {
                Ok(0) => return,
                Ok(length) if sender.blocking_send(piece[..length].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// The sizes that the terminal gets from now on.
///
/// # Errors
/// When the signal that tells about them cannot be caught.
pub fn resizes() -> io::Result<mpsc::Receiver<TerminalSize>> {
    let (sender, receiver) = mpsc::channel(1);
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move { while changes.recv().await.is_some() && sender.send(size()).await.is_ok() {} });
    Ok(receiver)
}
