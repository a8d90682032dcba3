//! A command in a VM with the user's terminal, or with this process's standard streams.

use crate::error::{Class, Classify, Result};
use crate::ui::{Ui, terminal};
use crate::vm::{Printer, Session, Terminal, VmError};
use particle_vm_protocol::message::{Exec, Inside};
use std::io;
use thiserror::Error;

/// Why the terminal cannot be used.
#[derive(Debug, Error)]
pub enum AttachError {
    /// There is none.
    #[error("a shell needs a terminal on standard input and standard output")]
    NoTerminal,
    /// It cannot be set to raw mode.
    #[error("cannot set the terminal to raw mode")]
    Raw(#[source] io::Error),
    /// Its changes of size cannot be followed.
    #[error("cannot follow the size of the terminal")]
    Resize(#[source] io::Error),
}

impl Classify for AttachError {
    fn class(&self) -> Class {
        match self {
            Self::NoTerminal => Class::Usage,
            Self::Raw(_) | Self::Resize(_) => Class::Host,
        }
    }
}

/// Run `argv`, or a login shell when it is empty, and give its exit code.
///
/// # Errors
/// When the terminal cannot be used or the VM fails.
pub async fn attach(session: &mut Session, argv: Vec<String>, inside: Inside, ui: &Ui) -> Result<u8> {
    ui.settle().await;
    let interactive = terminal::is_interactive();
    let resized = terminal::resizes().map_err(AttachError::Resize)?;
    let exec = Exec {
        argv,
        terminal: interactive.then(terminal::size),
        term: std::env::var("TERM").ok().filter(|_| interactive),
        inside,
    };
    let _raw = if interactive { Some(terminal::Raw::enter().map_err(AttachError::Raw)?) } else { None };
    let mut output = Printer::standard();
    let terminal = Terminal { input: terminal::input(), resized, output: &mut output };
    let ended = session.exec(exec, terminal).await;
    // In raw mode, and before whatever is told of the end.
    let printed = output.finish().await.map_err(VmError::Output);
    let code = ended?;
    printed?;
    // Whatever the guest says: an exit code has eight bits.
    Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
