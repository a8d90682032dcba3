//! From a recipe and what the host knows to a [`Plan`]: the unit of work that a VM runs.
//!
//! Pure: it reads no file and asks no network, so that the same recipe and the same facts give the same plan.

mod deadline;
mod disk;
mod identity;
mod needs;
mod network;

pub use needs::Needs;

use crate::error::{Class, Classify};
use crate::recipe::{Findings, GIB, MIB, Partition, Path, Recipe, Size, firmwares, layout, rootflags};
use crate::source::Reference;
use particle_vm_protocol::frame::{FrameError, MAX_FRAME};
use particle_vm_protocol::stage::Bootloader;
use particle_vm_protocol::{ArchiveKind, Base, Engine, FromHost, Job, PartitionKind, Plan, PlannedStage, Stage, frame};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What the host knows and a recipe does not say.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// URL of the mirror of the host's own apt sources, or the one that the command line names.
    pub mirror: Option<String>,
    /// What of the host's apt configuration is in force while the stages run.
    pub apt_conf: Vec<String>,
    /// Whether the VM is emulated, so that everything takes longer.
    pub emulated: bool,
    /// Processors of the host.
    pub cpus: u32,
    /// `SOURCE_DATE_EPOCH` of the environment.
    pub source_date: Option<u64>,
    /// The container image that the recipe starts from.
    pub base: Option<BaseFacts>,
}

/// What the host knows of a container image.
#[derive(Debug, Clone)]
pub struct BaseFacts {
    /// The image.
    pub base: Base,
    /// About how many bytes its files take.
    pub content_bytes: u64,
    /// About how many bytes its layers take as tar archives.
    pub layer_bytes: u64,
}

/// What the command line says otherwise than the recipe.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Memory of the VM in MiB.
    pub memory_mib: Option<u64>,
    /// Size of the scratch disk in bytes.
    pub scratch_bytes: Option<u64>,
    /// Processors of the VM.
    pub cpus: Option<u32>,
}

