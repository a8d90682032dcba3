//! What is settled before anything is started: recipe, mirror, plan, formats, folder of the outputs.

use super::EngineError;
use super::base::Fetched;
use super::host::{Sources, processors};
use crate::apt;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::Events;
use crate::output::{Format, Layout, Others, space};
use crate::plan::{HostFacts, Overrides, Planned, plan};
use crate::recipe::blueprint::Order;
use crate::recipe::{self, Findings, Recipe};
use crate::signing::{SigningError, SigningKey};
use crate::source;
use particle_vm_protocol::Stage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is built.
#[derive(Debug, Clone)]
pub enum Input {
    /// The recipe in this file.
    Recipe(PathBuf),
    /// The disks of a container image.
    Image(Order),
}

impl Input {
    /// How it was named.
    pub fn name(&self) -> String {
        match self {
            Self::Recipe(path) => path.display().to_string(),
            Self::Image(order) => order.image.clone(),
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::Recipe(PathBuf::new())
    }
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is built.
    pub input: Input,
    /// Values of the recipe's variables.
    pub variables: BTreeMap<String, String>,
    /// Folder for the outputs, instead of `out/NAME`.
    pub output: Option<PathBuf>,
    /// Formats, instead of those of the recipe, unless empty.
    pub formats: Vec<Format>,
    /// What becomes of another recipe's outputs in that folder.
    pub others: Others,
    /// Where in that folder the images lie.
    pub layout: Layout,
    /// Folder for the scratch disk, instead of the cache.
    pub work_dir: Option<PathBuf>,
    /// What of the plan is said otherwise.
    pub overrides: Overrides,
    /// Where the appliance and the packages come from.
    pub sources: Sources,
    /// File with the key that signs what is made.
    pub sign: Option<PathBuf>,
    /// How a container image is fetched.
    pub images: source::Options,
    /// What becomes of what earlier builds have made of the same stages.
    pub reuse: Reuse,
    /// Most bytes that the store may hold when the build has ended.
    pub cache_bytes: Option<u64>,
}

/// What becomes of what earlier builds have made of the same stages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reuse {
    /// All of it is taken over.
    #[default]
    All,
    /// That before the stage of this number or name is.
    Before(String),
    /// None is, and none is kept for later ones.
    Nothing,
}

/// What is known of a build before anything is started.
#[derive(Debug)]
pub struct Prepared {
    /// The recipe.
    pub recipe: Recipe,
    /// The container image that it starts from.
    pub base: Option<Fetched>,
    /// What the host knows beside it.
    pub facts: HostFacts,
    /// The plan, with the deadlines of an emulated VM.
    pub planned: Planned,
    /// Formats of the outputs.
    pub formats: Vec<Format>,
    /// Folder of the outputs.
    pub output: PathBuf,
    /// What they are signed with.
    pub key: Option<Arc<SigningKey>>,
}

/// Read the recipe and plan the build.
///
/// # Errors
/// When something is wrong with the recipe, or no mirror is known.
pub async fn prepare(options: &Options, dirs: &Dirs, events: &Events) -> Result<Prepared> {
    let mut recipe = match &options.input {
        Input::Recipe(path) => recipe::load(path, &options.variables)?,
        Input::Image(order) => recipe::blueprint::load(order)?,
    };
    recipe.check_formats(&options.formats)?;
    if !options.formats.is_empty() {
        recipe.output.formats = options.formats.clone();
    }
    let key = options.sign.as_deref().map(|path| key(path, &recipe)).transpose()?;
    let output = options.output.clone().unwrap_or_else(|| default_output(&recipe.name));
    let work_dir = options.work_dir.clone().unwrap_or_else(|| dirs.work());
    apart(&recipe, &[(&output, "--output"), (&work_dir, "--work-dir")])?;
    let base = Fetched::of(&mut recipe, &options.images, dirs, events).await?;
    let mirror = match apt::named_mirror(options.sources.mirror.as_deref())? {
        Some(named) => Some(named),
        // A recipe that names its own needs none of the host, nor does one that fetches no packages.
        None if names_mirror(&recipe) || !takes_mirror(&recipe) => None,
        None => Some(apt::mirror(None, dirs).await?),
    };
    let facts = HostFacts {
        mirror,
        apt_conf: apt::settings().await?,
        emulated: true,
        cpus: processors(),
        base: base.as_ref().map(|base| base.facts.clone()),
        source_date: source_date()?,
    };
    let planned = plan(&recipe, &facts, &options.overrides)?;
    let formats = recipe.output.formats.clone();
    Ok(Prepared { recipe, base, facts, planned, formats, output, key })
}

