//! What the guest's kernel writes to its serial console, and QEMU to its standard error.

use crate::clean;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long what a dead process has written may take to arrive.
pub const AFTERMATH: Duration = Duration::from_millis(500);

/// Most bytes that are kept.
const CAPACITY: usize = 64 << 10;

/// Most lines that an error report shows.
const TAIL_LINES: usize = 40;

/// The last bytes that came from a console or from a process' standard error. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Keep what `source` gives, until its end.
    pub async fn follow(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 4096];
        // A source that breaks is the same as one that ends: what was read so far is all there is.
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            self.push(&buffer[..length]);
        }
    }

    /// Keep `bytes`, and forget as many old ones as are too many.
    pub fn push(&self, bytes: &[u8]) {
        let mut ring = self.lock();
        let bytes = &bytes[bytes.len().saturating_sub(CAPACITY)..];
        let surplus = (ring.len() + bytes.len()).saturating_sub(CAPACITY);
        ring.drain(..surplus);
        ring.extend(bytes);
    }

    /// The last lines, invalid UTF-8 replaced, without empty lines and without what would steer a terminal.
    pub fn text(&self) -> String {
        last_lines(&self.whole())
    }

    /// For the last line that holds `mark`: what follows the mark there, and the last lines up to it.
    pub fn up_to(&self, mark: &str) -> Option<(String, String)> {
        let whole = self.whole();
        let start = whole.rfind(mark)?;
        let end = whole[start..].find('\n').map_or(whole.len(), |length| start + length);
        Some((clean::line(whole[start + mark.len()..end].trim()).into_owned(), last_lines(&whole[..end])))
    }

    fn whole(&self) -> String {
        let bytes: Vec<u8> = self.lock().iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        // A push that panicked half-way leaves bytes that are as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process or a guest writes, and the task that reads it.
#[derive(Debug)]
pub struct Followed {
    /// What was read so far.
    pub tail: Tail,
    reader: JoinHandle<()>,
}

impl Followed {
    /// Read `source` to its end, in a task of its own.
    pub fn new(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let tail = Tail::default();
        let reader = tokio::spawn(tail.clone().follow(source));
        Self { tail, reader }
    }

    /// The last lines, after the source has ended, or not much later.
    pub async fn finished(&mut self) -> String {
        if !self.reader.is_finished() {
            // What arrived until then is what there is.
            let _ = timeout(AFTERMATH, &mut self.reader).await;
        }
        self.text()
    }

    /// The last lines so far.
    pub fn text(&self) -> String {
        self.tail.text()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(clean::line).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more() {
        let tail = Tail::default();
        for number in 0..20_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        assert!(tail.lock().len() <= CAPACITY);
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert_eq!(text.lines().last(), Some("line 19999"));
    }

    #[test]
    fn a_piece_that_is_longer_than_the_ring_leaves_its_end() {
        let tail = Tail::default();
        tail.push(&vec![b'x'; CAPACITY]);
        let mut long = vec![b'y'; 3 * CAPACITY];
        long.extend(b"\nend\xff\r\n\n");
        tail.push(&long);
        assert_eq!(tail.lock().len(), CAPACITY);
        assert_eq!(tail.text().lines().last(), Some("end\u{fffd}"));
    }

    #[tokio::test]
    async fn a_source_is_followed_to_its_end() {
        let tail = Tail::default();
        tail.clone().follow(&b"one\ntwo"[..]).await;
        assert_eq!(tail.text(), "one\ntwo");
    }

    #[test]
    fn a_marked_line_is_found_behind_many_others() {
        let tail = Tail::default();
        tail.push(b"[ 1.0] BUG: here\n[ 1.1] Kernel panic - not syncing: Fatal exception\r\n");
        for number in 0..100 {
            tail.push(format!("[ 1.2] frame {number}\n").as_bytes());
        }
        let (rest, before) = tail.up_to("not syncing: ").unwrap();
        assert_eq!(rest, "Fatal exception");
        assert_eq!(before, "[ 1.0] BUG: here\n[ 1.1] Kernel panic - not syncing: Fatal exception");
        assert_eq!(tail.up_to("no such"), None);
    }

    #[test]
    fn what_would_steer_a_terminal_is_taken_out() {
        let tail = Tail::default();
        tail.push(b"\x1b[2Jone\nKernel panic: \x1b]0;title\x07two\r\n");
        assert_eq!(tail.text(), "one\nKernel panic: two");
        assert_eq!(tail.up_to("panic: ").unwrap().0, "two");
    }
}