/// A plan and what it takes to run it.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// What the guest does.
    pub plan: Plan,
    /// SHA-256 of the plan as JSON, in hexadecimal: the same work has the same digest.
    pub digest: String,
    /// What it takes of the host.
    pub needs: Needs,
    /// The hosts that the guest may reach, as `network.allow` writes them.
    pub allow: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The recipe does not fit together; its own checks find most of that before.
    #[error(transparent)]
    Recipe(#[from] Findings),
    /// Neither the recipe nor the host names a mirror.
    #[error("no Debian mirror is known")]
    NoMirror,
    /// The plan is too large for the channel to the guest.
    #[error("the recipe makes a plan of more than {}", Size(MAX_FRAME as u64))]
    TooLarge(#[source] FrameError),
}

impl Classify for PlanError {
    fn class(&self) -> Class {
        match self {
            Self::Recipe(findings) => findings.class(),
            Self::TooLarge(_) => Class::Usage,
            Self::NoMirror => Class::Host,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Recipe(findings) => findings.advice(),
            Self::NoMirror => Some(
                "name one with `--mirror URL`, with PARTICLE_VM_MIRROR, or as `mirror` of the stage `debootstrap`"
                    .into(),
            ),
            Self::TooLarge(_) => Some("move large `content` and `script` into files beside the recipe".into()),
        }
    }

    fn details(&self) -> Option<String> {
        if let Self::Recipe(findings) = self { findings.details() } else { None }
    }
}

/// Resolves `recipe` into what the guest does and what it takes.
///
/// # Errors
/// When no mirror is known, and when parts of the recipe do not fit together.
pub fn plan(recipe: &Recipe, facts: &HostFacts, overrides: &Overrides) -> Result<Planned, PlanError> {
    let identity = identity::Identity::new(recipe, facts);
    let base = base(recipe, facts)?;
    let stages = stages(recipe, facts)?;
    let disk = disk::resolve(recipe, &identity)?;
    let allow = network::allow_list(recipe, &stages)?;
    let plan = Plan {
        name: recipe.name.clone(),
        architecture: recipe.architecture.name().into(),
        base,
        bootloader: bootloader(recipe),
        root_argument: root(recipe)
            .filter(|_| deployed(recipe, facts))
            .as_ref()
            .and_then(rootflags::argument_of_deployment),
        stages,
        done: 0,
        disk,
        archives: archives(recipe),
        source_date: facts.source_date,
        apt_conf: facts.apt_conf.clone(),
    };
    let job = FromHost::Start(Box::new(Job::Build(Box::new(plan.clone()))));
    let encoded = frame::encode(&job).map_err(PlanError::TooLarge)?;
    let digest = hex::encode(Sha256::digest(&encoded));
    let needs = needs::needs(recipe, facts, overrides);
    Ok(Planned { plan, digest, needs, allow })
}

/// The container image.
fn base(recipe: &Recipe, facts: &HostFacts) -> Result<Option<Base>, PlanError> {
    let Some(BaseFacts { base, .. }) = &facts.base else { return Ok(None) };
    recipe.fits(base.engine)?;
    let mut base = base.clone();
    // Only the installed system goes by it.
    if let Some(target) = recipe.install().and_then(|options| options.target_imgref.as_deref())
        && let Ok(target) = target.parse::<Reference>()
    {
        base.reference = target.to_string();
    }
    Ok(Some(base))
}

/// What boots a deployment.
fn bootloader(recipe: &Recipe) -> Bootloader {
    let mut bootloader = recipe.bootloader().cloned().unwrap_or_default();
    let sector_size = recipe.disk.as_ref().map(|disk| disk.sector_size).unwrap_or_default();
    bootloader.firmware = firmwares(Some(&bootloader), sector_size);
    bootloader.firmware.sort_unstable();
    bootloader
}

/// Whether the system is a deployment.
fn deployed(recipe: &Recipe, facts: &HostFacts) -> bool {
    facts.base.as_ref().is_some_and(|facts| facts.base.engine != Engine::Plain) || recipe.deploys().is_some()
}

/// The partition of the root.
fn root(recipe: &Recipe) -> Option<Partition> {
    let disk = recipe.disk.as_ref().filter(|_| recipe.makes_disk())?;
    layout(disk, recipe.bootloader()).into_iter().find(|partition| partition.kind == PartitionKind::Root)
}

fn stages(recipe: &Recipe, facts: &HostFacts) -> Result<Vec<PlannedStage>, PlanError> {
    let mirror = mirror(recipe, facts);
    let disk = recipe.disk.as_ref().filter(|_| recipe.makes_disk());
    let root_argument = root(recipe).filter(|_| !deployed(recipe, facts)).as_ref().and_then(rootflags::argument);
    let count = recipe.stages.len();
    let planned = recipe.stages.iter().enumerate().map(|(index, written)| {
        let mut stage = written.stage.clone();
        match &mut stage {
            Stage::Debootstrap(options) => options.mirror = Some(mirror.clone().ok_or(PlanError::NoMirror)?),
            Stage::Sources(options) => {
                for source in options.sources.iter_mut().filter(|source| source.uris.is_empty()) {
                    source.uris.push(mirror.clone().ok_or(PlanError::NoMirror)?);
                }
            }
            Stage::Kernel(options) => options.cmdline.extend(root_argument.clone()),
            Stage::Bootloader(options) => {
                options.firmware = firmwares(Some(options), disk.map(|disk| disk.sector_size).unwrap_or_default());
                options.firmware.sort_unstable();
            }
            _ => {}
        }
        let deadline = written.timeout.map_or_else(|| deadline::of(&stage, facts.emulated), |timeout| timeout.0);
        let name = written.name.as_deref().unwrap_or(stage.name());
        Ok(PlannedStage {
            title: format!("{}/{count} {name}", index + 1),
            deadline: deadline.as_secs().max(1),
            keep: false,
            stage,
        })
    });
    planned.collect()
}

/// The archives that the formats are made of. That of the tree comes first: it stays where it is when it is an output.
fn archives(recipe: &Recipe) -> Vec<ArchiveKind> {
    let wanted = |kind: &ArchiveKind| recipe.output.formats.iter().any(|format| format.archive() == Some(*kind));
    [ArchiveKind::Tree, ArchiveKind::Repository].into_iter().filter(wanted).collect()
}

/// The mirror of the build: the one that the first stage names, else the host's.
fn mirror(recipe: &Recipe, facts: &HostFacts) -> Option<String> {
    let named = recipe.stages.iter().find_map(|stage| match &stage.stage {
        Stage::Debootstrap(options) => options.mirror.clone(),
        _ => None,
    });
    named.or_else(|| facts.mirror.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path as FilePath;

    fn shipped(name: &str) -> Recipe {
        let path = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../recipes").join(name);
        crate::recipe::load(&path, &BTreeMap::new()).unwrap_or_else(|findings| panic!("{}", findings.render(false)))
    }

    fn facts() -> HostFacts {
        HostFacts { mirror: Some("http://deb.example.org/debian".into()), cpus: 8, ..HostFacts::default() }
    }

    #[test]
    fn every_shipped_recipe_has_a_plan() {
        for name in ["minimal-debug-locale.yml", "simple-cli-bootable.yml", "qemu-formats.yml", "systemd-boot.yml"] {
            let recipe = shipped(name);
            assert!(!recipe.tests.is_empty(), "{name}");
            let planned = plan(&recipe, &facts(), &Overrides::default()).unwrap();
            assert_eq!(planned.allow, ["deb.example.org"], "{name}");
            assert_eq!(planned.plan.stages.len(), recipe.stages.len());
            assert!(planned.plan.disk.unwrap().mounted_at("/").is_some(), "{name}");
            let again = plan(&shipped(name), &facts(), &Overrides::default()).unwrap();
            assert_eq!(again.digest, planned.digest, "{name}");
        }
    }

    #[test]
    fn the_default_layout_boots_on_both_firmwares() {
        let planned = plan(&shipped("simple-cli-bootable.yml"), &facts(), &Overrides::default()).unwrap();
        let disk = planned.plan.disk.unwrap();
        let kinds: Vec<_> = disk.partitions.iter().map(|partition| partition.kind).collect();
        assert_eq!(kinds, [PartitionKind::BiosBoot, PartitionKind::Esp, PartitionKind::Root]);
        assert_eq!(planned.plan.stages[1].title, "2/11 base system");
        assert_eq!(disk.partitions[2].size, None);
        let esp = disk.partitions[1].filesystem.as_ref().unwrap();
        assert_eq!((esp.label.as_str(), esp.uuid.len()), ("ESP", 9));
    }

    #[test]
    fn the_kernel_is_told_what_the_root_takes_at_its_first_mount_only() {
        let text = "name: x
stages:
  - { type: debootstrap, options: { suite: trixie } }
  - { type: kernel, options: { cmdline: [quiet] } }
disk: { size: 4GiB, partitions: [{ kind: root, grow: true, options: [noatime, data=journal] }] }
";
        let source = crate::recipe::Source::new("r.yml", text);
        let recipe = crate::recipe::parse(source, FilePath::new("."), &BTreeMap::new()).unwrap();
        let planned = plan(&recipe, &facts(), &Overrides::default()).unwrap();
        let Stage::Kernel(kernel) = &planned.plan.stages[1].stage else { panic!() };
        assert_eq!(
            (&kernel.cmdline[..], &planned.plan.root_argument),
            (&["quiet", "rootflags=data=journal"].map(str::to_owned)[..], &None)
        );
        // A deployment is told all options of its root, and needs no stage for that.
        let text = "name: x
stages:
  - { type: ostree.pull, options: { url: 'http://x.example/', refs: [r], unsigned: true } }
  - { type: ostree.deploy, options: { ref: r } }
  - { type: kernel, options: { cmdline: [quiet] } }
disk: { size: 4GiB, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true, options: [noatime, data=journal] }] }
";
        for text in [text, &text.replace("  - { type: kernel, options: { cmdline: [quiet] } }\n", "")] {
            let source = crate::recipe::Source::new("r.yml", text);
            let recipe = crate::recipe::parse(source, FilePath::new("."), &BTreeMap::new()).unwrap();
            let plan = plan(&recipe, &facts(), &Overrides::default()).unwrap().plan;
            assert_eq!(plan.root_argument.as_deref(), Some("rootflags=noatime,data=journal"));
            assert!(!format!("{:?}", plan.stages).contains("rootflags"), "{:?}", plan.stages);
        }
    }

    #[test]
    fn files_that_are_copied_take_their_room() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::File::create(folder.path().join("large")).unwrap().set_len(5 * GIB).unwrap();
        let text = "name: x
stages:
  - { type: debootstrap, options: { suite: trixie } }
  - { type: copy, options: { source: ., destination: /srv } }
disk: { size: 9GiB }
";
        let source = crate::recipe::Source::new("r.yml", text);
        let recipe = crate::recipe::parse(source, folder.path(), &BTreeMap::new()).unwrap();
        let planned = plan(&recipe, &facts(), &Overrides::default()).unwrap();
        assert!((5 * GIB..6 * GIB).contains(&planned.needs.content_bytes), "{:?}", planned.needs);
    }

    #[test]
    fn without_a_mirror_there_is_no_plan() {
        let error = plan(&shipped("qemu-formats.yml"), &HostFacts::default(), &Overrides::default()).unwrap_err();
        assert!(matches!(error, PlanError::NoMirror), "{error}");
        assert_eq!(error.class(), Class::Host);
    }
}
