//! The queue of frames for the host.
//!
//! Whatever sends a message only queues it; one thread writes the queue to the port. The queue's length is limited for
//! output, so that a command that writes faster than the host reads is held up as it would be by a pipe. Other messages
//! are few and pass at once, so that a heartbeat is answered however much output waits.

use crate::cancel::Cancel;
use particle_vm_protocol::{Failure, FailureKind, FromGuest, frame};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of waiting frames above which output has to wait.
const ROOM: usize = 1 << 20;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The writer has taken frames that are not in the port yet.
    writing: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between any two statements that hold the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queue a message. It goes out before any that is queued later.
    pub fn send(&self, message: &FromGuest) {
        let frame = frame::encode(message).or_else(|error| {
            // The host waits for this message; it must hear of it in any case.
            let message = format!("the agent made a message that cannot be sent\n{error}");
            let failure = Failure { kind: FailureKind::Agent, stage: None, message, output: Vec::new() };
            frame::encode(&FromGuest::Failed(failure))
        });
        match frame {
            Ok(frame) => {
                let mut queue = self.lock();
                queue.bytes += frame.len();
                queue.frames.push_back(frame);
                self.changed.notify_all();
            }
            Err(error) => eprintln!("particle-vm agent: a failure cannot be reported: {error}"),
        }
    }

    /// Wait until there is room for output, but no longer than to `deadline` and `cancel`; whoever calls checks these
    /// two anyway.
    pub fn wait_for_room(&self, deadline: Option<Instant>, cancel: &Cancel) {
        let mut queue = self.lock();
        while queue.bytes > ROOM && !cancel.is_set() {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            // The bound is for a cancel that is set between the check above and the wait.
            let wait = left.min(Duration::from_millis(500));
            queue = self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Wait until everything queued so far is in the port, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let done = |queue: &mut Queue| !queue.frames.is_empty() || queue.writing;
        drop(self.changed.wait_timeout_while(self.lock(), limit, done));
    }

    /// Write the queue to `port`, for ever.
    ///
    /// # Errors
    /// When the port cannot be written to any more.
    pub fn write_to(&self, mut port: impl Write) -> io::Result<()> {
        loop {
            let frames = {
                let empty = |queue: &mut Queue| queue.frames.is_empty();
                let mut queue = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
                queue.writing = true;
                std::mem::take(&mut queue.frames)
            };
            // Lines come in bursts; one write for a burst saves an exit to the host for each line.
            let burst: Vec<u8> = frames.into_iter().flatten().collect();
            port.write_all(&burst)?;
            let mut queue = self.lock();
            queue.bytes -= burst.len();
            queue.writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn output_waits_for_a_slow_host_and_a_pong_does_not() {
        let outbox = Outbox::default();
        let cancel = Cancel::new().unwrap();
        outbox.send(&FromGuest::Output { index: 0, line: "x".repeat(ROOM) });
        let before = Instant::now();
        outbox.wait_for_room(Some(before + Duration::from_millis(50)), &cancel);
        assert!(before.elapsed() >= Duration::from_millis(50));
        outbox.send(&FromGuest::Pong(1));
        assert_eq!(outbox.lock().frames.len(), 2);
        cancel.set();
        outbox.wait_for_room(None, &cancel);
    }

    #[test]
    fn a_message_that_is_too_long_becomes_a_failure() {
        let outbox = Outbox::default();
        outbox.send(&FromGuest::Terminal(vec![255; frame::MAX_FRAME]));
        let sent = outbox.lock().frames.pop_front().unwrap();
        let message: FromGuest = frame::decode(&sent[frame::PREFIX..]).unwrap();
        assert!(matches!(message, FromGuest::Failed(Failure { kind: FailureKind::Agent, .. })), "{message:?}");
    }

    #[test]
    fn a_flush_ends_when_all_is_written() {
        let outbox = Arc::new(Outbox::default());
        let (mut read, write) = io::pipe().unwrap();
        outbox.send(&FromGuest::Pong(1));
        let writer = Arc::clone(&outbox);
        thread::spawn(move || writer.write_to(write));
        outbox.flush(Duration::from_secs(10));
        let mut prefix = [0; frame::PREFIX];
        io::Read::read_exact(&mut read, &mut prefix).unwrap();
        assert_eq!(frame::body_length(prefix).unwrap(), b"{\"Pong\":1}".len());
    }
}
