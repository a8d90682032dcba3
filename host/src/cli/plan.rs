//! `particle-vm plan`

use super::input::Image;
use super::options::{Machine, Otherwise, Sources};
use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::engine::prepare;
use crate::error::Result;
use crate::ui::Ui;
use clap::Args;
use std::path::PathBuf;

/// Print what a build would do, as JSON
///
/// The stages with everything resolved, the disk with its partitions, what it takes of this machine, and the hosts that
/// the VM may reach. It takes the options of `build` that change any of that. Nothing is started.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Plan {
    /// The recipe, or the container image
    #[arg(value_name = "RECIPE|IMAGE")]
    pub what: PathBuf,

    /// What is said otherwise than in the recipe.
    #[command(flatten)]
    pub otherwise: Otherwise,

    /// What is said of a container image.
    #[command(flatten)]
    pub image: Image,

    /// The VM.
    #[command(flatten)]
    pub machine: Machine,

    /// The sources.
    #[command(flatten)]
    pub sources: Sources,
}

impl Plan {
    /// Print it to standard output.
    ///
    /// # Errors
    /// When something is wrong with the recipe, or no mirror is known.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let input = self.image.input(&self.what, &self.otherwise.set)?;
        let options = self.otherwise.options(input, &self.machine, &self.sources);
        let prepared = prepare(&options, &Dirs::new()?, ui.events()).await?;
        stdout::print_json(&prepared.planned)?;
        Ok(0)
    }
}
