//! What is built, for the verbs that only tell of it.

use super::input::Image;
use super::options::{Machine, Otherwise, Sources};
use crate::dirs::Dirs;
use crate::engine::{Options, Prepared, prepare};
use crate::error::Result;
use crate::ui::Ui;
use clap::Args;
use std::path::PathBuf;

/// A recipe or a container image, with the options of `build` that change what is made of it.
#[derive(Debug, Args)]
pub struct Subject {
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

impl Subject {
    /// What a build of it goes by, and what is known before anything is started.
    ///
    /// # Errors
    /// When something is wrong with the recipe, or no mirror is known.
    pub async fn prepare(&self, dirs: &Dirs, ui: &Ui) -> Result<(Options, Prepared)> {
        let input = self.image.input(&self.what, &self.otherwise.set)?;
        let options = self.otherwise.options(input, &self.machine, &self.sources);
        let prepared = prepare(&options, dirs, ui.events()).await?;
        Ok((options, prepared))
    }
}
