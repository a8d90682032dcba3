//! What an image has to boot with: bootupd with its updates, GRUB, systemd-boot, shim.

use super::limits;
use super::tree::{Kind, Node, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an image has of bootupd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Bootupd {
    /// Whether it has the program `bootupctl`.
    pub binary: bool,
    /// Whether it has `/usr/lib/bootupd/updates`.
    pub updates: bool,
    /// What its updates bring, by component: `BIOS`, `EFI`.
    pub components: BTreeMap<String, Component>,
    /// Whether it has the static configuration for GRUB.
    pub static_configs: bool,
    /// What is wrong with the metadata.
    pub problems: Vec<String>,
}

/// A component of bootupd (its `ContentMetadata`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it is made of, with versions.
    pub version: String,
    /// When its packages were made, in RFC 3339.
    pub timestamp: Option<String>,
}

/// The bootloaders that lie in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Loaders {
    /// GRUB's platforms: `i386-pc`, `x86_64-efi`.
    pub grub: Vec<String>,
    /// Whether its GRUB reads entries of the Boot Loader Specification (module `blsuki` or `blscfg`).
    pub grub_bls: bool,
    /// GRUB for UEFI that is signed for Secure Boot.
    pub grub_signed: Vec<String>,
    /// systemd-boot.
    pub systemd_boot: Vec<String>,
    /// shim.
    pub shim: Vec<String>,
    /// A configuration of GRUB that came with the image.
    pub configs: Vec<String>,
}

/// Most files of each kind that are listed.
const MAX_LISTED: usize = 32;

impl Bootupd {
    pub(super) fn of(tree: &Tree) -> Self {
        let folder = "usr/lib/bootupd/updates";
        let mut bootupd = Self {
            binary: ["usr/bin/bootupctl", "usr/libexec/bootupd"]
                .iter()
                .any(|path| tree.find(path).is_some_and(Node::is_program)),
            updates: tree.find(folder).is_some_and(|node| node.kind == Kind::Folder),
            static_configs: tree.has("usr/lib/bootupd/grub2-static"),
            ..Self::default()
        };
        for (name, _) in tree.list(folder).into_iter().take(limits::CONFIGS) {
            let Some(component) = name.strip_suffix(".json") else { continue };
            let Some(text) = tree.text(&format!("{folder}/{name}")) else { continue };
            match serde_json::from_str::<Component>(&text) {
                Ok(found) => drop(bootupd.components.insert(component.to_owned(), found)),
                Err(error) => bootupd.problems.push(format!("{name}: {error}")),
            }
        }
        bootupd
    }
}

impl Loaders {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut loaders = Self::default();
        for (platform, node) in tree.list("usr/lib/grub") {
            if node.kind == Kind::Folder && tree.has(&format!("usr/lib/grub/{platform}/normal.mod")) {
                let has = |module: &str| tree.has(&format!("usr/lib/grub/{platform}/{module}.mod"));
                loaders.grub_bls |= has("blsuki") || has("blscfg");
                loaders.grub.push(platform);
            }
        }
        for (path, node) in tree.within(b"usr/lib") {
            if node.kind != Kind::File {
                continue;
            }
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let list = match name {
                b"systemd-bootx64.efi"
                | b"systemd-bootx64.efi.signed"
                | b"systemd-bootaa64.efi"
                | b"systemd-bootaa64.efi.signed" => &mut loaders.systemd_boot,
                b"shimx64.efi" | b"shimx64.efi.signed" | b"shimaa64.efi" | b"shimaa64.efi.signed" => &mut loaders.shim,
                b"grubx64.efi.signed" | b"grubaa64.efi.signed" => &mut loaders.grub_signed,
                _ => continue,
            };
            if list.len() < MAX_LISTED {
                list.push(String::from_utf8_lossy(path).into_owned());
            }
        }
        let configs = ["boot/grub/grub.cfg", "boot/grub2/grub.cfg", "boot/loader/loader.conf"];
        loaders.configs = configs.into_iter().filter(|path| tree.has(path)).map(ToOwned::to_owned).collect();
        loaders
    }
}
