//! What is known of an image, and what is to be said of it.

use super::bootc::Bootc;
use super::config::{Config, Layer};
use super::engine::Choice;
use super::findings::Finding;
use super::kernels::{self, Kernel};
use super::loaders::{Bootupd, Loaders};
use super::os::{self, OsRelease, Packages, User};
use super::ostree::Ostree;
use super::tree::{Kind, Tree};
use crate::recipe::ImageDisk;
use serde::Serialize;

/// What `particle-vm inspect` tells of an image; as JSON it is told in `docs/inspect.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What the user called the image.
    pub reference: String,
    /// What a system that is made of it pulls updates from, in ostree's words, or null.
    pub origin: Option<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// The digest of its configuration, which podman and Docker call the id of the image.
    pub config_digest: String,
    /// What is in it.
    #[serde(flatten)]
    pub facts: Facts,
    /// What `build` does with it.
    pub engine: Choice,
    /// What is worth knowing, the worst first.
    pub findings: Vec<Finding>,
}

/// What is in an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Its configuration.
    pub config: Config,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// How many files and folders the merged tree has.
    pub files: u64,
    /// Bytes of their contents; a file with several names counts with each.
    pub bytes: u64,
    /// What os-release(5) says, or null.
    pub os_release: Option<OsRelease>,
    /// The program that would be the first of a booted system, or null.
    pub init: Option<String>,
    /// What dpkg has installed, or null.
    pub packages: Option<Packages>,
    /// Its kernels.
    pub kernels: Vec<Kernel>,
    /// What it has of OSTree.
    pub ostree: Ostree,
    /// What it has of bootc.
    pub bootc: Bootc,
    /// What it has of bootupd.
    pub bootupd: Bootupd,
    /// Its bootloaders.
    pub bootloaders: Loaders,
    /// The file that says how its disk is to be divided.
    pub disk_config: Option<String>,
    /// What it says.
    #[serde(skip)]
    pub disk_text: Option<String>,
    /// Settings for bootc-image-builder.
    pub builder_config: Vec<String>,
    /// Those that people log in as.
    pub users: Vec<User>,
}

impl Facts {
    pub(super) fn of(tree: &Tree, config: Config, layers: Vec<Layer>) -> Self {
        let (mut files, mut bytes) = (0, 0_u64);
        for (_, node) in tree.iter() {
            files += 1;
            if node.kind == Kind::File {
                bytes = bytes.saturating_add(node.size);
            }
        }
        let packages = Packages::of(tree);
        let version = |package: &str| Some(packages.as_ref()?.versions.get(package)?.clone());
        let ostree = Ostree { version: version("libostree-1-1"), ..Ostree::of(tree) };
        let bootc = Bootc { version: version("bootc"), ..Bootc::of(tree, &config.architecture) };
        let init = ["sbin/init", "usr/sbin/init"].iter().find_map(|path| tree.resolve(path.as_bytes()));
        // As image-builder looks for them: the new folder before the old one.
        let there = |name: &'static str| {
            let folders = ["usr/lib/image-builder/bootc", "usr/lib/bootc-image-builder"].into_iter();
            folders.map(move |folder| format!("{folder}/{name}")).filter(|path| tree.has(path))
        };
        let disk_config = there("disk.yaml").next();
        Self {
            os_release: OsRelease::of(tree),
            init: init.map(|path| format!("/{}", String::from_utf8_lossy(&path))),
            kernels: kernels::all(tree),
            bootupd: Bootupd::of(tree),
            bootloaders: Loaders::of(tree),
            disk_text: disk_config.as_deref().and_then(|path| tree.text(path)),
            disk_config,
            builder_config: there("config.toml").chain(there("config.json")).collect(),
            users: os::users(tree),
            config,
            layers,
            files,
            bytes,
            packages,
            ostree,
            bootc,
        }
    }

    /// The kernels that can be booted, from wherever they lie.
    pub(super) fn bootable(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter().filter(|kernel| kernel.image.is_some() || kernel.uki_path.is_some())
    }

    /// The kernel that decides how the image boots: one where OSTree looks for it before others.
    pub(super) fn kernel(&self) -> Option<&Kernel> {
        self.bootable().find(|kernel| kernel.is_in_modules()).or_else(|| self.bootable().next())
    }

    /// Whether the kernel that decides how the image boots is a unified one (UAPI.5 Unified Kernel Image).
    pub fn has_unified_kernel(&self) -> bool {
        self.kernel().is_some_and(|kernel| kernel.uki_path.is_some())
    }

    /// What the image says of its disk.
    pub fn disk(&self) -> ImageDisk {
        let filesystem = ["/filesystem/root/type", "/root-fs-type"].into_iter().find_map(|key| self.bootc.setting(key));
        let file = self.disk_config.clone().map(|path| (path, self.disk_text.clone()));
        ImageDisk { file, filesystem: filesystem.map(str::to_owned) }
    }

    /// Whether a label is there and says something.
    pub(super) fn label(&self, name: &str) -> bool {
        self.config.labels.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
    }
}
