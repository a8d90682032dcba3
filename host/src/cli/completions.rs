//! `particle-vm completions`

use super::{Global, Verb, stdout};
use crate::error::Result;
use clap::{Args, Command, Subcommand};
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
        // Without what is started by particle-vm alone: some shells would offer it though it is hidden.
        let mut verbs = Verb::augment_subcommands(Global::augment_args(Command::new("particle-vm")));
        verbs = verbs.version(env!("CARGO_PKG_VERSION"));
        clap_complete::generate(self.shell, &mut verbs, "particle-vm", &mut script);
        stdout::print(script)?;
        Ok(0)
    }
}
