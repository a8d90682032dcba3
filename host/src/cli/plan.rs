//! `particle-vm plan`

use super::options::{Sources, variable};
use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::engine::{Options, prepare};
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;

/// Print what a build would do, as JSON
///
/// The stages with everything resolved, the disk with its partitions, what it takes of this machine, and the hosts that
/// the VM may reach. Nothing is started.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Plan {
    /// The recipe
    pub recipe: PathBuf,

    /// Set a variable of the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, String)>,

    /// The sources.
    #[command(flatten)]
    pub sources: Sources,
}

impl Plan {
    /// Print it to standard output.
    ///
    /// # Errors
    /// When something is wrong with the recipe, or no mirror is known.
    pub async fn run(self) -> Result<u8> {
        let options = Options {
            recipe: self.recipe,
            variables: self.set.into_iter().collect(),
            sources: self.sources.into(),
            ..Options::default()
        };
        let prepared = prepare(&options, &Dirs::new()?).await?;
        stdout::print_json(&prepared.planned)?;
        Ok(0)
    }
}
