//! Why it cannot be known what stages follow from.

use crate::error::{Class, Classify};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A file of the recipe's folder cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {}", .path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Classify for FileError {
    fn class(&self) -> Class {
        Class::Usage
    }
}
