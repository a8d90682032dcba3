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

/// Answers to the questions of GRUB's packages, debconf-set-selections(1). An update of the package in the installed system
/// puts the new GRUB where the firmware finds it without a boot entry, as it was installed; it does not touch the boot
/// entries of the machine; and it does not ask for a disk whose boot sector it could write, because nobody knows its
/// name yet.
const GRUB_SELECTIONS: &str = "\
grub-efi-amd64 grub2/force_efi_extra_removable boolean true
grub-efi-amd64 grub2/update_nvram boolean false
grub-pc grub2/force_efi_extra_removable boolean true
grub-pc grub2/update_nvram boolean false
grub-pc grub-pc/install_devices multiselect
grub-pc grub-pc/install_devices_empty boolean true
";

impl Bootloader {
    /// The packages. `grub-pc` and `grub-efi-amd64`, which keep a disk up to date, exclude each other; the modules of both
    /// do not. systemd-boot itself is a dependency of its tools.
    pub fn packages(&self) -> &'static [&'static str] {
        let on = |firmware| self.firmware.contains(&firmware);
        match (self.kind, on(Firmware::Bios), on(Firmware::Uefi)) {
            (BootloaderType::SystemdBoot, ..) => &["systemd-boot"],
            (BootloaderType::Grub, true, false) => &["grub-pc"],
            (BootloaderType::Grub, false, true) => &["grub-efi-amd64"],
            (BootloaderType::Grub, ..) => &["grub-efi-amd64", "grub-pc-bin"],
        }
    }

    /// What the packages would ask for, so that their updates in the installed system do what is done here.
    pub fn selections(&self) -> &'static str {
        match self.kind {
            BootloaderType::Grub => GRUB_SELECTIONS,
            BootloaderType::SystemdBoot => "",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_firmwares_go_together() {
        let packages =
            |firmware: &[Firmware]| Bootloader { firmware: firmware.to_vec(), ..Bootloader::default() }.packages();
        assert_eq!(packages(&[Firmware::Bios, Firmware::Uefi]), ["grub-efi-amd64", "grub-pc-bin"]);
        assert_eq!(packages(&[Firmware::Bios]), ["grub-pc"]);
        assert_eq!(packages(&[Firmware::Uefi]), ["grub-efi-amd64"]);
    }
}
