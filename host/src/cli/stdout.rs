//! Writing to standard output.

use crate::error::{Class, Classify};
use std::io::{self, Write};
use thiserror::Error;

/// Standard output takes no more.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub struct StdoutError(#[from] io::Error);

impl Classify for StdoutError {
    fn class(&self) -> Class {
        Class::Host
    }
}

/// Write `value` as JSON for people and programs to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), StdoutError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    text.push(b'\n');
    print(text)
}

/// Write `text` to standard output. A reader that has gone away (`| head`) has seen what it wanted: no error.
///
/// # Errors
/// When it cannot be written for another reason, for instance a full disk.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(StdoutError(error)),
        _ => Ok(()),
    }
}
