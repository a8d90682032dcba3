//! `particle-vm check`

use super::options::variable;
use super::{EXIT_CODES, stdout};
use crate::error::{Classify, Result};
use crate::recipe;
use crate::ui::Ui;
use clap::Args;
use std::path::PathBuf;

/// Check recipes without building them
///
/// All that is wrong is reported together, each problem with its line and what to do about it. Nothing is started, and
/// no network is needed.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Check {
    /// The recipes
    #[arg(required = true)]
    pub recipes: Vec<PathBuf>,

    /// Set a variable of the recipes; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, String)>,
}

impl Check {
    /// Check them all.
    ///
    /// # Errors
    /// When standard output cannot be written to. Problems of a recipe are reported one recipe after the other.
    pub fn run(self, ui: &Ui) -> Result<u8> {
        let variables = self.set.into_iter().collect();
        let mut code = 0;
        for path in self.recipes {
            match recipe::load(&path, &variables) {
                Ok(recipe) => {
                    stdout::print(format!("{}: {} stages, no problem\n", path.display(), recipe.stages.len()))?
                }
                Err(findings) => {
                    code = findings.class().exit_code();
                    ui.report(&findings.into());
                }
            }
        }
        Ok(code)
    }
}
