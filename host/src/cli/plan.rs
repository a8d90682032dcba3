//! `particle-vm plan`

use super::subject::Subject;
use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::ui::Ui;
use clap::Args;

/// Print what a build would do, as JSON
///
/// The stages with everything resolved, the disk with its partitions, what it takes of this machine, and the hosts that
/// the VM may reach. It takes the options of `build` that change any of that. Nothing is started.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Plan {
    /// What is built.
    #[command(flatten)]
    pub subject: Subject,
}

impl Plan {
    /// Print it to standard output.
    ///
    /// # Errors
    /// When something is wrong with the recipe, or no mirror is known.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let (_, prepared) = self.subject.prepare(&Dirs::new()?, ui).await?;
        stdout::print_json(&prepared.planned)?;
        Ok(0)
    }
}
