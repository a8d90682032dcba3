//! The partitions that a disk gets: the default ones, and what an explicit list leaves open.

use super::size::{GIB, MIB, Size};
use super::types::{Disk, Partition, Recipe};
use particle_vm_protocol::disk::fat32_cluster_sectors;
use particle_vm_protocol::stage::{Bootloader, BootloaderType, Firmware};
use particle_vm_protocol::{Filesystem, PartitionKind, SectorSize};

/// What is left free before the first partition and after the last, in bytes: room for the two copies of the partition
/// table, and the alignment of the partitions.
pub const EDGE: u64 = MIB;

/// The firmwares that an image boots on: those that the recipe names, else all that its bootloader can do on the disk.
pub fn firmwares(bootloader: Option<&Bootloader>, sector_size: SectorSize) -> Vec<Firmware> {
    let Some(bootloader) = bootloader else { return Vec::new() };
    if !bootloader.firmware.is_empty() {
        return bootloader.firmware.clone();
    }
    match (bootloader.kind, sector_size) {
        // GRUB's BIOS code reads sectors of 512 bytes only.
        (BootloaderType::Grub, SectorSize::B512) => vec![Firmware::Bios, Firmware::Uefi],
        _ => vec![Firmware::Uefi],
    }
}

/// The partitions with nothing left open but the size of the one that grows: place, file system and label are filled in.
pub fn layout(disk: &Disk, bootloader: Option<&Bootloader>) -> Vec<Partition> {
    let partitions = disk.partitions.clone().unwrap_or_else(|| default_partitions(disk, bootloader));
    partitions.into_iter().map(|partition| fill_in(disk, partition)).collect()
}

impl Recipe {
    /// Gives the disk a size, where it follows from the container image: `image` is what that one asks for.
    pub fn settle_disk(&mut self, image: Size) {
        let disk = self.disk.get_or_insert_default();
        let size = match &disk.partitions {
            None => image,
            Some(partitions) => {
                let fixed = partitions.iter().filter_map(|partition| partition.size);
                let fixed = fixed.fold(2 * EDGE, |sum, size| sum.saturating_add(size.0));
                // One that grows has the image, or what the root has no room for.
                let grows = partitions.iter().any(|partition| partition.grow);
                Size(if grows { fixed.saturating_add(image.0) } else { fixed })
            }
        };
        disk.size.get_or_insert(size.max(disk.min_size.unwrap_or_default()));
    }
}

fn default_partitions(disk: &Disk, bootloader: Option<&Bootloader>) -> Vec<Partition> {
    let firmwares = firmwares(bootloader, disk.sector_size);
    let mut partitions = Vec::new();
    if firmwares.contains(&Firmware::Bios) {
        partitions.push(bare(PartitionKind::BiosBoot, Some(MIB)));
    }
    if firmwares.contains(&Firmware::Uefi) {
        partitions.push(bare(PartitionKind::Esp, Some(esp_size(disk.sector_size, bootloader))));
    }
    partitions.push(bare(PartitionKind::Root, None));
    partitions
}

fn bare(kind: PartitionKind, size: Option<u64>) -> Partition {
    Partition {
        kind,
        size: size.map(Size),
        grow: size.is_none(),
        mountpoint: None,
        filesystem: None,
        label: None,
        uuid: None,
        options: Vec::new(),
    }
}

/// systemd-boot keeps kernels and initramfs on the ESP: room for three of Debian's. GRUB keeps itself only; there the
/// smallest FAT32 decides, see [`smallest_fat32`].
fn esp_size(sector_size: SectorSize, bootloader: Option<&Bootloader>) -> u64 {
    match (bootloader.map(|bootloader| bootloader.kind), sector_size) {
        (Some(BootloaderType::SystemdBoot), _) => GIB / 2,
        (_, SectorSize::B512) => 64 * MIB,
        (_, SectorSize::B4096) => 272 * MIB,
    }
}

/// The smallest partition in bytes, in whole MiB, that takes a FAT32 that firmware accepts.
pub(super) fn smallest_fat32(sector_size: SectorSize) -> u64 {
    let mut size = MIB;
    while fat32_cluster_sectors(size, sector_size).is_none() {
        size += MIB;
    }
    size
}

fn fill_in(disk: &Disk, mut partition: Partition) -> Partition {
    let kind = partition.kind;
    if partition.mountpoint.is_none() {
        partition.mountpoint = own_mountpoint(kind).map(str::to_owned);
    }
    if partition.filesystem.is_none() {
        partition.filesystem = match kind {
            PartitionKind::BiosBoot => None,
            PartitionKind::Esp => Some(Filesystem::Vfat),
            PartitionKind::Swap => Some(Filesystem::Swap),
            PartitionKind::Boot => Some(Filesystem::Ext4),
            _ => Some(disk.filesystem),
        };
    }
    if partition.label.is_none() {
        partition.label = Some(own_label(kind).to_owned());
    }
    partition
}

/// Where partitions of this kind are mounted, as far as they have a place of their own.
pub(super) fn own_mountpoint(kind: PartitionKind) -> Option<&'static str> {
    match kind {
        PartitionKind::Root => Some("/"),
        PartitionKind::Esp => Some("/boot/efi"),
        PartitionKind::Boot => Some("/boot"),
        PartitionKind::Home => Some("/home"),
        PartitionKind::Srv => Some("/srv"),
        PartitionKind::Var => Some("/var"),
        PartitionKind::Tmp => Some("/var/tmp"),
        PartitionKind::BiosBoot | PartitionKind::Swap | PartitionKind::Linux => None,
    }
}

/// FAT labels are in capitals by custom; `esp` as a partition label is what systemd's tools use.
fn own_label(kind: PartitionKind) -> &'static str {
    match kind {
        PartitionKind::Root => "root",
        PartitionKind::Esp => "esp",
        PartitionKind::Boot => "boot",
        PartitionKind::Home => "home",
        PartitionKind::Srv => "srv",
        PartitionKind::Var => "var",
        PartitionKind::Tmp => "tmp",
        PartitionKind::BiosBoot => "bios-boot",
        PartitionKind::Swap => "swap",
        PartitionKind::Linux => "data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_fat32_depends_on_the_sector() {
        assert_eq!(smallest_fat32(SectorSize::B512) / MIB, 33);
        assert_eq!(smallest_fat32(SectorSize::B4096) / MIB, 257);
        for sector_size in [SectorSize::B512, SectorSize::B4096] {
            assert!(esp_size(sector_size, None) >= smallest_fat32(sector_size));
        }
    }
}
