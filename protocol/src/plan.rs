//! The plan: a fully resolved build, the unit of work that a VM runs.

use crate::base::{Base, Engine};
use crate::disk::Disk;
use crate::stage::Stage;
use serde::{Deserialize, Serialize};

/// How many steps follow the stages: the initramfs, the disk, its files, the boot loader.
pub const STEPS_AFTER_STAGES: usize = 4;

/// Seconds that each of them may take: the recipe says nothing about them, and none should ever hang.
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
    /// The container image that the build starts from; without one the first stage makes a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What to do, in order.
    pub stages: Vec<PlannedStage>,
    /// The disk that is made of the tree when the stages have run.
    pub disk: Disk,
    /// Lines for the `apt.conf` that is in force while the stages run (`Acquire::Check-Valid-Until "false";`), taken
    /// from the host's own apt configuration. They do not stay in the image.
    pub apt_conf: Vec<String>,
}

impl Plan {
    /// How many steps come before the stages: what makes a tree of a container image. A deployment lies on its disk from
    /// the beginning, so that the disk comes first.
    pub fn steps_before_stages(&self) -> usize {
        match self.base.as_ref().map(|base| base.engine) {
            None => 0,
            Some(Engine::Plain) => 1,
            Some(Engine::NativeOstree | Engine::Bootc) => 3,
        }
    }
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
