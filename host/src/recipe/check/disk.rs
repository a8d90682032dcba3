//! The disk, its partitions, and what the bootloader asks of them.

use super::{Checker, names};
use crate::recipe::layout::{EDGE, firmwares, layout, smallest_fat32};
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use crate::recipe::size::{GIB, MIB, Size};
use crate::recipe::types::{Disk, Partition};
use particle_vm_protocol::stage::{Bootloader, BootloaderType, Firmware, Variant};
use particle_vm_protocol::{Filesystem, PartitionKind, SectorSize, Stage};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Largest disk: what ext4 on the build machine can hold as one sparse file is 16 TiB, and half of that leaves room for
/// the metadata of every format.
const MAX_DISK: u64 = 8192 * GIB;

/// Options of the stage alone.
pub fn bootloader(checker: &mut Checker<'_>, path: &Path, options: &Bootloader) {
    for (index, firmware) in options.firmware.iter().enumerate() {
        if options.firmware[..index].contains(firmware) {
            checker.report(&path.key("firmware").index(index), "this firmware is named twice");
        }
        if (options.kind, *firmware) == (BootloaderType::SystemdBoot, Firmware::Bios) {
            let help = "use `type: grub`, or remove `bios`";
            checker.advise(&path.key("firmware").index(index), "systemd-boot does not boot on BIOS machines", help);
        }
    }
    if options.timeout > 3600 {
        checker.report(&path.key("timeout"), "the menu waits for an hour at most");
    }
}

/// The disk with the rest of the recipe.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let Some(disk) = &sections.disk else { return };
    let written = sections.stages.iter().position(|(kind, _)| kind.as_deref() == Some("bootloader"));
    let readable = sections.stages.iter().enumerate().find_map(|(index, (_, stage))| match &stage.as_ref()?.stage {
        Stage::Bootloader(options) => Some((index, options)),
        _ => None,
    });
    let path = Path::root().key("disk");
    let sizes_fit = size(checker, &path.key("size"), disk.size);
    if disk.partitions.is_none() && !holds_root(disk.filesystem) {
        let message = "this file system cannot hold the root of a Debian system";
        checker.advise(&path.key("filesystem"), message, "it is `ext4`, `xfs` or `btrfs`");
        return;
    }
    let bootloader = readable.map(|(_, options)| options);
    // Without the bootloader's options the default partitions are not known.
    if disk.partitions.is_none() && written.is_some() && bootloader.is_none() {
        return;
    }
    let partitions = layout(disk, bootloader);
    let before = checker.findings.len();
    let list = path.key("partitions");
    // A GPT as every tool writes it has 128 entries.
    if partitions.len() > 128 {
        return checker.report(&list, "a disk has at most 128 partitions");
    }
    for (index, partition) in partitions.iter().enumerate() {
        one(checker, disk, &list.index(index), partition);
    }
    together(checker, &list, &partitions);
    if let Some((index, options)) = readable {
        let stage = Path::root().key("stages").index(index).key("options").key("firmware");
        boots(checker, &stage, disk, options, &partitions);
    }
    if sizes_fit && checker.findings.len() == before {
        fits(checker, &path, disk, &partitions, sections);
    }
}

fn size(checker: &mut Checker<'_>, path: &Path, size: Size) -> bool {
    let before = checker.findings.len();
    if size.0 == 0 {
        checker.advise(path, "the disk has a size of 0", "a minimal Debian takes 1GiB, a comfortable one 4GiB");
    } else if size.0 > MAX_DISK {
        checker.advise(
            path,
            format!("a disk of {size} is more than the {} that are possible", Size(MAX_DISK)),
            "4GiB will do for most",
        );
    } else {
        multiple(checker, path, size);
    }
    checker.findings.len() == before
}

const GB: u64 = 1_000_000_000;

fn multiple(checker: &mut Checker<'_>, path: &Path, size: Size) {
    if !size.0.is_multiple_of(MIB) {
        let help = if size.0.is_multiple_of(1_000_000) {
            let near = if size.0.is_multiple_of(GB) {
                format!("{}GiB", size.0 / GB)
            } else {
                format!("{}MiB", size.0 / 1_000_000)
            };
            format!("GB and MB count in thousands; write `{near}`")
        } else {
            format!("write `{}`", Size(size.0.next_multiple_of(MIB)))
        };
        checker.advise(path, "the size is not a multiple of 1MiB", help);
    }
}

