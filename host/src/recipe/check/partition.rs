//! What a partition is by itself.

use super::{Checker, names};
use crate::recipe::layout::{own_mountpoint, smallest_fat32};
use crate::recipe::path::Path;
use crate::recipe::rootflags::name_of;
use crate::recipe::size::{MIB, Size};
use crate::recipe::types::{Disk, Partition};
use particle_vm_protocol::{Filesystem, PartitionKind, SectorSize};
use uuid::Uuid;

/// What a partition is by itself.
pub fn one(checker: &mut Checker<'_>, disk: &Disk, path: &Path, partition: &Partition) {
    match (partition.size, partition.grow) {
        (Some(_), true) => {
            let help = "keep `size` or `grow: true`";
            checker.advise(&path.key("grow"), "this partition has a size and grows", help);
        }
        (None, false) => checker.advise(
            path,
            "this partition has no size",
            "give it `size`, or `grow: true` for the rest of the disk",
        ),
        (Some(Size(0)), false) => checker.report(&path.key("size"), "the partition has a size of 0"),
        (Some(size), false) => super::disk::multiple(checker, &path.key("size"), size),
        (None, true) => {}
    }
    mountpoint(checker, path, partition);
    filesystem(checker, disk, path, partition);
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
    if let Some(uuid) = &partition.uuid {
        uuid_of(checker, &path.key("uuid"), uuid);
    }
    options(checker, &path.key("options"), partition);
}

fn uuid_of(checker: &mut Checker<'_>, path: &Path, written: &str) {
    let help = "`uuidgen` makes one; without the key it follows from the recipe";
    match Uuid::parse_str(written).ok().filter(|_| written.len() == 36) {
        None => checker.advise(path, format!("`{written}` is not a UUID"), help),
        Some(uuid) if uuid.is_nil() => checker.advise(path, "the nil UUID names no partition", help),
        Some(_) => {}
    }
}

fn options(checker: &mut Checker<'_>, path: &Path, partition: &Partition) {
    let mounted = partition.mountpoint.is_some() || partition.kind == PartitionKind::Swap;
    if !mounted && !partition.options.is_empty() {
        let help = if partition.kind == PartitionKind::Linux {
            "give the partition a `mountpoint`, or remove the key"
        } else {
            "remove the key"
        };
        return checker.advise(path, "this partition is not mounted, so its options mean nothing", help);
    }
    for (index, option) in partition.options.iter().enumerate() {
        let path = path.index(index);
        if option.is_empty() || option.contains(|c: char| c == ',' || c.is_control() || c.is_whitespace()) {
            let help = "each option is an item of the list: `[noatime, compress=zstd]`";
            checker.advise(&path, format!("`{option}` is not one mount option"), help);
        } else if matches!(name_of(option), "subvol" | "subvolid") {
            let help = "remove it; what the image holds lies in the file system's top";
            checker.advise(&path, format!("`{option}` names a subvolume, and none is made"), help);
        }
    }
}

/// Places where something else is mounted in a running system, and in the chroot of the stages.
pub const MOUNTED_ELSEWHERE: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// Whether `place` is one of `roots`, or lies below one.
pub fn is_or_below(place: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| place.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn mountpoint(checker: &mut Checker<'_>, path: &Path, partition: &Partition) {
    let Some(place) = &partition.mountpoint else { return };
    let path = path.key("mountpoint");
    // The initramfs mounts `/` and `/usr`; systemd the rest, and needs these for that.
    let part_of_root = [
        "/etc",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/lib64",
        "/var/lib/dpkg",
    ];
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
        PartitionKind::Esp | PartitionKind::Root => {}
        // Tools that find partitions by their kind mount them there (UAPI.2).
        kind if own_mountpoint(kind).is_some_and(|own| own != place) => {
            let own = own_mountpoint(kind).unwrap_or_default();
            let message = format!("a partition of this kind is mounted on `{own}`");
            checker.advise(&path, message, "remove the key, or use `kind: linux`");
        }
        PartitionKind::Linux if ["/boot", "/boot/efi", "/efi"].contains(&place.as_str()) => {
            let kind = if place == "/boot" { "boot" } else { "esp" };
            checker.advise(
                &path,
                format!("`{place}` is for a partition of another kind"),
                format!("use `kind: {kind}`"),
            );
        }
        _ if is_or_below(place, &MOUNTED_ELSEWHERE) => checker.advise(
            &path,
            format!("something else is mounted on `{place}` in a running system"),
            "choose another place",
        ),
        _ if is_or_below(place, &part_of_root) => checker.advise(
            &path,
            format!("`{place}` is needed before it could be mounted"),
            "leave it on the root partition",
        ),
        _ => {}
    }
}

/// Whether a Debian system can lie on it.
pub fn holds_debian(filesystem: Filesystem) -> bool {
    matches!(filesystem, Filesystem::Ext4 | Filesystem::Xfs | Filesystem::Btrfs)
}

fn filesystem(checker: &mut Checker<'_>, disk: &Disk, path: &Path, partition: &Partition) {
    const NO_FAT: &str = "FAT has no owners and no links, which Debian needs here";
    let path = path.key("filesystem");
    let Some(filesystem) = partition.filesystem else { return };
    // What the disk says of all of them is told there.
    if !checker.is_written(&path) && filesystem == disk.filesystem {
        return;
    }
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
        // Data of one's own may lie on FAT, what comes in packages not: dpkg makes links, and gives files to users.
        (PartitionKind::Linux, Filesystem::Vfat) => {
            let place = partition.mountpoint.as_deref().unwrap_or_default();
            if is_or_below(place, &["/usr", "/var", "/boot", "/opt", "/home", "/root"]) {
                checker.advise(&path, NO_FAT, "it is `ext4`, `xfs` or `btrfs`");
            }
        }
        (_, Filesystem::Vfat) => checker.advise(&path, NO_FAT, "it is `ext4`, `xfs` or `btrfs`"),
        _ => {}
    }
}

/// The smallest size of a partition and the reason.
pub fn least_size(sector_size: SectorSize, partition: &Partition) -> Option<(Size, &'static str)> {
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
        (_, Filesystem::Ext4) if partition.mountpoint.as_deref() == Some("/var") => {
            (Size(32 * MIB), "the databases of dpkg and debconf do not fit")
        }
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
