//! `particle-vm build`

use super::input::Image;
use super::options::{Machine, Otherwise, Sources};
use super::{EXIT_CODES, attach};
use crate::dirs::Dirs;
use crate::engine::{Build as Engine, Fate, Reuse, prepare};
use crate::error::Result;
use crate::output::{Others, Record};
use crate::recipe::Size;
use crate::ui::{Ui, terminal};
use clap::{Args, ValueEnum};
use particle_vm_protocol::message::Inside;
use std::path::PathBuf;

/// Build disk images from a recipe or a container image
///
/// A file, and what ends in .yml or .yaml, is a recipe. A container image is named as HOST/NAME:TAG or
/// docker://HOST/NAME:TAG in a registry, oci:DIR:TAG, oci-archive:FILE:TAG, docker-archive:FILE:NAME:TAG,
/// containers-storage:NAME for podman, or docker-daemon:NAME for docker; folders and archives with one image need no tag.
/// A recipe for it is made of the options below.
///
/// The recipe is checked whole before anything is started. The first build makes the appliance, the small Debian that
/// the VM runs; this takes a few minutes, once. What is downloaded is kept, and a second build downloads it no more.
///
/// The images, SHA256SUMS, manifest.json and build.log appear in the output folder when all of them are complete;
/// earlier ones stay until then. Of a build that fails or is interrupted only its log stays, in the cache.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Build {
    /// The recipe, or the container image
    #[arg(value_name = "RECIPE|IMAGE")]
    pub what: PathBuf,

    /// What is said otherwise than in the recipe.
    #[command(flatten)]
    pub otherwise: Otherwise,

    /// Use the output folder also if it holds what another recipe has made
    ///
    /// Its manifest, checksums and log are replaced, and its images stay without them.
    #[arg(long)]
    pub replace: bool,

    /// Boot the image on each firmware that it is for, and run the recipe's tests in it
    ///
    /// This is done before the image is converted and put into its place: an image that does not pass replaces nothing.
    #[arg(long)]
    pub test: bool,

    /// With --test: keep an image that does not pass; the exit code is 1 all the same
    #[arg(long, requires = "test")]
    pub keep_failed: bool,

    /// Sign the OSTree commit of the format `ostree-repo` with this private ed25519 key
    ///
    /// A file of `openssl genpkey -algorithm ed25519`, or OSTree's 64 bytes in base64. The VM does not get to see it.
    #[arg(long, value_name = "KEY")]
    pub sign: Option<PathBuf>,

    /// Run all stages, also those that an earlier build has run already, and keep nothing of them
    #[arg(long)]
    pub no_cache: bool,

    /// Run this stage, and those after it, also if an earlier build has run them already
    ///
    /// Its number, the first being 1, or its name or type where only one has that.
    #[arg(long, value_name = "STAGE", conflicts_with = "no_cache")]
    pub from: Option<String>,

    /// Most that downloads and what stages have made may take when the build has ended, for instance 50GiB
    ///
    /// What has not been used for the longest time goes.
    #[arg(long, value_name = "SIZE", env = "PARTICLE_VM_CACHE_SIZE", default_value = "20GiB")]
    pub cache_size: Size,

    /// What to do when a stage fails
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_failure: OnFailure,

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

/// What to do when a stage fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    /// End with the report
    #[default]
    Fail,
    /// Show the report and open a root shell in the stage that failed
    Shell,
}

impl Build {
    /// Build, and test when that is asked for.
    ///
    /// # Errors
    /// When the recipe, the host, a download or a stage is at fault, or a test fails.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        if self.on_failure == OnFailure::Shell && !terminal::is_interactive() {
            return Err(attach::AttachError::NoTerminal.into());
        }
        let dirs = Dirs::new()?;
        let input = self.image.input(&self.what, &self.otherwise.set)?;
        let mut options = self.otherwise.options(input, &self.machine, &self.sources);
        options.layout = self.image.output_layout.unwrap_or_default();
        options.sign.clone_from(&self.sign);
        options.reuse = match self.from.clone() {
            Some(stage) => Reuse::Before(stage),
            None if self.no_cache => Reuse::Nothing,
            None => Reuse::All,
        };
        options.cache_bytes = Some(self.cache_size.0);
        options.others = if self.replace { Others::Go } else { Others::Stay };
        let prepared = prepare(&options, &dirs, ui.events()).await?;
        let (events, mut record) = Record::start(&dirs.logs(), &prepared.recipe.name, ui.events())?;
        let build = Engine::start(prepared, &options, &dirs, self.machine.accel, &events).await;
        let result = match build {
            Ok(build) => self.finish(build, &mut record, ui).await,
            Err(error) => Err(error),
        };
        result.inspect_err(|error| record.fail(error))
    }

    async fn finish(&self, mut build: Engine, record: &mut Record, ui: &Ui) -> Result<u8> {
        let built = match build.run().await {
            Ok(built) => built,
            Err(error) => match build.failed_stage().filter(|_| self.on_failure == OnFailure::Shell) {
                Some(session) => {
                    record.fail(&error);
                    ui.report(&error);
                    attach::attach(session, Vec::new(), Inside::Tree, ui).await?;
                    return Ok(error.get().class().exit_code());
                }
                None => return Err(error),
            },
        };
        let made = build.stop(built).await?;
        let tested = match (self.test, self.keep_failed) {
            (false, _) => Ok(()),
            (true, true) => made.test(Fate::Published).await,
            (true, false) => made.test(Fate::Discarded).await,
        };
        if tested.is_ok() || self.keep_failed {
            made.publish(record).await?;
        }
        tested.map(|()| 0)
    }
}
