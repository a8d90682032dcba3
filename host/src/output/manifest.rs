//! `manifest.json`: what went into an image and what came out.

use super::Format;
use crate::event::Program;
use particle_vm_protocol::message::Deployed;
use particle_vm_protocol::stage::Firmware;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Version of the manifest's format. It grows when a field changes its meaning or goes away, not when one is added.
pub const MANIFEST_VERSION: u32 = 1;

/// Its name in the output folder.
pub(super) const FILE: &str = "manifest.json";

/// The manifest of one build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// What made the image.
    pub tool: Tool,
    /// When the outputs were complete.
    pub created: jiff::Timestamp,
    /// What it was made from.
    pub recipe: Recipe,
    /// Where it was made.
    pub appliance: Appliance,
    /// What mattered of the host.
    pub host: Host,
    /// The stages that were not run, because an earlier build had made the same. What they have fetched is among the inputs.
    #[serde(default)]
    pub reused: Vec<String>,
    /// What was fetched through the proxy, in the order in which it ended.
    pub inputs: Vec<Input>,
    /// How many requests are missing from `inputs` because there were too many.
    pub inputs_omitted: u64,
    /// The firmwares that the image boots on; empty for what is no disk.
    #[serde(default)]
    pub firmware: Vec<Firmware>,
    /// Installed packages of the image, `name:architecture` to version.
    pub packages: BTreeMap<String, String>,
    /// The OSTree commit that is the system; none where the image has another kind.
    #[serde(default)]
    pub deployed: Option<Deployed>,
    /// Bytes that the files in the image occupy.
    pub content_bytes: u64,
    /// Most bytes that were in use on the scratch disk.
    pub scratch_bytes: u64,
    /// The images.
    pub outputs: Vec<Output>,
    /// How long things took, in the order in which they ended.
    pub timings: Vec<Timing>,
}

impl Manifest {
    /// The manifest of a build whose outputs are still to be made; [`super::OutputFolder::publish`] fills in the rest.
    pub fn new(recipe: Recipe, appliance: Appliance, host: Host) -> Self {
        Self {
            manifest_version: MANIFEST_VERSION,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").into(),
                version: env!("CARGO_PKG_VERSION").into(),
                build: particle_vm_protocol::BUILD_ID.into(),
            },
            created: jiff::Timestamp::now(),
            recipe,
            appliance,
            host,
            reused: Vec::new(),
            inputs: Vec::new(),
            inputs_omitted: 0,
            firmware: Vec::new(),
            packages: BTreeMap::new(),
            deployed: None,
            content_bytes: 0,
            scratch_bytes: 0,
            outputs: Vec::new(),
            timings: Vec::new(),
        }
    }

    /// Whose outputs lie in the folder `dir`, also when an older or a newer version has made them.
    pub(super) fn owner(dir: &Path) -> Owner {
        let text = match std::fs::read(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Owner::Nobody,
            Err(_) => return Owner::Stranger,
            Ok(text) => text,
        };
        match serde_json::from_slice(&text) {
            Ok(Named { manifest_version: 1.., recipe: NamedRecipe { name } }) => Owner::Recipe(name),
            Ok(_) | Err(_) => Owner::Stranger,
        }
    }

    /// The manifest in the output folder `dir`; none when there is none that this program can read.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
    }
}

/// Whose outputs lie in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// None do.
    Nobody,
    /// Those of the recipe of this name.
    Recipe(String),
    /// Nobody knows: there is a file of the manifest's name that no build has made.
    Stranger,
}

/// What of a manifest is the same in all versions.
#[derive(Deserialize)]
struct Named {
    manifest_version: u32,
    recipe: NamedRecipe,
}

#[derive(Deserialize)]
struct NamedRecipe {
    name: String,
}

/// The program that made the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `particle-vm`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// [`particle_vm_protocol::BUILD_ID`]: a digest of the guest agent's sources.
    pub build: String,
}

/// The recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its name, which the outputs bear.
    pub name: String,
    /// Its path as it was given, or the container image.
    pub path: String,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// Values of its variables that the command line gave.
    pub variables: BTreeMap<String, String>,
    /// SHA-256 of the plan that it became, in hexadecimal: what the guest was told to do.
    pub plan: String,
    /// The files of its folder that were used, by their paths in it, as they were when the build began.
    pub files: BTreeMap<String, File>,
}

/// A file of the recipe's folder; a symbolic link counts as a file that contains its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appliance {
    /// Its digest, the name of its folder.
    pub digest: String,
    /// Release of its kernel.
    pub kernel: String,
}

/// What mattered of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Version of QEMU.
    pub qemu: String,
    /// Release of the host's kernel.
    pub kernel: String,
    /// Processors that the VM had.
    pub cpus: u32,
    /// Memory of the VM in MiB.
    pub memory_mib: u64,
}

/// Something that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The URL; `host:port` for a tunnel, whose content is encrypted.
    pub url: String,
    /// Status of the response; none for a tunnel.
    pub status: Option<u16>,
    /// Bytes that came.
    pub size: u64,
    /// SHA-256 of these bytes in hexadecimal; none for a tunnel, and for a part of what the store holds.
    pub sha256: Option<String>,
    /// Whether that is all of it; nobody can tell that of a tunnel.
    pub complete: bool,
    /// Whether it came from the store on this machine.
    pub from_store: bool,
}

/// One image: a file, or a folder of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Path of the file or folder, from the folder of the manifest.
    pub file: String,
    /// Its format.
    pub format: Format,
    /// Length of the file in bytes, or of the files together.
    pub size: u64,
    /// Bytes that this takes on the disk here.
    pub allocated: u64,
    /// Size of the disk that a machine sees, in bytes; none for what is no disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// SHA-256 in hexadecimal; for a folder, that of the lines that `SHA256SUMS` has for its files.
    pub sha256: String,
    /// The container, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The commit, if it is an OSTree repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Digest of its manifest; of a `docker-archive`, of its configuration.
    pub digest: String,
    /// Its name.
    pub reference: String,
}

/// An OSTree commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The ref that names it.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Its checksum.
    pub checksum: String,
    /// The public ed25519 key whose signature it has, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// How long something took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// `stage` for one in the guest, `step` for one of the host.
    pub kind: TimingKind,
    /// Its title.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// Processor time in the guest, of a stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// The programs that took most of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
}

/// Where something took its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimingKind {
    /// In the guest, as the recipe says.
    Stage,
    /// On the host.
    Step,
}
