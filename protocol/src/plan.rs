//! The plan: a fully resolved build, the unit of work that a VM runs.

use crate::archive::ArchiveKind;
use crate::disk::Disk;
use crate::stage::Stage;
use serde::{Deserialize, Serialize};

/// Seconds that each of the steps after the stages may take: the recipe says nothing about them, and none should ever hang.
pub const STEP_DEADLINE: u64 = 2 * 3600;

/// Seconds that the finishing of an appliance may take. Under emulation it takes half a minute.
pub const FINISH_DEADLINE: u64 = 15 * 60;

/// Everything the guest needs to know for a build. It decides nothing by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the image, `[a-z0-9][a-z0-9._-]*`.
    pub name: String,
    /// Debian's name of the architecture, `amd64`.
    pub architecture: String,
    /// What to do, in order.
    pub stages: Vec<PlannedStage>,
    /// The disk that is made of the tree when the stages have run. Without it only archives are made.
    pub disk: Option<Disk>,
    /// The archives that are made of it, in their order.
    pub archives: Vec<ArchiveKind>,
    /// The time, in seconds since the Unix epoch, that nothing in an archive is newer than (`SOURCE_DATE_EPOCH`, see
    /// reproducible-builds.org). Without it, the date of the newest package.
    pub source_date: Option<u64>,
    /// Lines for the `apt.conf` that is in force while the stages run (`Acquire::Check-Valid-Until "false";`), taken
    /// from the host's own apt configuration. They do not stay in the image.
    pub apt_conf: Vec<String>,
}

/// One stage with what the host has resolved for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// What people call it, for instance `3/9 apt`.
    pub title: String,
    /// Seconds after which the stage is ended.
    pub deadline: u64,
    /// What to do.
    pub stage: Stage,
}

impl Plan {
    /// How many steps follow the stages: the initramfs; the disk, its files, the boot loader; each archive.
    pub fn steps_after_stages(&self) -> usize {
        let disk = if self.disk.is_some() { 3 } else { 0 };
        1 + disk + self.archives.len()
    }
}
