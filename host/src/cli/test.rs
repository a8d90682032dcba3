//! `particle-vm test`

use super::boot::Firmware;
use super::options::{Machine, Sources, timeout, variable};
use super::{EXIT_CODES, stdout};
use crate::engine::boot::{Options, firmwares_of_built, image, machine, run_tests};
use crate::engine::{Fate, default_output};
use crate::error::Result;
use crate::recipe;
use crate::ui::Ui;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Run the tests of a recipe in its built image
///
/// The image is booted as it is: nothing is installed in it and nothing of it is changed. Each test is a command that
/// root runs; it passes when it exits with 0 and prints what the recipe expects. They are run on each firmware that the
/// image is for, in a machine of its own.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Test {
    /// The recipe
    pub recipe: PathBuf,

    /// The image, instead of the one in the output folder
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,

    /// Folder of the outputs [default: out/NAME]
    #[arg(short, long, value_name = "DIR", conflicts_with = "image")]
    pub output: Option<PathBuf>,

    /// The firmware of the machine [default: each that the image is for]
    #[arg(long, value_enum, value_name = "FIRMWARE")]
    pub firmware: Option<Firmware>,

    /// Time for the machine to boot, for instance 90s [default: 2min, and 10min without KVM]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub timeout: Option<Duration>,

    /// Set a variable of the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, String)>,

    /// Folder for what the machine writes, instead of the cache
    #[arg(long, value_name = "DIR", env = "PARTICLE_VM_WORK_DIR")]
    pub work_dir: Option<PathBuf>,

    /// The machine.
    #[command(flatten)]
    pub machine: Machine,

    /// The sources of the firmware.
    #[command(flatten)]
    pub sources: Sources,
}

impl Test {
    /// Run the tests.
    ///
    /// # Errors
    /// When something is wrong with the recipe, the image does not boot, or a test fails.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let recipe = recipe::load(&self.recipe, &self.set.into_iter().collect())?;
        let output = self.output.unwrap_or_else(|| default_output(&recipe.name));
        let firmwares =
            self.firmware.map_or_else(|| firmwares_of_built(&recipe, &output), |firmware| vec![firmware.into()]);
        let options = Options {
            image: self.image.unwrap_or_else(|| image(&recipe, &output)),
            firmware: None,
            timeout: self.timeout,
            work_dir: self.work_dir,
            memory_mib: self.machine.memory,
            cpus: self.machine.cpus,
            accel: self.machine.accel,
            sources: self.sources.into(),
        };
        if recipe.tests.is_empty() {
            stdout::print(format!("{} has no tests\n", self.recipe.display()))?;
            return Ok(0);
        }
        let config = machine(&options, ui.events()).await?;
        run_tests(&config, &recipe.tests, &firmwares, Fate::Stays, ui.events()).await?;
        Ok(0)
    }
}
