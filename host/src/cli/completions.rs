//! `particle-vm completions`

use super::{Cli, stdout};
use crate::error::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completions for a shell
///
/// For bash: particle-vm completions bash > ~/.local/share/bash-completion/completions/particle-vm
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

impl Completions {
    /// Print them to standard output.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn run(self) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "particle-vm", &mut script);
        stdout::print(script)?;
        Ok(0)
    }
}
