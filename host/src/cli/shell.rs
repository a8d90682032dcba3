//! `particle-vm shell`

use super::attach;
use super::options::{Machine, Sources};
use crate::engine::shell::{Options, Shell as Engine};
use crate::error::Result;
use crate::ui::Ui;
use clap::Args;
use particle_vm_protocol::message::Inside;
use std::path::PathBuf;

/// What `shell --help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
  That of the command, 128 and the signal's number when a signal ended it. When the VM cannot be
  started: see particle-vm --help.";

/// Open a root shell in the VM, or run one command in it
///
/// The folder is /work in the VM, read-only. What the shell changes elsewhere is gone at its end. There is no network.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Shell {
    /// The command and its arguments; without it, a login shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// The folder that the VM sees as /work
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub work: PathBuf,

    /// The VM.
    #[command(flatten)]
    pub machine: Machine,

    /// The sources.
    #[command(flatten)]
    pub sources: Sources,
}

impl Shell {
    /// Run the command and give its exit code.
    ///
    /// # Errors
    /// When the VM cannot be started or fails.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let options = Options {
            work: self.work,
            memory_mib: self.machine.memory,
            cpus: self.machine.cpus,
            accel: self.machine.accel,
            sources: self.sources.into(),
        };
        let mut shell = Engine::start(&options, ui.events()).await?;
        let code = attach::attach(&mut shell.session, self.command, Inside::Appliance, ui).await?;
        shell.session.power_off().await?;
        Ok(code)
    }
}
