//! A machine whose console is the user's terminal.

use super::machine::Machine;
use super::{BootConfig, BootError};
use crate::event::Events;
use crate::ui::terminal;
use crate::vm::{Printer, Stream};
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;

/// The key that ends the machine, as the terminal sends it.
const ESCAPE: u8 = 0x1d;

/// Bytes that are kept for a machine that does not read them; what is typed beyond is lost, as on any serial line.
const MOST_TYPED: usize = 64 << 10;

/// What people call that key.
pub const ESCAPE_NAME: &str = "Ctrl-]";

/// Start an image and connect its console with the terminal, until the machine powers itself off or
/// [`ESCAPE_NAME`] is pressed. Every other key goes to the machine, also Ctrl-C. The terminal gets its mode back
/// however this ends.
///
/// # Errors
/// When there is no terminal or the machine cannot be started.
pub async fn interact(config: &BootConfig, events: &Events) -> Result<(), BootError> {
    if !terminal::is_interactive() {
        return Err(BootError::NoTerminal);
    }
    let mut machine = Machine::start(config, false).await?;
    events.detail(format!("the machine runs; {ESCAPE_NAME} ends it"));
    let _raw = terminal::Raw::enter().map_err(BootError::Terminal)?;
    let (mut input, mut output) = (terminal::input(), Printer::standard());
    let trouble = Machine::trouble(&machine.qmp, &mut machine.stderr, &mut machine.stop);
    let end = relay(&mut machine.console, &mut input, &mut output, trouble).await?;
    if end == End::Left {
        return Ok(());
    }
    output.finish().await.map_err(BootError::Terminal)?;
    machine.ended().await
}

/// Whose end it was.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The user's.
    Left,
    /// The machine's.
    Console,
}

/// Carry keys to the console and its output to the terminal. Each way goes on while the other one is blocked: a machine
/// that reads no input can be ended all the same.
async fn relay(
    console: impl AsyncRead + AsyncWrite,
    input: &mut Receiver<Vec<u8>>,
    output: &mut Printer,
    trouble: impl Future<Output = BootError>,
) -> Result<End, BootError> {
    let (mut from, mut to) = tokio::io::split(console);
    let mut trouble = pin!(trouble);
    let mut piece = vec![0; 4096];
    // What the machine has not taken yet.
    let mut typed = Vec::new();
    loop {
        tokio::select! {
            read = from.read(&mut piece), if output.has_room() => match read {
                Ok(length @ 1..) => output.push(Stream::Output, piece[..length].to_vec()),
                // A console that breaks has ended.
                Ok(0) | Err(_) => return Ok(End::Console),
            },
            printed = output.room() => printed.map_err(BootError::Terminal)?,
            trouble = &mut trouble => return Err(trouble),
            written = to.write(&typed), if !typed.is_empty() => match written {
                Ok(length) => drop(typed.drain(..length)),
                // A machine that takes no more input has ended, which the first branch finds out.
                Err(_) => typed.clear(),
            },
            keys = input.recv() => match keys {
                Some(keys) if !keys.contains(&ESCAPE) => {
                    let room = MOST_TYPED.saturating_sub(typed.len());
                    typed.extend(keys.into_iter().take(room));
                }
                Some(_) | None => return Ok(End::Left),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(60);

    fn no_trouble() -> impl Future<Output = BootError> {
        std::future::pending()
    }

    #[tokio::test]
    async fn a_machine_that_reads_no_input_can_be_ended() {
        let (console, _machine) = tokio::io::duplex(16);
        let (keys, mut input) = mpsc::channel(1);
        let mut output = Printer::standard();
        let relay = relay(console, &mut input, &mut output, no_trouble());
        let type_ = async {
            // More than is kept, too.
            for _ in 0..=MOST_TYPED / 4096 {
                keys.send(vec![b'x'; 4096]).await.unwrap();
            }
            keys.send(vec![b'x', ESCAPE]).await.unwrap();
        };
        let (end, ()) = timeout(LONG, async { tokio::join!(relay, type_) }).await.unwrap();
        assert_eq!(end.unwrap(), End::Left);
    }

    #[tokio::test]
    async fn what_is_typed_arrives_in_its_order() {
        let (console, mut machine) = tokio::io::duplex(16);
        let (keys, mut input) = mpsc::channel(1);
        let mut output = Printer::standard();
        let relay = relay(console, &mut input, &mut output, no_trouble());
        let text = b"the quick brown fox jumps over the lazy dog".repeat(20);
        let talk = async {
            for piece in text.chunks(100) {
                keys.send(piece.to_vec()).await.unwrap();
            }
            let mut read = vec![0; text.len()];
            machine.read_exact(&mut read).await.unwrap();
            assert_eq!(read, text);
            // It powers itself off.
            drop(machine);
        };
        let (end, ()) = timeout(LONG, async { tokio::join!(relay, talk) }).await.unwrap();
        assert_eq!(end.unwrap(), End::Console);
    }
}
