//! `bootloader`: the packages of a bootloader and its settings. It is put on the disk at the end.

use super::{Site, apt, debconf, wrong};
use crate::boot::{grub, systemd_boot};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{Bootloader, BootloaderType, Firmware};

/// Write the settings and install the packages.
pub(super) fn perform(site: &mut Site<'_>, options: &Bootloader) -> Result<(), Failure> {
    let tree = site.tree()?;
    match options.kind {
        BootloaderType::Grub => {
            tree.write(grub::SETTINGS, grub::settings(site.plan, options.timeout), 0o644)?;
            if options.firmware.contains(&Firmware::Bios) {
                tree.write(grub::UPDATES_PATH, grub::UPDATES, 0o644)?;
            }
        }
        BootloaderType::SystemdBoot => {
            if options.firmware.contains(&Firmware::Bios) {
                return Err(wrong("systemd-boot boots on UEFI only"));
            }
            systemd_boot::configure(tree, site.plan)?;
        }
    }
    debconf::select(site, options.selections())?;
    apt::install(site, options.packages(), false)
}
