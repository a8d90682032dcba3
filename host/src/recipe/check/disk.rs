//! The disk and its partitions together.

use super::{Checker, boot, partition};
use crate::recipe::layout::{EDGE, layout};
use crate::recipe::path::Path;
use crate::recipe::rootflags;
use crate::recipe::sections::{Section, Sections};
use crate::recipe::size::{GIB, MIB, Size};
use crate::recipe::types::{Disk, Partition};
use particle_vm_protocol::stage::{Bootloader, Variant};
use particle_vm_protocol::{PartitionKind, Stage};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Largest disk: what ext4 on the build machine can hold as one sparse file is 16 TiB, and half of that leaves room for
/// the metadata of every format.
const MAX_DISK: u64 = 8192 * GIB;

/// The disk with the rest of the recipe.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let Some(disk) = &sections.disk else { return };
    let written = sections.stages.iter().any(|stage| stage.kind.as_deref() == Some("bootloader"));
    let readable = sections.stages.iter().enumerate().find_map(|(index, stage)| match &stage.known()?.stage {
        Stage::Bootloader(options) => Some((index, options)),
        _ => None,
    });
    let path = Path::root().key("disk");
    let sizes_fit = sizes(checker, &path, disk);
    filesystem(checker, &path.key("filesystem"), disk);
    // A deployment gets one without a stage, too.
    let deploy = sections.first("ostree.deploy");
    let own = Bootloader::default();
    let readable = readable.or(deploy.filter(|_| !written).map(|index| (index, &own)));
    let bootloader = readable.map(|(_, options)| options);
    // Without the bootloader's options the default partitions are not known.
    if disk.partitions.is_none() && written && bootloader.is_none() {
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
        let path = list.index(index);
        if checker.reads(&path.key("kind")) {
            partition::one(checker, disk, &path, partition);
        }
    }
    // What could not be read may be what is missing.
    if !sections.unread.spares(&list) {
        return;
    }
    together(checker, &list, &partitions);
    flags_of_root(checker, &list, &partitions, sections);
    if !sections.unread.spares(&path) {
        return;
    }
    if let Some((index, options)) = readable {
        let stage = Path::root().key("stages").index(index).key("options").key("firmware");
        boot::boots(checker, &stage, disk, options, &partitions);
    }
    if let Some(size) = disk.size.filter(|_| sizes_fit && checker.findings.len() == before) {
        fits(checker, &path, disk, size, &partitions, sections);
    }
}

/// The file system of the partitions that name none.
fn filesystem(checker: &mut Checker<'_>, path: &Path, disk: &Disk) {
    let takes = |partition: &Partition| {
        use PartitionKind::{BiosBoot, Boot, Esp, Swap};
        partition.filesystem.is_none() && !matches!(partition.kind, BiosBoot | Boot | Esp | Swap)
    };
    let partitions = disk.partitions.as_deref();
    let used = partitions.is_none_or(|partitions| partitions.iter().any(takes));
    let list = Path::root().key("disk").key("partitions");
    if !partition::holds_debian(disk.filesystem) {
        let message = "this file system cannot hold the root of a Debian system";
        checker.advise(path, message, "it is `ext4`, `xfs` or `btrfs`");
    } else if !used && checker.is_written(path) && checker.sections.unread.spares(&list) {
        checker.advise(path, "every partition has a file system of its own", "remove this key, or theirs");
    }
}

/// Options of the root that the kernel has to be told, because it is mounted before fstab(5) is read. What becomes of an
/// image is not known yet, and a deployment is told them all.
fn flags_of_root(checker: &mut Checker<'_>, list: &Path, partitions: &[Partition], sections: &Sections) {
    // A stage of a type that nobody knows may be meant for one.
    let kernel = |stage: &Section| stage.stage.is_none() || stage.kind.as_deref() == Some("kernel");
    let deployed = checker.is_based() || sections.first("ostree.deploy").is_some();
    if deployed || sections.stages.iter().any(kernel) {
        return;
    }
    for (partition, option, message) in rootflags::untold(partitions) {
        checker.advise(&list.index(partition).key("options").index(option), message, rootflags::TELL);
    }
}

