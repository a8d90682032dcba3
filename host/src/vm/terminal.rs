//! What is typed into a command in the VM, and what it prints.

use super::printer::Printer;
use particle_vm_protocol::message::{INPUT_WINDOW, TerminalSize};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Which of a command's outputs a piece comes from. With a terminal there is only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The terminal, or standard output.
    Output,
    /// Standard error.
    Error,
}

/// Pieces of what is typed.
pub type Typed = mpsc::Receiver<Vec<u8>>;

/// Sizes of a terminal.
pub type Resized = mpsc::Receiver<TerminalSize>;

/// The user's side of a command in the VM.
pub struct Terminal<'a> {
    /// What is typed; it is the end of the input when it closes.
    pub input: Typed,
    /// New sizes of the terminal.
    pub resized: Resized,
    /// Takes what the command prints.
    pub output: &'a mut Printer,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

/// How much input the guest takes before it has read what it got.
#[derive(Debug)]
pub(super) struct Window {
    free: u64,
    waiting: VecDeque<Vec<u8>>,
    ended: bool,
}

impl Window {
    /// Of a guest that has got nothing yet.
    pub fn new() -> Self {
        Self { free: INPUT_WINDOW, waiting: VecDeque::new(), ended: false }
    }

    /// Whether more is to be asked of the user.
    pub fn is_open(&self) -> bool {
        !self.ended && self.waiting.is_empty() && self.free > 0
    }

    /// Take what the user typed.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
    }

    /// There is no more input.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The guest has read so many bytes.
    pub fn taken(&mut self, bytes: u64) {
        self.free = self.free.saturating_add(bytes).min(INPUT_WINDOW);
    }

    /// What may be sent now.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let free = usize::try_from(self.free).unwrap_or(usize::MAX);
        let first = self.waiting.front_mut().filter(|_| free > 0)?;
        let piece: Vec<u8> = first.drain(..first.len().min(free)).collect();
        if first.is_empty() {
            self.waiting.pop_front();
        }
        self.free -= piece.len() as u64;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_sent_than_the_guest_takes() {
        let mut window = Window::new();
        window.push(vec![7; INPUT_WINDOW as usize + 10]);
        assert_eq!(window.next().map(|piece| piece.len() as u64), Some(INPUT_WINDOW));
        assert!(window.next().is_none() && !window.is_open());
        window.taken(4);
        assert_eq!(window.next(), Some(vec![7; 4]));
        window.taken(u64::MAX);
        assert_eq!(window.next(), Some(vec![7; 6]));
        assert!(window.next().is_none() && window.is_open());
        window.end();
        assert!(!window.is_open());
    }
}