/// What a partition is by itself.
fn one(checker: &mut Checker<'_>, disk: &Disk, path: &Path, partition: &Partition) {
    match (partition.size, partition.grow) {
        (Some(_), true) => checker.advise(path, "this partition has a size and grows", "keep `size` or `grow: true`"),
        (None, false) => checker.advise(
            path,
            "this partition has no size",
            "give it `size`, or `grow: true` for the rest of the disk",
        ),
        (Some(Size(0)), false) => checker.report(&path.key("size"), "the partition has a size of 0"),
        (Some(size), false) => multiple(checker, &path.key("size"), size),
        (None, true) => {}
    }
    mountpoint(checker, path, partition);
    filesystem(checker, path, partition);
    if let Some(least) = least_size(disk.sector_size, partition)
        && partition.size.is_some_and(|size| size.0 > 0 && size < least.0)
    {
        checker.advise(
            &path.key("size"),
            format!("{} is too small: {}", partition.size.unwrap_or(Size(0)), least.1),
            format!("write at least `{}`", least.0),
        );
    }
    label(checker, path, partition);
    if let Some(uuid) = partition.uuid.as_ref().filter(|uuid| uuid.len() != 36 || Uuid::parse_str(uuid).is_err()) {
        checker.advise(
            &path.key("uuid"),
            format!("`{uuid}` is not a UUID"),
            "`uuidgen` makes one; without the key it follows from the recipe",
        );
    }
    for (index, option) in partition.options.iter().enumerate() {
        if option.is_empty() || option.contains(|c: char| c == ',' || c.is_control() || c.is_whitespace()) {
            let help = "each option is an item of the list: `[noatime, compress=zstd]`";
            checker.advise(&path.key("options").index(index), format!("`{option}` is not one mount option"), help);
        }
        mount_option(checker, &path.key("options").index(index), partition, option);
    }
}

/// Options with which the image would not come up.
fn mount_option(checker: &mut Checker<'_>, path: &Path, partition: &Partition, option: &str) {
    let name = option.split('=').next().unwrap_or_default();
    if partition.filesystem == Some(Filesystem::Btrfs) && matches!(name, "subvol" | "subvolid") {
        let help = "remove it: a partition is mounted whole";
        checker.advise(path, "the build makes no Btrfs subvolumes", help);
    } else if partition.kind == PartitionKind::Root && name == "data" {
        let help =
            "the initramfs mounts it before that; `tune2fs -o journal_data` in the installed system does the same";
        checker.advise(path, "the kernel refuses to change how a mounted ext4 keeps its journal", help);
    }
}

