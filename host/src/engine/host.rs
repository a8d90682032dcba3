//! What every verb that starts a VM needs: the cache, QEMU, the appliance.

use crate::appliance::{self, Appliance, Request};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::Events;
use crate::output::space::Need;
use crate::vm::{Accel, Accelerator, Hypervisor, Session, VmConfig};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// Where the appliance and the packages come from, when the command line says so.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// URL of a Debian mirror.
    pub mirror: Option<String>,
    /// Folder or archive of an appliance.
    pub appliance: Option<PathBuf>,
}

/// This machine, as far as a VM is concerned.
#[derive(Debug, Clone)]
pub struct Host {
    /// Folders of the cache.
    pub dirs: Dirs,
    /// QEMU.
    pub hypervisor: Hypervisor,
}

impl Host {
    /// Look at this machine.
    ///
    /// # Errors
    /// When there is no QEMU that can run the VM, or no KVM though it was asked for.
    pub async fn detect(dirs: Dirs, accel: Accel, events: &Events) -> Result<Self> {
        let hypervisor = Hypervisor::detect(accel, &dirs, events).await?;
        Ok(Self { dirs, hypervisor })
    }

    /// The appliance; it is built on first use.
    ///
    /// # Errors
    /// When it cannot be found, fetched or built.
    pub async fn appliance(&self, sources: &Sources, events: &Events) -> Result<Appliance> {
        let request = Request { appliance: sources.appliance.clone(), mirror: sources.mirror.clone() };
        Ok(Appliance::ensure(&self.dirs, &self.hypervisor, &request, events).await?)
    }

    /// The room that the appliance will take, when it has to be built.
    ///
    /// # Errors
    /// When `sources` names no mirror.
    pub fn appliance_need(&self, sources: &Sources) -> Result<Option<Need>> {
        let request = Request { appliance: sources.appliance.clone(), mirror: sources.mirror.clone() };
        let missing = !Appliance::is_there(&self.dirs, &request)?;
        Ok(missing.then(|| Need {
            what: "appliance".into(),
            dir: self.dirs.appliances(),
            bytes: appliance::ROOM,
            flag: "XDG_CACHE_HOME",
        }))
    }

    /// What a VM runs with here. Where nobody knows yet whether KVM works, a VM of `appliance` finds out.
    ///
    /// # Errors
    /// When no VM can be run here.
    pub async fn accelerator(&self, appliance: &Appliance, events: &Events) -> Result<Accelerator> {
        if let Some(known) = self.hypervisor.known(&appliance.kernel())? {
            return Ok(known);
        }
        let workspace = Workspace::new(&self.dirs.work())?;
        let session = Session::start(&self.vm(appliance, workspace.path()), events).await?;
        let accelerator = session.accelerator();
        session.power_off().await?;
        Ok(accelerator)
    }

    /// A VM of `appliance` with no disks, shares and network, whose own files lie in `workspace`.
    pub fn vm(&self, appliance: &Appliance, workspace: &Path) -> VmConfig {
        VmConfig {
            hypervisor: self.hypervisor.clone(),
            kernel: appliance.kernel(),
            modules_cpio: appliance.modules_cpio(),
            root_layers: appliance.root_layers(),
            memory_mib: 512,
            cpus: 1,
            scratch: None,
            layers: None,
            target: None,
            archive: None,
            work_share: None,
            base_share: None,
            staging_share: None,
            network: None,
            workspace: workspace.to_owned(),
        }
    }
}

/// Processors of this machine that this process may use.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}
