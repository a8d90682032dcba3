//! What is settled before anything is started: recipe, mirror, plan, formats, folder of the outputs.

use super::host::{Sources, processors};
use crate::apt;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::output::Format;
use crate::plan::{HostFacts, Overrides, Planned, plan};
use crate::recipe::{self, Recipe};
use particle_vm_protocol::Stage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The recipe.
    pub recipe: PathBuf,
    /// Values of its variables.
    pub variables: BTreeMap<String, String>,
    /// Folder for the outputs, instead of `out/NAME`.
    pub output: Option<PathBuf>,
    /// Formats, instead of those of the recipe, unless empty.
    pub formats: Vec<Format>,
    /// Folder for the scratch disk, instead of the cache.
    pub work_dir: Option<PathBuf>,
    /// What of the plan is said otherwise.
    pub overrides: Overrides,
    /// Where the appliance and the packages come from.
    pub sources: Sources,
}

/// What is known of a build before anything is started.
#[derive(Debug)]
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// What the host knows beside it.
    pub facts: HostFacts,
    /// The plan, with the deadlines of an emulated VM.
    pub planned: Planned,
    /// Formats of the outputs.
    pub formats: Vec<Format>,
    /// Folder of the outputs.
    pub output: PathBuf,
}

/// Read the recipe and plan the build.
///
/// # Errors
/// When something is wrong with the recipe, or no mirror is known.
pub async fn prepare(options: &Options, dirs: &Dirs) -> Result<Prepared> {
    let recipe = recipe::load(&options.recipe, &options.variables)?;
    let mirror = match apt::named_mirror(options.sources.mirror.as_deref())? {
        Some(named) => Some(named),
        // A recipe that names its own needs none of the host.
        None if names_mirror(&recipe) => None,
        None => Some(apt::mirror(None, dirs).await?),
    };
    let facts = HostFacts { mirror, apt_conf: apt::settings().await?, emulated: true, cpus: processors() };
    let planned = plan(&recipe, &facts, &options.overrides)?;
    let formats = if options.formats.is_empty() { recipe.output.formats.clone() } else { options.formats.clone() };
    let output = options.output.clone().unwrap_or_else(|| default_output(&recipe.name));
    Ok(Prepared { recipe, facts, planned, formats, output })
}

/// Where the outputs of a recipe called `name` are put without `--output`.
pub fn default_output(name: &str) -> PathBuf {
    Path::new("out").join(name)
}

fn names_mirror(recipe: &Recipe) -> bool {
    recipe.stages.iter().any(|stage| matches!(&stage.stage, Stage::Debootstrap(options) if options.mirror.is_some()))
}
