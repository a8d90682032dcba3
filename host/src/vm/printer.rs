//! What a machine prints, on its way to this process's standard output and standard error.
//!
//! Whoever reads them may take its time, or never read at all. A thread of its own waits for it: the runtime has one
//! thread, on which signals, heartbeats and downloads have to go on.

use super::terminal::Stream;
use std::io::{self, Write};
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait for the thread. Each is at most as long as a message of the guest.
const WAITING: usize = 16;

type Piece = (Stream, Vec<u8>);

/// Prints from a thread of its own. It takes no more than it gets rid of, so that whoever prints can be held up.
#[derive(Debug)]
pub struct Printer {
    sender: mpsc::Sender<Piece>,
    /// What the queue has no room for.
    waiting: Option<Piece>,
    /// How the thread ended; None when that has been told.
    ended: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Printer {
    /// Print to standard output and standard error.
    pub fn standard() -> Self {
        Self::over(io::stdout(), io::stderr())
    }

    /// Print to `output` and `error`.
    fn over(mut output: impl Write + Send + 'static, mut error: impl Write + Send + 'static) -> Self {
        let (sender, mut pieces) = mpsc::channel::<Piece>(WAITING);
        let (end, ended) = oneshot::channel();
        // Not a blocking task: the runtime would wait for its end, and a write cannot be ended.
        std::thread::spawn(move || {
            let mut print = || -> io::Result<()> {
                while let Some((stream, bytes)) = pieces.blocking_recv() {
                    let to: &mut dyn Write = match stream {
                        Stream::Output => &mut output,
                        Stream::Error => &mut error,
                    };
                    to.write_all(&bytes)?;
                    to.flush()?;
                }
                Ok(())
            };
            // When nobody waits for it, nobody wants to know.
            let _ = end.send(print());
        });
        Self { sender, waiting: None, ended: Some(ended) }
    }

    /// Whether [`Self::push`] may be called.
    pub fn has_room(&self) -> bool {
        self.waiting.is_none()
    }

    /// Print `bytes` when it is their turn.
    pub fn push(&mut self, stream: Stream, bytes: Vec<u8>) {
        self.waiting = match self.sender.try_send((stream, bytes)) {
            Err(mpsc::error::TrySendError::Full(piece)) => Some(piece),
            // Why the thread has ended is told by the other methods.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        };
    }

    /// Wait for room; never ready while there is some. Can be dropped and called again.
    ///
    /// # Errors
    /// At once, when a stream takes no more.
    pub async fn room(&mut self) -> io::Result<()> {
        let Self { sender, waiting, ended } = self;
        let Some(end) = ended else { return std::future::pending().await };
        tokio::select! {
            Ok(permit) = sender.reserve(), if waiting.is_some() => {
                if let Some(piece) = waiting.take() {
                    permit.send(piece);
                }
                Ok(())
            }
            result = end => {
                (*waiting, *ended) = (None, None);
                told(result)
            }
        }
    }

    /// Wait until everything is printed.
    ///
    /// # Errors
    /// When a stream takes no more, unless that has been told.
    pub async fn finish(mut self) -> io::Result<()> {
        while !self.has_room() {
            self.room().await?;
        }
        let Self { sender, ended, .. } = self;
        drop(sender);
        match ended {
            Some(end) => told(end.await),
            None => Ok(()),
        }
    }
}

/// How the thread ended; one that panicked prints no more.
fn told(end: Result<io::Result<()>, oneshot::error::RecvError>) -> io::Result<()> {
    end.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;
    use tokio::time::timeout;

    /// More than the queue and a pipe hold.
    const PIECES: usize = 64;

    fn piece() -> Vec<u8> {
        vec![b'y'; 64 << 10]
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_up_nothing_else() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut printer = Printer::over(writer, io::sink());
        let wait = Duration::from_millis(500);
        let mut printed = 0;
        loop {
            if printer.has_room() {
                printer.push(Stream::Output, piece());
                printed += 1;
                assert!(printed < PIECES);
            } else if let Ok(room) = timeout(wait, printer.room()).await {
                room.unwrap();
            } else {
                break;
            }
        }
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all)
        });
        while printed < PIECES {
            if printer.has_room() {
                printer.push(Stream::Output, piece());
                printed += 1;
            } else {
                printer.room().await.unwrap();
            }
        }
        // The end of it too.
        printer.finish().await.unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), PIECES * piece().len());
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut printer = Printer::over(io::sink(), writer);
        printer.push(Stream::Output, piece());
        printer.push(Stream::Error, piece());
        let error = timeout(Duration::from_secs(60), printer.room()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // Once is enough.
        printer.finish().await.unwrap();

        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut printer = Printer::over(writer, io::sink());
        printer.push(Stream::Output, piece());
        assert_eq!(printer.finish().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
