//! What the bootloader asks of the disk.

use super::Checker;
use crate::recipe::layout::firmwares;
use crate::recipe::path::Path;
use crate::recipe::size::MIB;
use crate::recipe::types::{Disk, Partition};
use particle_vm_protocol::stage::{Bootloader, BootloaderType, Firmware};
use particle_vm_protocol::{PartitionKind, SectorSize};

/// Options of the stage alone.
pub fn bootloader(checker: &mut Checker<'_>, path: &Path, options: &Bootloader) {
    let mut earlier = Vec::new();
    for (index, firmware) in options.firmware.iter().enumerate() {
        let path = path.key("firmware").index(index);
        if !checker.reads(&path) {
            continue;
        }
        if earlier.contains(firmware) {
            checker.report(&path, "this firmware is named twice");
        } else {
            earlier.push(*firmware);
        }
        if (options.kind, *firmware) == (BootloaderType::SystemdBoot, Firmware::Bios) {
            let help = "use `type: grub`, or remove `bios`";
            checker.advise(&path, "systemd-boot does not boot on BIOS machines", help);
        }
    }
    if options.timeout > 3600 {
        checker.report(&path.key("timeout"), "the menu waits for an hour at most");
    }
}

/// The partitions that the bootloader has to have and has not, each with a message and what helps.
pub fn lacking(
    bootloader: &Bootloader,
    sector_size: SectorSize,
    partitions: &[Partition],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let firmwares = firmwares(Some(bootloader), sector_size);
    let lacks =
        |firmware, kind| firmwares.contains(&firmware) && !partitions.iter().any(|partition| partition.kind == kind);
    let grub = bootloader.kind == BootloaderType::Grub && sector_size == SectorSize::B512;
    let bios = (grub && lacks(Firmware::Bios, PartitionKind::BiosBoot)).then_some((
        "GRUB on a BIOS machine needs a BIOS boot partition",
        "add `- { kind: bios-boot, size: 1MiB }`, or use `firmware: [uefi]`",
    ));
    let uefi = lacks(Firmware::Uefi, PartitionKind::Esp).then_some((
        "UEFI machines boot from an EFI system partition, and there is none",
        "add `- { kind: esp, size: 64MiB }`, or use `firmware: [bios]`",
    ));
    bios.into_iter().chain(uefi)
}

/// What the bootloader asks of the partitions.
pub fn boots(checker: &mut Checker<'_>, stage: &Path, disk: &Disk, options: &Bootloader, partitions: &[Partition]) {
    let firmwares = firmwares(Some(options), disk.sector_size);
    let list = Path::root().key("disk").key("partitions");
    if firmwares.contains(&Firmware::Bios) && disk.sector_size == SectorSize::B4096 {
        let help = "use `firmware: [uefi]`, or a sector size of 512";
        checker.advise(stage, "a BIOS cannot boot from a disk with sectors of 4096 bytes", help);
    }
    for (message, help) in lacking(options, disk.sector_size, partitions) {
        checker.advise(&list, message, help);
    }
    let Some(index) = partitions.iter().position(|partition| partition.kind == PartitionKind::Esp) else { return };
    let esp = &partitions[index];
    if options.kind == BootloaderType::SystemdBoot && esp.size.is_some_and(|size| size.0 < 128 * MIB) {
        let help = "write at least `128MiB`; `512MiB` leaves room for updates";
        let message = "systemd-boot keeps kernels on the ESP, and they do not fit";
        checker.advise(&list.index(index).key("size"), message, help);
    }
    // grub-efi-amd64 runs grub-install without `--efi-directory` when it is updated.
    if options.kind == BootloaderType::Grub && esp.mountpoint.as_deref() == Some("/efi") {
        let message = "Debian's GRUB updates itself on `/boot/efi` only";
        checker.advise(&list.index(index).key("mountpoint"), message, "remove the key");
    }
}