/// The size of the disk, or what it goes by.
fn sizes(checker: &mut Checker<'_>, path: &Path, disk: &Disk) -> bool {
    match (disk.size, disk.min_size) {
        (Some(_), Some(_)) => {
            let help = "remove one of them";
            checker.advise_key(&path.key("min_size"), "`min_size` is for a disk without a `size`", help);
        }
        (None, _) if !checker.is_based() => {
            let help = "`size`: Size of the disk, a multiple of 1 MiB.";
            checker.advise_key(path, "`disk` lacks the key `size`", help);
        }
        _ => {}
    }
    let fixed = disk.partitions.iter().flatten().filter_map(|partition| partition.size);
    if disk.size.is_none() && fixed.fold(0, |sum: u64, size| sum.saturating_add(size.0)) > MAX_DISK {
        let message = format!("the partitions take more than the {} that a disk can have", Size(MAX_DISK));
        checker.advise(&path.key("partitions"), message, "make them smaller");
    }
    let mut fit = true;
    for (key, size) in [("size", disk.size), ("min_size", disk.min_size)] {
        fit &= size.is_none_or(|size| self::size(checker, &path.key(key), size));
    }
    fit
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

/// A size has to be whole MiB, which is what partitions are aligned to.
pub fn multiple(checker: &mut Checker<'_>, path: &Path, size: Size) {
    if !size.0.is_multiple_of(MIB) {
        let help = if size.0.is_multiple_of(1_000_000) {
            let near = if size.0.is_multiple_of(GB) {
                format!("{}GiB", size.0 / GB)
            } else {
                format!("{}MiB", size.0 / 1_000_000)
            };
            format!("GB and MB count in thousands; write `{near}`")
        } else if size.0 < 1024 {
            format!("give it a unit: `{}GiB`", size.0)
        } else {
            format!("write `{}`", Size(size.0.next_multiple_of(MIB)))
        };
        checker.advise(path, "the size is not a multiple of 1MiB", help);
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
        // They are the same in capitals.
        let uuid = |partition: &Partition| partition.uuid.as_ref().and_then(|uuid| Uuid::parse_str(uuid).ok());
        if uuid(partition).is_some() && twice(&|other| uuid(other) == uuid(partition)) {
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

/// Whether the partitions fit on the disk and the content into them.
fn fits(
    checker: &mut Checker<'_>,
    path: &Path,
    disk: &Disk,
    whole: Size,
    partitions: &[Partition],
    sections: &Sections,
) {
    let fixed: u64 =
        partitions.iter().filter_map(|partition| partition.size).fold(2 * EDGE, |sum, size| sum.saturating_add(size.0));
    let Some(rest) = whole.0.checked_sub(fixed) else {
        let message = format!("the partitions take {} with their table, and the disk has {whole}", Size(fixed));
        return checker.advise(&path.key("size"), message, format!("write at least `{}`", Size(fixed)));
    };
    let copied = least_copied(checker, partitions, sections);
    for (index, partition) in partitions.iter().enumerate() {
        let size = partition.size.map_or(rest, |size| size.0);
        let own = partition::least_size(disk.sector_size, partition)
            .map_or((0, "a partition cannot be empty"), |(size, why)| (size.0, why));
        let packages = if partition.kind == PartitionKind::Root { least_installed(partitions, sections) } else { 0 };
        let copied = copied.get(&index).copied().unwrap_or_default();
        let content = packages.saturating_add(copied);
        let (least, why) = match content > own.0 {
            true if copied > packages => (content, "the files that are copied do not fit"),
            true => (content, "the packages of the stages do not fit"),
            false => own,
        };
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

/// What the packages on the root certainly take, in bytes: the smallest trees of bookworm and trixie as they come,
/// without anything that lies on a partition of its own.
fn least_installed(partitions: &[Partition], sections: &Sections) -> u64 {
    if partitions.iter().any(|partition| partition.mountpoint.as_deref() == Some("/usr")) {
        return 0;
    }
    let stages = sections.stages.iter().filter_map(|stage| stage.known());
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

/// What is certainly copied to each partition, in bytes, by its position. A file that a later script may remove again is
/// not certain, nor is one that another is copied over.
fn least_copied(checker: &Checker<'_>, partitions: &[Partition], sections: &Sections) -> BTreeMap<usize, u64> {
    let place = |destination: &str| {
        let mounted = partitions.iter().enumerate().filter_map(|(index, partition)| {
            let point = partition.mountpoint.as_deref()?;
            (point == "/" || partition::is_or_below(destination, &[point])).then_some((point.len(), index))
        });
        mounted.max().map(|(_, index)| index)
    };
    let scripts = sections.stages.iter().rposition(|stage| matches!(stage.kind.as_deref(), Some("run") | None));
    let mut largest: BTreeMap<&str, u64> = BTreeMap::new();
    for (index, stage) in sections.stages.iter().enumerate().skip(scripts.map_or(0, |last| last + 1)) {
        let options = Path::root().key("stages").index(index).key("options");
        if let (Some(Stage::Copy(copy)), Some(bytes)) =
            (stage.known().map(|stage| &stage.stage), checker.copied.get(&options))
        {
            let destination = copy.destination.trim_end_matches('/');
            // What lies in a folder may come to lie on several partitions.
            let split = partitions.iter().filter_map(|partition| partition.mountpoint.as_deref()).any(|point| {
                point.strip_prefix(destination).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            });
            if !split {
                let known = largest.entry(destination).or_default();
                *known = (*known).max(*bytes);
            }
        }
    }
    let mut copied = BTreeMap::new();
    for (destination, bytes) in largest {
        if let Some(index) = place(destination) {
            let sum: &mut u64 = copied.entry(index).or_default();
            *sum = sum.saturating_add(bytes);
        }
    }
    copied
}
