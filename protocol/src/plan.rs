//! The plan: a fully resolved build, the unit of work that a VM runs.

use crate::archive::ArchiveKind;
use crate::base::{Base, Engine};
use crate::disk::Disk;
use crate::stage::{Bootloader, Stage};
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
    /// The container image that the build starts from; without one the first stage makes a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// What boots a deployment: what the recipe's stage says, or what follows from the disk. A tree gets its own from the
    /// stage.
    #[serde(default)]
    pub bootloader: Bootloader,
    /// The kernel argument with the mount options of a deployment's root, which no line of fstab(5) mounts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_argument: Option<String>,
    /// What to do, in order.
    pub stages: Vec<PlannedStage>,
    /// How many of the first stages an earlier build has run: the scratch disk has what they made.
    #[serde(default)]
    pub done: usize,
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

    /// Which of the stages makes a commit the system on the disk.
    pub fn deploys(&self) -> Option<usize> {
        self.stages.iter().position(|planned| matches!(planned.stage, Stage::OstreeDeploy(_)))
    }

    /// How many steps follow the stages: the initramfs; the disk, its files, the boot loader; each archive. A deployment
    /// brings its initramfs along, and of its disk only the boot loader is left to do.
    pub fn steps_after_stages(&self) -> usize {
        if self.base.as_ref().is_some_and(|base| base.engine != Engine::Plain) {
            return 1;
        }
        if self.deploys().is_some() {
            return 1 + self.archives.len();
        }
        let disk = if self.disk.is_some() { 3 } else { 0 };
        1 + disk + self.archives.len()
    }
}

/// One stage with what the host has resolved for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    /// What people call it, for instance `3/9 apt`.
    pub title: String,
    /// Seconds after which the stage is ended.
    pub deadline: u64,
    /// Whether the host wants what the stage leaves on the scratch disk ([`crate::FromGuest::Settled`]).
    #[serde(default)]
    pub keep: bool,
    /// What to do.
    pub stage: Stage,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::base::Backend;
    use crate::disk::SectorSize;
    use crate::stage::OstreeDeploy;

    /// A plan with the stages of a JSON list, each of which may take a minute, and nothing else.
    pub(crate) fn plan(stages: &str) -> Plan {
        let stages: Vec<Stage> = serde_json::from_str(stages).unwrap();
        let planned = |stage: Stage| PlannedStage { title: stage.name().into(), deadline: 60, keep: false, stage };
        Plan {
            name: "x".into(),
            architecture: "amd64".into(),
            base: None,
            bootloader: Bootloader::default(),
            root_argument: None,
            stages: stages.into_iter().map(planned).collect(),
            done: 0,
            disk: None,
            archives: Vec::new(),
            source_date: None,
            apt_conf: Vec::new(),
        }
    }

    fn base(engine: Engine) -> Base {
        Base {
            engine,
            backend: Backend::default(),
            layers: Vec::new(),
            manifest: String::new(),
            digest: String::new(),
            config: String::new(),
            created: 0,
            reference: String::new(),
            origin: String::new(),
        }
    }

    #[test]
    fn steps_follow_from_what_is_made_of_what() {
        use ArchiveKind::{Repository, Tree};
        type Case = (Option<Engine>, bool, &'static [ArchiveKind], (usize, usize));
        let cases: [Case; 9] = [
            (None, true, &[], (0, 4)),
            (None, false, &[Tree], (0, 2)),
            (None, true, &[Tree, Repository], (0, 6)),
            (None, false, &[Tree, Repository], (0, 3)),
            (Some(Engine::Plain), true, &[], (1, 4)),
            (Some(Engine::Plain), false, &[Tree], (1, 2)),
            (Some(Engine::Plain), true, &[Tree, Repository], (1, 6)),
            (Some(Engine::NativeOstree), true, &[], (3, 1)),
            (Some(Engine::Bootc), true, &[], (3, 1)),
        ];
        for (engine, disk, archives, steps) in cases {
            let empty = Disk { size: 0, sector_size: SectorSize::B512, uuid: String::new(), partitions: Vec::new() };
            let (base, disk) = (engine.map(base), disk.then_some(empty));
            let mut plan = Plan { base, disk, archives: archives.to_vec(), ..plan("[]") };
            assert_eq!((plan.steps_before_stages(), plan.steps_after_stages()), steps, "{engine:?} {archives:?}");
            if engine.is_none() {
                let options = OstreeDeploy { reference: "a".into(), stateroot: None, remote: None };
                let stage = Stage::OstreeDeploy(options);
                plan.stages.push(PlannedStage { title: String::new(), deadline: 0, keep: false, stage });
                assert_eq!((plan.deploys(), plan.steps_after_stages()), (Some(0), 1 + archives.len()));
            }
        }
    }
}
