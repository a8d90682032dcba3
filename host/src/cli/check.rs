//! `particle-vm check`

use super::options::variable;
use super::{EXIT_CODES, stdout};
use crate::error::{Error, Result};
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
    /// When a recipe has a problem. Those of several recipes are reported one after the other, and the last is given back.
    pub fn run(self, ui: &Ui) -> Result<u8> {
        let variables = self.set.into_iter().collect();
        let mut problem: Option<Error> = None;
        for path in self.recipes {
            match recipe::load(&path, &variables) {
                Ok(recipe) => {
                    let stages = match recipe.stages.len() {
                        1 => "1 stage".to_owned(),
                        count => format!("{count} stages"),
                    };
                    stdout::print(format!("{}: {stages}, no problem\n", path.display()))?
                }
                Err(findings) => {
                    if let Some(earlier) = problem.replace(findings.into()) {
                        ui.report(&earlier);
                    }
                }
            }
        }
        problem.map_or(Ok(0), Err)
    }
}
