//! `particle-vm boot`

use super::EXIT_CODES;
use super::options::{Machine, Sources, timeout};
use crate::boot::{self, Until};
use crate::engine::boot::{Options, machine};
use crate::error::Result;
use crate::ui::Ui;
use clap::{Args, ValueEnum};
use particle_vm_protocol::stage;
use std::path::PathBuf;
use std::time::Duration;

/// Boot an image, and tell whether it comes up
///
/// The image is started as a real machine would start it, from its own bootloader. What the machine writes to its disk is
/// forgotten: the image stays as it is. With --expect the verb ends as soon as the console shows the text; without it,
/// when the machine powers itself off.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Boot {
    /// The image: raw, qcow2, vmdk, vdi, vhd or vhdx
    pub image: PathBuf,

    /// The firmware of the machine
    #[arg(long, value_enum, default_value_t, value_name = "FIRMWARE")]
    pub firmware: Firmware,

    /// End when the console shows this text, for instance login:
    #[arg(long, value_name = "TEXT", conflicts_with = "interactive")]
    pub expect: Option<String>,

    /// Time for the machine to do it, for instance 90s [default: 2min, and 10min without KVM]
    #[arg(long, value_name = "TIME", value_parser = timeout, conflicts_with = "interactive")]
    pub timeout: Option<Duration>,

    /// Connect the terminal with the machine's console; Ctrl-] ends the machine
    #[arg(short, long)]
    pub interactive: bool,

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

/// Firmwares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// UEFI, with empty variables
    #[default]
    Uefi,
    /// PC BIOS
    Bios,
}

impl From<Firmware> for stage::Firmware {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Uefi => Self::Uefi,
            Firmware::Bios => Self::Bios,
        }
    }
}

impl Boot {
    /// Boot it.
    ///
    /// # Errors
    /// When the machine cannot be started or does not do what is expected of it.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let options = Options {
            image: self.image,
            firmware: Some(self.firmware.into()),
            timeout: self.timeout,
            work_dir: self.work_dir,
            memory_mib: self.machine.memory,
            cpus: self.machine.cpus,
            accel: self.machine.accel,
            sources: self.sources.into(),
        };
        let config = machine(&options, ui.events()).await?;
        if self.interactive {
            ui.settle().await;
            boot::interact(&config, ui.events()).await?;
            return Ok(0);
        }
        let until = self.expect.as_deref().map_or(Until::PowersOff, Until::Shows);
        boot::boot(&config, until, ui.events()).await?;
        Ok(0)
    }
}