fn mountpoint(checker: &mut Checker<'_>, path: &Path, partition: &Partition) {
    let Some(place) = &partition.mountpoint else { return };
    let path = path.key("mountpoint");
    let mounted_elsewhere = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    let part_of_root = ["/etc", "/bin", "/sbin", "/lib", "/lib64"];
    let is_or_below = |roots: &[&str]| {
        roots.iter().any(|root| place.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    match partition.kind {
        PartitionKind::BiosBoot | PartitionKind::Swap => {
            checker.advise(&path, "this kind of partition is not mounted", "remove the key")
        }
        _ if !names::absolute(place)
            || place.len() > 1 && place.ends_with('/')
            || place.contains(char::is_whitespace) =>
        {
            checker.advise(&path, format!("`{place}` is not an absolute path"), "for instance `/srv`");
        }
        PartitionKind::Root if place != "/" => {
            checker.advise(&path, "the root partition is mounted on `/`", "remove the key, or use `kind: linux`")
        }
        kind if place == "/" && kind != PartitionKind::Root => {
            checker.advise(&path, "only the root partition is mounted on `/`", "use `kind: root`")
        }
        PartitionKind::Esp if !["/boot/efi", "/efi"].contains(&place.as_str()) => {
            checker.advise(&path, "Debian's tools look for the ESP on `/boot/efi` or `/efi`", "remove the key");
        }
        _ if is_or_below(&mounted_elsewhere) => checker.advise(
            &path,
            format!("something else is mounted on `{place}` in a running system"),
            "choose another place",
        ),
        _ if is_or_below(&part_of_root) => checker.advise(
            &path,
            format!("`{place}` is needed before it could be mounted"),
            "leave it on the root partition",
        ),
        _ => {}
    }
}

fn holds_root(filesystem: Filesystem) -> bool {
    matches!(filesystem, Filesystem::Ext4 | Filesystem::Xfs | Filesystem::Btrfs)
}

fn filesystem(checker: &mut Checker<'_>, path: &Path, partition: &Partition) {
    let path = path.key("filesystem");
    let Some(filesystem) = partition.filesystem else { return };
    match (partition.kind, filesystem) {
        (PartitionKind::BiosBoot, _) => {
            checker.advise(&path, "a BIOS boot partition has no file system", "remove the key")
        }
        (PartitionKind::Esp, Filesystem::Vfat) | (PartitionKind::Swap, Filesystem::Swap) => {}
        (PartitionKind::Esp, _) => {
            checker.advise(&path, "firmware reads an ESP with FAT32 only", "remove the key, or write `vfat`")
        }
        (PartitionKind::Swap, _) => checker.advise(&path, "a swap partition holds swap space", "remove the key"),
        (_, Filesystem::Swap) => {
            checker.advise(&path, "swap space belongs into a partition of `kind: swap`", "use `kind: swap`")
        }
        (PartitionKind::Linux, Filesystem::Vfat) => {}
        (_, Filesystem::Vfat) => checker.advise(
            &path,
            "FAT has no owners and no links, which Debian needs here",
            "it is `ext4`, `xfs` or `btrfs`",
        ),
        _ => {}
    }
}

/// The smallest size of a partition and the reason.
fn least_size(sector_size: SectorSize, partition: &Partition) -> Option<(Size, &'static str)> {
    Some(match (partition.kind, partition.filesystem?) {
        (PartitionKind::Esp, _) | (_, Filesystem::Vfat) => (
            Size(smallest_fat32(sector_size)),
            match sector_size {
                SectorSize::B512 => "a FAT32 has at least 65525 clusters of 512 bytes, and firmware sees no other",
                SectorSize::B4096 => "a FAT32 has at least 65525 clusters of 4096 bytes, and firmware sees no other",
            },
        ),
        // mkfs.xfs(8) refuses less since xfsprogs 5.19.
        (_, Filesystem::Xfs) => (Size(300 * MIB), "mkfs.xfs makes no file system below 300MiB"),
        // mkfs.btrfs(8) with one device and default profiles.
        (_, Filesystem::Btrfs) => (Size(128 * MIB), "mkfs.btrfs makes no file system below 109MiB"),
        (PartitionKind::Boot, _) => (Size(128 * MIB), "a kernel and its initramfs take 100MiB"),
        (_, Filesystem::Ext4) => (Size(8 * MIB), "the journal of an ext4 does not fit"),
        (_, Filesystem::Swap) => return None,
    })
}

/// Lengths: 36 UTF-16 units in a GPT; mke2fs(8), mkfs.xfs(8), mkfs.fat(8), mkswap(8) for the file systems.
fn label(checker: &mut Checker<'_>, path: &Path, partition: &Partition) {
    let Some(label) = &partition.label else { return };
    let most = match partition.filesystem {
        None | Some(Filesystem::Btrfs) => 36,
        Some(Filesystem::Ext4) => 16,
        Some(Filesystem::Xfs) => 12,
        Some(Filesystem::Vfat) => 11,
        Some(Filesystem::Swap) => 15,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if label.is_empty() || label.len() > most || !label.chars().all(plain) {
        let message = format!("`{label}` cannot be the label of this partition");
        checker.advise(
            &path.key("label"),
            message,
            format!("letters, digits, `-`, `_` and `.`, at most {most} characters"),
        );
    }
}

/// What the partitions are together.
fn together(checker: &mut Checker<'_>, list: &Path, partitions: &[Partition]) {
    for (index, partition) in partitions.iter().enumerate() {
        let (earlier, path) = (&partitions[..index], list.index(index));
        let twice = |same: &dyn Fn(&Partition) -> bool| earlier.iter().any(same);
        let kind = partition.kind;
        let single =
            matches!(kind, PartitionKind::Root | PartitionKind::Esp | PartitionKind::BiosBoot | PartitionKind::Boot);
        if single && twice(&|other| other.kind == kind) {
            checker.report(&path.key("kind"), "there can be one partition of this kind only");
        } else if let Some(place) =
            partition.mountpoint.as_ref().filter(|_| twice(&|other| other.mountpoint == partition.mountpoint))
        {
            checker.report(&path.key("mountpoint"), format!("two partitions are mounted on `{place}`"));
        } else if let Some(label) = partition.label.as_ref().filter(|_| twice(&|other| other.label == partition.label))
        {
            let help = "give this one a `label` of its own";
            checker.advise(&path.key("label"), format!("two partitions have the label `{label}`"), help);
        }
        if partition.uuid.is_some() && twice(&|other| other.uuid == partition.uuid) {
            checker.report(&path.key("uuid"), "two partitions have the same UUID");
        }
        if partition.grow && twice(&|other| other.grow) {
            checker.advise(&path.key("grow"), "a second partition that takes the rest of the disk", "give it a `size`");
        }
    }
    if !partitions.iter().any(|partition| partition.kind == PartitionKind::Root) {
        checker.advise(list, "no partition holds the root file system", "add `- { kind: root, grow: true }`");
    }
}

/// What the bootloader asks of the partitions.
fn boots(checker: &mut Checker<'_>, stage: &Path, disk: &Disk, options: &Bootloader, partitions: &[Partition]) {
    let firmwares = firmwares(Some(options), disk.sector_size);
    let list = Path::root().key("disk").key("partitions");
    let has = |kind: PartitionKind| partitions.iter().any(|partition| partition.kind == kind);
    if firmwares.contains(&Firmware::Bios) {
        if disk.sector_size == SectorSize::B4096 {
            let help = "use `firmware: [uefi]`, or a sector size of 512";
            checker.advise(stage, "a BIOS cannot boot from a disk with sectors of 4096 bytes", help);
        } else if options.kind == BootloaderType::Grub && !has(PartitionKind::BiosBoot) {
            let help = "add `- { kind: bios-boot, size: 1MiB }`, or use `firmware: [uefi]`";
            checker.advise(&list, "GRUB on a BIOS machine needs a BIOS boot partition", help);
        }
    }
    if firmwares.contains(&Firmware::Uefi) && !has(PartitionKind::Esp) {
        let help = "add `- { kind: esp, size: 64MiB }`, or use `firmware: [bios]`";
        checker.advise(&list, "UEFI machines boot from an EFI system partition, and there is none", help);
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

/// Whether the partitions fit on the disk and the content into the root.
fn fits(checker: &mut Checker<'_>, path: &Path, disk: &Disk, partitions: &[Partition], sections: &Sections) {
    let fixed: u64 =
        partitions.iter().filter_map(|partition| partition.size).fold(2 * EDGE, |sum, size| sum.saturating_add(size.0));
    let Some(rest) = disk.size.0.checked_sub(fixed) else {
        let message = format!("the partitions take {} with their table, and the disk has {}", Size(fixed), disk.size);
        return checker.advise(&path.key("size"), message, format!("write at least `{}`", Size(fixed)));
    };
    for (index, partition) in partitions.iter().enumerate() {
        let size = partition.size.map_or(rest, |size| size.0);
        let own = least_size(disk.sector_size, partition)
            .map_or((0, "a partition cannot be empty"), |(size, why)| (size.0, why));
        let content = if partition.kind == PartitionKind::Root { least_content(partitions, sections) } else { 0 };
        let (least, why) = if content > own.0 { (content, "the packages of the stages do not fit") } else { own };
        if size < least.max(1) {
            let written = disk.partitions.is_some();
            let place = if partition.grow || !written {
                path.key("size")
            } else {
                path.key("partitions").index(index).key("size")
            };
            let what = partition.label.as_deref().unwrap_or_default();
            let message = format!("{} for the partition `{what}` is too little: {why}", Size(size));
            let missing = Size((least - size).next_multiple_of(MIB));
            checker.advise(&place, message, format!("make it larger by at least {missing}"));
        }
    }
}

/// What the root certainly holds, in bytes: the smallest trees of bookworm and trixie as they come, without anything
/// that lies on a partition of its own.
fn least_content(partitions: &[Partition], sections: &Sections) -> u64 {
    let places: BTreeSet<&str> = partitions.iter().filter_map(|partition| partition.mountpoint.as_deref()).collect();
    if places.contains("/usr") {
        return 0;
    }
    let stages = sections.stages.iter().filter_map(|(_, stage)| stage.as_ref());
    stages
        .map(|stage| match &stage.stage {
            Stage::Debootstrap(options) => match options.variant {
                Variant::Extract | Variant::Custom => 0,
                Variant::Essential | Variant::Minbase | Variant::Apt => 120 * MIB,
                Variant::Important | Variant::Standard => 180 * MIB,
            },
            Stage::Kernel(options) if options.package == "linux-image-amd64" => 300 * MIB,
            Stage::Kernel(_) => 60 * MIB,
            _ => 0,
        })
        .sum()
}
