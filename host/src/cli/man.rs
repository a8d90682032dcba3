//! `particle-vm man`

use super::{Cli, stdout};
use crate::error::{Class, Classify, Result};
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Print or write the man pages
///
/// Without --dir the page particle-vm(1) is printed: particle-vm man | man -l -
#[derive(Debug, Args)]
pub struct Man {
    /// Write all pages, one for each verb, into this folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The pages cannot be written.
#[derive(Debug, Error)]
#[error("cannot write the man pages to {}", .dir.display())]
pub struct ManError {
    dir: PathBuf,
    #[source]
    source: io::Error,
}

impl Classify for ManError {
    fn class(&self) -> Class {
        Class::Host
    }
}

impl Man {
    /// Print particle-vm(1), or write all pages.
    ///
    /// # Errors
    /// When standard output or the folder cannot be written to.
    pub fn run(self) -> Result<u8> {
        match self.dir {
            Some(dir) => std::fs::create_dir_all(&dir)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
                .map_err(|source| ManError { dir, source })?,
            None => {
                let mut page = Vec::new();
                Page::new(Cli::command()).render(&mut page).map_err(stdout::StdoutError::from)?;
                stdout::print(page)?;
            }
        }
        Ok(0)
    }
}
