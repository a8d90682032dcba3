//! The recipe as its author writes it.

use super::document::Node;
use super::finding::Source;
use super::size::{Size, Timeout};
use crate::output::Format;
use particle_vm_protocol::stage::Bootloader;
use particle_vm_protocol::{Engine, Filesystem, PartitionKind, SectorSize, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A recipe: what a bootable Debian image is made of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the image and of its files: small letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What the image is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Debian's name of the architecture.
    #[serde(default)]
    pub architecture: Architecture,
    /// Variables with their default values, for `${NAME}` in the values of the recipe. `--set NAME=VALUE` gives them
    /// another value.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// What the build may reach.
    #[serde(default)]
    pub network: Network,
    /// A container image to start from, instead of the stage `debootstrap`: `docker://HOST/NAME:TAG` or just the name,
    /// `oci:FOLDER:TAG`, `oci-archive:FILE:TAG`, `docker-archive:FILE:NAME`, `containers-storage:NAME`,
    /// `docker-daemon:NAME`. Folders and files are named relative to the recipe's folder.
    #[serde(default, rename = "base-image", skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// How the container image becomes a system; without it, as the image asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// What is done, in this order. The first stage is `debootstrap`, unless there is a `base-image`, with which there need
    /// be no stage, or a commit is fetched and deployed.
    #[serde(default)]
    pub stages: Vec<RecipeStage>,
    /// The disk that is made. With a `base-image` it may be left out. Containers and archives have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// The files that are written.
    #[serde(default)]
    pub output: Output,
    /// Checks that `particle-vm test` and `build --test` run in the booted image.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// What the build takes of the machine. All of it is chosen by particle-vm when it is left out.
    #[serde(default)]
    pub resources: Resources,

    /// Where it was read from.
    #[serde(skip)]
    pub(super) origin: Origin,
}

/// Where a recipe was read from.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) source: Source,
    pub(super) root: Option<Arc<Node>>,
    pub(super) folder: PathBuf,
    pub(super) copied: u64,
    /// What boots a container image or a commit for which no stage says so.
    pub(super) bootloader: Option<Bootloader>,
    /// Whether nobody has written it: it follows from an image that the command line names.
    pub(super) ordered: bool,
}

/// Architectures, by Debian's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// 64-bit PC.
    #[default]
    Amd64,
}

impl Architecture {
    /// Debian's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
        }
    }
}

/// What the build may reach. The VM has no network card; HTTP and HTTPS go through a proxy of the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Hosts beside those of the mirrors that the stages name: `packages.example.org`, `*.example.org`, each with
    /// `:port` for another port than 80 and 443.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// One stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RecipeStage {
    /// What to do.
    #[serde(flatten)]
    pub stage: Stage,
    /// What progress and errors call it; without it, its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time after which it is ended. Without it a time that depends on the type, longer where there is no KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Whether what it makes may be taken over by later builds, which do not run it then. `false` is for one that makes
    /// something else each time it runs, for instance of what it downloads. The stages after it are run each time too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub cache: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// The disk of the formats that are one. Without `partitions` it gets what its bootloader needs and a root file system
/// that takes the rest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Size of the disk, a multiple of 1 MiB. With a `base-image` it may be left out: it follows from the image then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Least size of a disk whose size follows from the image, a multiple of 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// File system of the root partition.
    #[serde(default)]
    pub filesystem: Filesystem,
    /// Size of a logical sector, 512 or 4096 bytes.
    #[serde(default)]
    pub sector_size: SectorSize,
    /// The partitions, in the order of the table, instead of the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<Partition>>,
}

/// One partition. It has either a `size` or `grow: true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// What it is for; decides its type in the partition table.
    pub kind: PartitionKind,
    /// Size, a multiple of 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Take what the other partitions leave. One partition can.
    #[serde(default)]
    pub grow: bool,
    /// Where it is mounted. Most kinds have a place of their own: `/` for `root`, `/boot/efi` for `esp`, `/home` for
    /// `home`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
    /// File system; without it, that of the disk, FAT32 for `esp`, ext4 for `boot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// Label of the partition and of its file system; without it, the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// GUID of the partition; without it, one that follows from the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Mount options, fstab(5). The root of a deployment takes those that the kernel can be told.
    #[serde(default)]
    pub options: Vec<String>,
}

/// The files that are written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Formats of the image; all are made from one build.
    #[serde(default = "raw")]
    pub formats: Vec<Format>,
    /// What the container says of itself, in the formats `oci-archive`, `oci` and `docker-archive`. What is not said here is
    /// as in the `base-image`: labels, variables, program, user, ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// The configuration of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its name, `particle-os:13` or `registry.example.org/particle-os:13`; without it, the name of the image with the
    /// tag `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Its labels. One that the stage `bootc` has made has `containers.bootc` beside them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Environment variables of what runs in it.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The program that runs in it, with its first arguments.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Arguments of the program, or without one the program itself. A bootable container has `/sbin/init`.
    #[serde(default)]
    pub command: Vec<String>,
    /// How its layer is compressed. In a `docker-archive` it is not, as `docker save` has it.
    #[serde(default)]
    pub compression: Compression,
}

/// Compressions of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// What everything can read.
    #[default]
    Gzip,
    /// Smaller, and five times as fast; skopeo, podman and bootc can read it, Docker from version 23 on.
    Zstd,
}

impl Default for Output {
    fn default() -> Self {
        Self { formats: raw(), container: None }
    }
}

fn raw() -> Vec<Format> {
    vec![Format::Raw]
}

/// A check in the booted image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What it proves, in a few words.
    pub name: String,
    /// Shell command that root runs in the booted image. It passes when it exits with 0.
    pub run: String,
    /// Restart the machine before the command. What earlier tests changed on the disk is still there then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboot: bool,
    /// Text that its output must contain too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Shell command whose output is printed when the test fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diag: Option<String>,
    /// Time after which it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

/// What the build takes of the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory of the VM, a multiple of 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Size of the scratch disk, where the tree is built. The disk is sparse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Size>,
    /// Processors of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
}
