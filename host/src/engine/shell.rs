//! The verb `shell`: the appliance with a folder of the host in it.

use super::host::{Host, Sources};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::Events;
use crate::vm::{Accel, Session};
use crate::workspace::Workspace;
use std::path::PathBuf;

/// Memory in MiB when nobody says: what is written to the root lies in memory.
const MEMORY_MIB: u64 = 1024;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder that is `/work` in the VM, read-only.
    pub work: PathBuf,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Number of processors.
    pub cpus: Option<u32>,
    /// The acceleration that is wished for.
    pub accel: Accel,
    /// Where the appliance comes from.
    pub sources: Sources,
}

/// A VM that waits for commands.
pub struct Shell {
    /// The VM.
    pub session: Session,
    _workspace: Workspace,
}

impl Shell {
    /// Start the VM.
    ///
    /// # Errors
    /// When the host lacks something, or the VM does not start.
    pub async fn start(options: &Options, events: &Events) -> Result<Self> {
        let host = Host::detect(Dirs::new()?, options.accel, events).await?;
        let appliance = host.appliance(&options.sources, events).await?;
        let workspace = Workspace::new(&host.dirs.work())?;
        let mut config = host.vm(&appliance, workspace.path());
        config.memory_mib = options.memory_mib.unwrap_or(MEMORY_MIB);
        config.cpus = options.cpus.unwrap_or(1);
        config.work_share = Some(options.work.clone());
        let session = Session::start(&config, events).await?;
        Ok(Self { session, _workspace: workspace })
    }
}