/// The key in a file, for an output that is signed.
fn key(path: &Path, recipe: &Recipe) -> Result<Arc<SigningKey>> {
    let key = SigningKey::load(path)?;
    if recipe.output.formats.contains(&Format::OstreeRepo) {
        Ok(Arc::new(key))
    } else {
        Err(SigningError::Nothing.into())
    }
}

/// `SOURCE_DATE_EPOCH` of the environment (reproducible-builds.org, "SOURCE_DATE_EPOCH specification").
///
/// # Errors
/// When it is no number of seconds that a date can be made of.
fn source_date() -> Result<Option<u64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()) else { return Ok(None) };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    let date = seconds.filter(|seconds| jiff::Timestamp::from_second(*seconds).is_ok());
    let date = date.and_then(|seconds| u64::try_from(seconds).ok());
    date.map(Some).ok_or_else(|| EngineError::SourceDate { value: value.to_string_lossy().into_owned() }.into())
}

/// Where the outputs of a recipe called `name` are put without `--output`.
pub fn default_output(name: &str) -> PathBuf {
    Path::new("out").join(name)
}

/// A folder that is copied into the image must not hold the image, nor the scratch disk.
///
/// # Errors
/// When one does.
fn apart(recipe: &Recipe, places: &[(&Path, &str)]) -> Result<()> {
    for (index, stage) in recipe.stages.iter().enumerate() {
        let Stage::Copy(options) = &stage.stage else { continue };
        let Ok(source) = recipe.folder().join(&options.source).canonicalize() else { continue };
        for (place, flag) in places {
            let there = space::existing(place);
            let rest = place.strip_prefix(there).unwrap_or(place);
            if there.canonicalize().is_ok_and(|there| there.join(rest).starts_with(&source)) {
                let path = recipe::Path::root().key("stages").index(index).key("options").key("source");
                let message =
                    format!("`{}` holds {}, where the build writes its disks", options.source, place.display());
                let help = format!("name a folder in it that is to be copied, or another place with {flag}");
                return Err(Findings::from(recipe.finding(&path, message).help(help)).into());
            }
        }
    }
    Ok(())
}

/// Whether the mirror of the build is used, or written into the image: that of `sources` without an address.
fn takes_mirror(recipe: &Recipe) -> bool {
    recipe.stages.iter().any(|stage| matches!(stage.stage, Stage::Debootstrap(_) | Stage::Sources(_)))
}

fn names_mirror(recipe: &Recipe) -> bool {
    recipe.stages.iter().any(|stage| matches!(&stage.stage, Stage::Debootstrap(options) if options.mirror.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use std::fs;

    fn options(folder: &Path, more: &str) -> Options {
        let text = format!(
            "name: x\nstages:\n  - {{ type: debootstrap, options: {{ suite: trixie, mirror: 'http://m.example/debian' }} \
             }}\n{more}"
        );
        fs::write(folder.join("r.yml"), text).unwrap();
        Options { input: Input::Recipe(folder.join("r.yml")), ..Options::default() }
    }

    #[tokio::test]
    async fn a_folder_that_is_copied_does_not_hold_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(folder.path().join("cache").as_path());
        fs::create_dir(folder.path().join("data")).unwrap();
        for (source, output, message) in [
            (".", "out/x", Some("`.` holds ")),
            ("data", "data/x", Some("`data` holds ")),
            ("data", "database/x", None),
        ] {
            let copy = format!("  - {{ type: copy, options: {{ source: {source}, destination: /srv }} }}\n");
            let mut options = options(folder.path(), &format!("{copy}disk: {{ size: 4GiB }}\n"));
            options.output = Some(folder.path().join(output));
            options.work_dir = Some("/var/tmp".into());
            let prepared = prepare(&options, &dirs, &Events::none()).await;
            let said = prepared.err().map(|error| error.get().details().unwrap_or_default());
            assert_eq!(said.is_some(), message.is_some(), "{said:?}");
            assert!(message.is_none_or(|message| said.unwrap().contains(message)));
        }
    }

    #[tokio::test]
    async fn formats_of_the_command_line_are_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(folder.path());
        let mut options = options(folder.path(), "disk: { size: 4TiB }\noutput: { formats: [raw] }\n");
        assert!(prepare(&options, &dirs, &Events::none()).await.is_ok());
        options.formats = vec![Format::Vhd];
        let error = prepare(&options, &dirs, &Events::none()).await.unwrap_err();
        assert_eq!(error.get().class(), Class::Usage);
        let said = error.get().details().unwrap();
        assert!(said.contains("`--format vhd`: a vhd holds at most 2040GiB"), "{said}");
    }
}
