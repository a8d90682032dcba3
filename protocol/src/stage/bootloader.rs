//! Options of the `bootloader` stage.

use serde::{Deserialize, Serialize};

/// Options of `bootloader`. Its packages are installed where the stage stands; it is put on the disk at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bootloader {
    /// Which bootloader.
    #[serde(default, rename = "type")]
    pub kind: BootloaderType,
    /// Which firmwares it boots on; without it, all that the bootloader can do.
    #[serde(default)]
    pub firmware: Vec<Firmware>,
    /// Seconds that the menu waits.
    #[serde(default)]
    pub timeout: u32,
}

/// Bootloaders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BootloaderType {
    /// Debian's GRUB, for BIOS and UEFI. In the installed system updates of its packages reach the disk for both.
    #[default]
    Grub,
    /// systemd-boot, for UEFI.
    SystemdBoot,
}

/// Firmwares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        })
    }
}
