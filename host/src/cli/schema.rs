//! `particle-vm schema`

use super::stdout;
use crate::error::Result;
use crate::recipe;
use clap::Args;

/// Print the JSON Schema of recipes
///
/// Editors check and complete recipes with it: particle-vm schema > particle-vm.schema.json, and as first line of the
/// recipe: # yaml-language-server: $schema=particle-vm.schema.json
#[derive(Debug, Args)]
pub struct Schema {}

impl Schema {
    /// Print it to standard output.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn run(self) -> Result<u8> {
        stdout::print_json(&recipe::schema())?;
        Ok(0)
    }
}
