//! Starting an image that was made, as a real machine would: with firmware, from its own bootloader, on a disk that
//! forgets what is written to it.
//!
//! Images are treated as hostile: their format is looked at once and then given explicitly, nothing that they say about
//! other files is followed, and QEMU runs in its sandbox. The machine has a network card with DHCP, because systems wait
//! for one, but nothing can be reached through it.

mod error;
mod image;
mod interactive;
mod machine;
mod test;
mod watch;

pub use error::BootError;
pub use image::Image;
pub use interactive::{ESCAPE_NAME, interact};
pub use test::{FailedTest, run_tests};

use crate::appliance::{Appliance, InUse};
use crate::event::{Events, Unit};
use crate::vm::{Accelerator, Printer, Stream};
use machine::Machine;
use particle_vm_protocol::stage::Firmware;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use watch::{Seen, Watch};

/// What to start, and in what.
#[derive(Debug, Clone)]
pub struct BootConfig {
    /// The program `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// What it runs with.
    pub accelerator: Accelerator,
    /// The image.
    pub image: PathBuf,
    /// The firmware.
    pub firmware: Firmware,
    /// The files of the UEFI firmware; needed for [`Firmware::Uefi`] only.
    pub uefi: Option<UefiFiles>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u32,
    /// Folder for what the machine writes.
    pub work_dir: PathBuf,
    /// Time for the machine to do what is expected of it; without it, [`default_timeout`].
    pub timeout: Option<Duration>,
}

/// The files of a UEFI firmware. They are not removed from the cache while there is a handle.
#[derive(Debug, Clone)]
pub struct UefiFiles {
    /// The code, which is never written to.
    code: PathBuf,
    /// The variables as they come from the factory.
    variables: PathBuf,
    _in_use: Arc<InUse>,
}

impl From<&Appliance> for UefiFiles {
    fn from(appliance: &Appliance) -> Self {
        Self { code: appliance.firmware_code(), variables: appliance.firmware_vars(), _in_use: appliance.in_use() }
    }
}

impl BootConfig {
    /// What people call a run of it: the image and its firmware.
    fn title(&self) -> String {
        let name = self.image.file_name().unwrap_or(self.image.as_os_str());
        format!("{} on {}", name.display(), self.firmware)
    }

    /// How long to wait.
    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or_else(|| default_timeout(self.accelerator))
    }
}

/// What a machine is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until<'a> {
    /// Show a text on its console. Escape sequences are no part of it.
    Shows(&'a str),
    /// Power itself off.
    PowersOff,
}

/// Time for a machine to boot. Emulation takes 20 to 60 s for what takes 5 s with KVM, and on a machine that others use
/// too it takes several times that.
pub fn default_timeout(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(120),
        Accelerator::Tcg => Duration::from_secs(600),
    }
}

/// Start an image and wait until it does what is expected. The text of the console is printed as it comes, without
/// escape sequences, so that a hostile image has no way to the user's terminal. The machine is held up by a reader that
/// is slow, and goes on without one that has gone away.
///
/// # Errors
/// When the machine cannot be started or does not do it in time.
pub async fn boot(config: &BootConfig, until: Until<'_>, events: &Events) -> Result<(), BootError> {
    let step = events.step(format!("boot {}", config.title()), None, Unit::Items);
    let mut machine = Machine::start(config, false).await?;
    let timeout = config.timeout();
    let mut output = Printer::standard();
    let watched = tokio::time::timeout(timeout, watch(&mut machine, until, &mut output)).await;
    let console = machine.last_lines();
    // Before the end is told. What a reader does not want is no error.
    let _ = output.finish().await;
    match watched {
        Ok(result) => result?,
        Err(_) => {
            return Err(match until {
                Until::Shows(expect) => BootError::NotSeen { expect: expect.into(), after: timeout, console },
                Until::PowersOff => BootError::StillRunning { after: timeout, console },
            });
        }
    }
    step.finish();
    Ok(())
}

async fn watch(machine: &mut Machine, until: Until<'_>, output: &mut Printer) -> Result<(), BootError> {
    let expect = match until {
        Until::Shows(expect) => Some(expect),
        Until::PowersOff => None,
    };
    let mut watch = Watch::new(expect);
    let mut piece = vec![0; 4096];
    loop {
        let length = tokio::select! {
            // A console that breaks has ended.
            read = machine.console.read(&mut piece), if output.has_room() => read.unwrap_or(0),
            // A reader that has gone away is told once, and everything is room for it.
            _ = output.room() => continue,
            trouble = Machine::trouble(&machine.qmp, &mut machine.stderr, &mut machine.stop) => return Err(trouble),
        };
        if length == 0 {
            machine.ended().await?;
            return match until {
                Until::Shows(expect) => Err(BootError::Ended { expect: expect.into(), console: machine.last_lines() }),
                Until::PowersOff => Ok(()),
            };
        }
        let (text, seen) = watch.look(&piece[..length]);
        machine.tail.push(&text);
        output.push(Stream::Output, text);
        match seen {
            Some(Seen::Expected) => return Ok(()),
            Some(Seen::Dead(reason)) => return Err(BootError::Dead { reason, console: machine.last_lines() }),
            None => {}
        }
    }
}
