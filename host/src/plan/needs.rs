//! What a build takes of the host.

use super::*;
use crate::recipe::RecipeStage;
use particle_vm_protocol::stage::Variant;

/// What a build takes of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Memory of the VM in MiB.
    pub memory_mib: u64,
    /// Processors of the VM.
    pub cpus: u32,
    /// Size of the scratch disk in bytes. It is sparse: what is written to it is about twice `content_bytes`.
    pub scratch_bytes: u64,
    /// Size of the target disk in bytes; 0 when there is none. It is sparse: what is written to it is about
    /// `content_bytes`.
    pub target_bytes: u64,
    /// Size of the disk for archives in bytes; 0 when there is none. It is sparse: what is written to it is about
    /// `content_bytes` for the tree, and half as much for a repository.
    pub archive_bytes: u64,
    /// About how many bytes the files in the image will occupy, estimated from the stages.
    pub content_bytes: u64,
    /// About how many bytes the layers of the container image take that the guest reads; 0 when there is none.
    pub layer_bytes: u64,
}

/// Memory when nobody says: the largest consumer is the compression of an initramfs; what is left caches the tree.
const MEMORY_MIB: u64 = 2048;

/// Scratch disk when there is no disk to go by: most containers of systems have 2 GiB.
const TREE: u64 = 16 * GIB;

/// A scratch disk is a multiple of it: it takes no room by itself, and recipes whose first stages are the same have the same
/// disk for them.
const STEP: u64 = 16 * GIB;

/// Most processors when nobody says: package installation is one thread, and few tools use more.
const MAX_CPUS: u32 = 4;

/// What `recipe` takes.
pub fn needs(recipe: &Recipe, facts: &HostFacts, overrides: &Overrides) -> Needs {
    let resources = &recipe.resources;
    let disk = recipe.disk.as_ref().filter(|_| recipe.makes_disk());
    let target_bytes = disk.and_then(|disk| disk.size).map_or(0, |size| size.0);
    let base = facts.base.as_ref().map_or(0, |facts| facts.content_bytes);
    // The tree cannot outgrow the disk; beside it lie the packages and what scripts leave for a while.
    let least = if disk.is_some() { 4 * GIB } else { TREE.saturating_add(base) };
    let in_repository = |stage: &RecipeStage| matches!(stage.stage, Stage::OstreeCommit(_) | Stage::OstreePull(_));
    let repository = if recipe.stages.iter().any(in_repository) { GIB.max(target_bytes) } else { 0 };
    let enough = (target_bytes + 2 * GIB + repository).max(least).next_multiple_of(STEP);
    let scratch = resources.scratch.map_or(enough, |size| size.0);
    let scratch_bytes = overrides.scratch_bytes.unwrap_or(scratch).next_multiple_of(MIB);
    let holds = if disk.is_some() { target_bytes } else { scratch_bytes };
    let archived = recipe.output.formats.iter().any(|format| format.archive().is_some());
    Needs {
        memory_mib: overrides.memory_mib.or(resources.memory.map(|size| size.0 / MIB)).unwrap_or(MEMORY_MIB),
        cpus: overrides.cpus.or(resources.cpus).unwrap_or(facts.cpus.min(MAX_CPUS)).max(1),
        scratch_bytes,
        target_bytes,
        // What is on the scratch disk, once more, with a header of a kilobyte for each file.
        archive_bytes: if archived { scratch_bytes.saturating_mul(2) } else { 0 },
        content_bytes: content(recipe).saturating_add(base).min(holds),
        layer_bytes: facts.base.as_ref().map_or(0, |facts| facts.layer_bytes),
    }
}

/// Rather too much than too little: installed sizes on trixie, amd64, rounded up.
fn content(recipe: &Recipe) -> u64 {
    let package = 25 * MIB;
    let stages = recipe.stages.iter().map(|stage| match &stage.stage {
        Stage::Debootstrap(options) => {
            let base = match options.variant {
                Variant::Extract | Variant::Custom => 0,
                Variant::Essential => 200 * MIB,
                Variant::Minbase | Variant::Apt => 300 * MIB,
                Variant::Important => 450 * MIB,
                Variant::Standard => 700 * MIB,
            };
            base + package * options.include.len() as u64
        }
        Stage::Apt(options) => package * options.packages.len() as u64 * if options.recommends { 3 } else { 1 },
        Stage::Kernel(options) if options.package.contains("cloud") => 250 * MIB,
        Stage::Kernel(_) => 800 * MIB,
        Stage::Locale(_) => 50 * MIB,
        Stage::Bootloader(_) => 100 * MIB,
        // The initramfs.
        Stage::Bootc(_) => 60 * MIB,
        // What it fetches is not known; a system has so much at least.
        Stage::OstreePull(_) => GIB,
        _ => MIB,
    });
    stages.sum::<u64>().saturating_add(recipe.copied())
}
