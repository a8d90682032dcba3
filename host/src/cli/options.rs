//! Options that several verbs share.

use crate::engine;
use clap::Args;
use std::path::PathBuf;

/// Where the appliance and the packages come from.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sources")]
pub struct Sources {
    /// Debian mirror for the appliance, and for the image where its recipe names none
    ///
    /// Without it, the mirror of this machine's own apt sources.
    #[arg(long, value_name = "URL", env = "PARTICLE_VM_MIRROR")]
    pub mirror: Option<String>,

    /// Appliance to use: a folder, or an archive made by `appliance export`
    ///
    /// Without it, the one that belongs to this version; it is built on first use.
    #[arg(long, value_name = "PATH", env = "PARTICLE_VM_APPLIANCE")]
    pub appliance: Option<PathBuf>,
}

impl From<Sources> for engine::Sources {
    fn from(sources: Sources) -> Self {
        Self { mirror: sources.mirror, appliance: sources.appliance }
    }
}

/// A variable of a recipe, `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("`{text}` sets no variable: write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=x").is_err());
    }
}
