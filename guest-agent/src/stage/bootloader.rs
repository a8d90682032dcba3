//! `bootloader`: the packages of a bootloader and its settings. It is put on the disk at the end.

use super::{Site, apt, wrong};
use crate::boot::{grub, systemd_boot};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{Bootloader, BootloaderType, Firmware};

/// Write the settings and install the packages.
pub(super) fn perform(site: &mut Site<'_>, options: &Bootloader) -> Result<(), Failure> {
    let tree = site.tree()?;
    let packages = match options.kind {
        BootloaderType::Grub => {
            tree.write(grub::SETTINGS, grub::settings(site.plan, options.timeout), 0o644)?;
            grub::packages(&options.firmware)
        }
        BootloaderType::SystemdBoot => {
            if options.firmware.contains(&Firmware::Bios) {
                return Err(wrong("systemd-boot boots on UEFI only"));
            }
            systemd_boot::configure(tree)?;
            &["systemd-boot"][..]
        }
    };
    if options.kind == BootloaderType::Grub {
        // What the packages would ask for, so that their updates in the installed system do what is done here.
        let command = site.command("debconf-set-selections")?.input(grub::SELECTIONS);
        site.context.run(&command)?;
    }
    apt::install(site, packages, false)
}
