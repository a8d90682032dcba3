//! Options of the stages that make a tree a bootable container.

use crate::disk::Filesystem;
use serde::{Deserialize, Serialize};

/// Options of `bootc`: the layout of a bootable container, and what its installation goes by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bootc {
    /// Arguments of the kernel command line of every system that is made of the container, beside those of the stage
    /// `kernel`. None has blanks or quotes.
    #[serde(default)]
    pub kargs: Vec<String>,
    /// What an installation to a disk goes by, unless it is told otherwise.
    #[serde(default)]
    pub install: BootcInstall,
    /// How the initramfs mounts the root.
    #[serde(default)]
    pub prepare_root: PrepareRoot,
}

/// `/usr/lib/bootc/install/50-particle-vm.toml`, bootc-install-config(5).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootcInstall {
    /// File system of the root; without it, whoever installs has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// Arguments of the kernel command line that are set when it is installed, and not changed by updates.
    #[serde(default)]
    pub kargs: Vec<String>,
    /// Name of the state root, where `/var` is kept; without it, `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateroot: Option<String>,
}

/// `/usr/lib/ostree/prepare-root.conf`, ostree-prepare-root(1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrepareRoot {
    /// Whether the root is a composefs.
    #[serde(default)]
    pub composefs: Composefs,
    /// Mount `/sysroot` read-only, so that only updates write to it.
    #[serde(default = "yes")]
    pub readonly: bool,
    /// Forget the changes in `/etc` at every start.
    #[serde(default)]
    pub transient_etc: bool,
}

impl Default for PrepareRoot {
    fn default() -> Self {
        Self { composefs: Composefs::default(), readonly: true, transient_etc: false }
    }
}

fn yes() -> bool {
    true
}

/// Whether the root is a composefs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Composefs {
    /// It is.
    #[default]
    Yes,
    /// It is the checked-out folder, with a read-only `/usr`.
    No,
    /// It is, and each file is held against its digest when it is read (fs-verity).
    Verity,
}

impl Composefs {
    /// The word in prepare-root.conf.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Verity => "verity",
        }
    }
}

/// Options of `bootc.install`: the container image installs itself, bootc-install-to-filesystem(8). It is what
/// `engine: bootc` says, with what else can be said of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InstallToFilesystem {
    /// Kernel arguments, beside those of the stage `kernel`.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// The image in a registry that the system is updated from, `HOST/NAME:TAG`; without it, the one that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_imgref: Option<String>,
}

/// Options of `bootupd`: what `bootupctl` of the tree installs and updates the bootloader with. It is made of Debian's
/// packages `grub-efi-amd64-bin`, `grub2-common` and `grub-pc-bin`, 2.14 or newer, and `shim-unsigned` or `shim-signed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bootupd {
    /// Write the static configuration of GRUB that `bootupctl` installs with the bootloader, where the package of bootupd
    /// brings none, and the menu also in place of one that only Fedora's GRUB understands: the entries in
    /// `/boot/loader/entries`.
    #[serde(default = "yes")]
    pub static_configs: bool,
}

impl Default for Bootupd {
    fn default() -> Self {
        Self { static_configs: true }
    }
}
