//! A machine whose console is the user's terminal.

use super::machine::Machine;
use super::{BootConfig, BootError};
use crate::event::Events;
use crate::ui::terminal;
use crate::vm::{Printer, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The key that ends the machine, as the terminal sends it.
const ESCAPE: u8 = 0x1d;

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
    let (qmp, stderr, stop) = (&machine.qmp, &mut machine.stderr, &mut machine.stop);
    let (mut from, mut to) = machine.console.split();
    let mut piece = vec![0; 4096];
    loop {
        tokio::select! {
            read = from.read(&mut piece), if output.has_room() => match read {
                Ok(length @ 1..) => output.push(Stream::Output, piece[..length].to_vec()),
                // A console that breaks has ended.
                Ok(0) | Err(_) => break,
            },
            printed = output.room() => printed.map_err(BootError::Terminal)?,
            trouble = Machine::trouble(qmp, stderr, stop) => return Err(trouble),
            keys = input.recv() => {
                let Some(keys) = keys else { return Ok(()) };
                let (typed, end) = match keys.iter().position(|key| *key == ESCAPE) {
                    Some(at) => (&keys[..at], true),
                    None => (&keys[..], false),
                };
                // A machine that takes no more input has ended, which the other branch finds out.
                let _ = to.write_all(typed).await;
                if end {
                    return Ok(());
                }
            }
        }
    }
    output.finish().await.map_err(BootError::Terminal)?;
    machine.ended().await
}
