//! Options that several verbs share.

use crate::engine;
use crate::recipe::{MIB, Size, Timeout};
use crate::vm::Accel;
use clap::Args;
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
    #[arg(long, value_name = "COUNT", env = "PARTICLE_VM_CPUS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Option<u32>,

    /// Acceleration: auto takes KVM where a guest runs with it, and emulation elsewhere
    #[arg(long, value_enum, default_value_t, value_name = "HOW", env = "PARTICLE_VM_ACCEL")]
    pub accel: Accel,
}

/// Memory in MiB.
fn memory(text: &str) -> Result<u64, String> {
    let mib = text.parse::<Size>()?.0 / MIB;
    match mib {
        128..=0xff_ffff => Ok(mib),
        _ => Err(format!("`{text}` is no memory that a VM can have: give at least 128MiB, like `2GiB`")),
    }
}

/// The size of a disk in bytes.
pub fn disk_size(text: &str) -> Result<u64, String> {
    let size = text.parse::<Size>()?.0;
    match size / MIB {
        64..=0xfff_ffff => Ok(size.next_multiple_of(MIB)),
        _ => Err(format!("`{text}` is no size that the disk can have: give at least 64MiB, like `8GiB`")),
    }
}

impl From<Sources> for engine::Sources {
    fn from(sources: Sources) -> Self {
        Self { mirror: sources.mirror, appliance: sources.appliance }
    }
}

/// A length of time.
pub fn timeout(text: &str) -> Result<Duration, String> {
    Ok(text.parse::<Timeout>()?.0)
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
        assert!(memory("2048").unwrap_err().contains("2GiB"));
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=x").is_err());
    }
}
