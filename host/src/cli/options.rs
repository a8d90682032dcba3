//! Options that several verbs share.

use super::images::Images;
use crate::engine;
use crate::output::Format;
use crate::plan::Overrides;
use crate::recipe::{MIB, Size, Timeout, limits};
use crate::vm::Accel;
use clap::Args;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

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

/// What the VM gets of the machine.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Memory of the VM, for instance 2GiB
    #[arg(long, value_name = "SIZE", env = "PARTICLE_VM_MEMORY", value_parser = memory)]
    pub memory: Option<u64>,

    /// Processors of the VM
    #[arg(long, value_name = "COUNT", env = "PARTICLE_VM_CPUS", value_parser = cpus)]
    pub cpus: Option<u32>,

    /// Acceleration: auto takes KVM where a guest runs with it, and emulation elsewhere
    #[arg(long, value_enum, default_value_t, value_name = "HOW", env = "PARTICLE_VM_ACCEL")]
    pub accel: Accel,
}

/// What of a build is said otherwise than in its recipe.
#[derive(Debug, Clone, Default, Args)]
pub struct Otherwise {
    /// Folder for the images [default: out/NAME]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Formats to write, instead of those in the recipe; repeat it or separate them with commas
    #[arg(short, long = "format", value_enum, value_name = "FORMAT", value_delimiter = ',')]
    pub formats: Vec<Format>,

    /// Set a variable of the recipe; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, String)>,

    /// Folder for the scratch disk, instead of the cache; it needs space for the unpacked image
    #[arg(long, value_name = "DIR", env = "PARTICLE_VM_WORK_DIR")]
    pub work_dir: Option<PathBuf>,

    /// Size of the scratch disk, where the image's tree is built
    #[arg(long, value_name = "SIZE", value_parser = disk_size)]
    pub scratch_size: Option<u64>,

    /// How a container image is fetched.
    #[command(flatten)]
    pub images: Images,
}

impl Otherwise {
    /// What the engine goes by.
    pub fn options(&self, input: engine::Input, machine: &Machine, sources: &Sources) -> engine::Options {
        let overrides = Overrides { memory_mib: machine.memory, scratch_bytes: self.scratch_size, cpus: machine.cpus };
        engine::Options {
            input,
            variables: self.set.iter().cloned().collect(),
            output: self.output.clone(),
            formats: self.formats.clone(),
            work_dir: self.work_dir.clone(),
            overrides,
            sources: sources.clone().into(),
            images: self.images.options(),
            ..engine::Options::default()
        }
    }
}

/// Memory in MiB.
fn memory(text: &str) -> Result<u64, String> {
    Ok(in_range("memory", text, &limits::MEMORY)? / MIB)
}

/// The size of a scratch disk in bytes.
fn disk_size(text: &str) -> Result<u64, String> {
    in_range("the scratch disk", text, &limits::SCRATCH)
}

fn in_range(what: &str, text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let size = text.parse::<Size>()?;
    limits::size(what, size, range).map_or(Ok(size.0), Err)
}

fn cpus(text: &str) -> Result<u32, String> {
    let (least, most) = (limits::CPUS.start(), limits::CPUS.end());
    let count = text.parse().ok().filter(|count| limits::CPUS.contains(count));
    count.ok_or_else(|| format!("a VM has between {least} and {most} processors"))
}

impl From<Sources> for engine::Sources {
    fn from(sources: Sources) -> Self {
        Self { mirror: sources.mirror, appliance: sources.appliance }
    }
}

/// A length of time.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = text.parse::<Timeout>()?;
    limits::timeout(timeout).map_or(Ok(timeout.0), Err)
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
    fn a_memory_without_a_unit_is_refused() {
        assert_eq!(memory("2GiB"), Ok(2048));
        assert_eq!(memory("2048").unwrap_err(), "memory is between 256MiB and 1TiB, and not 2KiB");
    }

    #[test]
    fn what_a_recipe_refuses_the_command_line_refuses() {
        assert!(timeout("0s").unwrap_err().contains("between 1s and 7days"));
        assert!(cpus("65").is_err() && cpus("0").is_err() && cpus("64").is_ok());
        assert_eq!(disk_size("512MiB"), Ok(512 << 20));
        assert!(disk_size("64MiB").is_err() && disk_size("1GB").unwrap_err().contains("multiple of 1MiB"));
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=x").is_err());
    }
}
