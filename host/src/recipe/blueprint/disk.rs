//! `customizations.filesystem`, `customizations.disk` and `--rootfs`.
//!
//! What blueprints say are least sizes. A partition gets its own; the root takes what is left of a disk that is large
//! enough for the image, and for the root that is asked for.

use super::keys::{Keys, Reader, get};
use super::make;
use crate::recipe::document::{Entry, Kind, Node};
use crate::recipe::layout::{EDGE, layout};
use crate::recipe::size::Size;
use crate::recipe::types::{Disk, Partition};
use particle_vm_protocol::stage::Bootloader;
use particle_vm_protocol::{PartitionKind, SectorSize};
use std::ops::Range;
use std::sync::Arc;

const FILESYSTEM: &str = "customizations.filesystem";
const DISK: &str = "customizations.disk";
const PARTITIONS: &str = "customizations.disk.partitions";

const FILESYSTEM_KEYS: Keys = Keys::only(&["mountpoint", "minsize"]);

const DISK_KEYS: Keys = Keys {
    taken: &["type", "minsize", "sector_size", "partitions"],
    refused: &[("start_offset", "the first partition begins at 1 MiB")],
};

const PARTITION_KEYS: Keys = Keys {
    taken: &["type", "mountpoint", "minsize", "fs_type", "label", "part_uuid"],
    refused: &[
        ("part_label", "`label` is that of the partition and of its file system"),
        ("part_type", "the type of a partition follows from its mount point"),
        ("name", "volume groups cannot be made"),
        ("logical_volumes", "LVM cannot be made; write a plain partition for each"),
        ("subvolumes", "subvolumes cannot be made; write a plain partition for each"),
    ],
};

/// Places that a deployment has links to from others, with those: what is mounted there belongs to the other name.
const BEHIND_LINKS: [(&str, &str); 8] = [
    ("/var/home", "/home"),
    ("/var/mnt", "/mnt"),
    ("/var/roothome", "/root"),
    ("/var/srv", "/srv"),
    ("/var/usrlocal", "/usr/local"),
    ("/var/lock", "/run/lock"),
    ("/var/mail", "/var/spool/mail"),
    ("/var/run", "/run"),
];

/// What a configuration wants of the disk.
#[derive(Default)]
struct Wishes {
    partitions: Vec<Wish>,
    // What the file system of the root is to be.
    root_filesystem: Option<Entry>,
    // The least size of the root, and of the disk, and where they are written.
    root: Option<(u64, Range<usize>)>,
    whole: Option<(u64, Range<usize>)>,
    further: Vec<Entry>,
}

/// A partition.
struct Wish {
    kind: &'static str,
    size: u64,
    node: Arc<Node>,
}

/// The disk, where anything is said about it. `filesystem` is that of the root, from the command line.
pub fn disk(reader: &mut Reader<'_>, customizations: Option<&Node>, filesystem: Option<Entry>) -> Option<Entry> {
    let given = |key| customizations.and_then(|customizations| get(customizations, key));
    let (systems, disk) = (given("filesystem"), given("disk"));
    let place = disk.or(systems).or(filesystem.as_ref())?.key_span.clone();
    let wishes = match (systems, disk) {
        (Some(_), Some(disk)) => {
            let message = format!("`{DISK}` and `{FILESYSTEM}` cannot be together");
            reader.advise(&disk.key_span, message, "write all partitions into one of them");
            Wishes::default()
        }
        (Some(systems), None) => of_filesystems(reader, systems),
        (None, Some(disk)) => of_disk(reader, disk),
        (None, None) => Wishes::default(),
    };
    let filesystem = filesystem.filter(|flag| takes(reader, &wishes, flag));
    let options = filesystem.into_iter().chain(wishes.options(&place)).collect();
    Some(make::entry("disk", &place, make::mapping(options, &place)))
}

/// Whether `--rootfs`, which is `flag`, says something that the partitions do not say themselves.
fn takes(reader: &mut Reader<'_>, wishes: &Wishes, flag: &Entry) -> bool {
    let Some(root) = &wishes.root_filesystem else { return true };
    if let (Some(own), Some(asked)) = (root.node.text(), flag.node.text())
        && own != asked
    {
        let message = format!("the root is `{own}` here, and `{asked}` by `--rootfs`");
        reader.advise(&root.node.span, message, "say it in one place");
    }
    let filesystem = |wish: &Wish| wish.kind == "swap" || get(&wish.node, "filesystem").is_some();
    !wishes.partitions.iter().all(filesystem)
}

/// Whether a partition can be mounted at `path`.
fn is_place(reader: &mut Reader<'_>, path: &str, written: &Entry) -> bool {
    let span = &written.node.span;
    if path == "/efi" {
        reader.advise(span, "the EFI system partition is mounted at `/boot/efi`", "write that");
        return false;
    }
    match BEHIND_LINKS.iter().find(|(place, _)| *place == path.trim_end_matches('/')) {
        Some((place, link)) => {
            let message = format!("`{link}` leads to `{place}`, and nothing else is mounted there");
            reader.advise(span, message, "write `/home`, `/srv`, or another folder in `/var`");
            false
        }
        None => true,
    }
}

fn of_filesystems(reader: &mut Reader<'_>, systems: &Entry) -> Wishes {
    let mut wishes = Wishes::default();
    for table in reader.tables(FILESYSTEM, systems, &FILESYSTEM_KEYS) {
        let point = reader.required(FILESYSTEM, table, "mountpoint");
        let size = reader.required(FILESYSTEM, table, "minsize");
        let (Some(point), Some(size)) = (point, size) else { continue };
        let (Some(path), Some(bytes)) = (reader.text("mountpoint", point), reader.size("minsize", size)) else {
            continue;
        };
        if path == "/" {
            if wishes.root.replace((bytes, size.node.span.clone())).is_some() {
                reader.advise(&point.node.span, "two file systems are mounted on `/`", "keep one of them");
            }
            continue;
        }
        if is_place(reader, path, point) {
            wishes.add(path, table, vec![], Some(point), Some((bytes, size)));
        }
    }
    wishes
}

fn of_disk(reader: &mut Reader<'_>, disk: &Entry) -> Wishes {
    let mut wishes = Wishes::default();
    let Some(table) = reader.table(DISK, disk, &DISK_KEYS) else { return wishes };
    if let Some(kind) = get(table, "type").filter(|kind| !matches!(kind.node.text(), Some("gpt" | ""))) {
        reader.advise(&kind.node.span, "the partition table is a GPT", "write `type = \"gpt\"`, or remove the key");
    }
    if let Some(size) = get(table, "minsize") {
        wishes.whole = reader.size("minsize", size).map(|bytes| (bytes, size.node.span.clone()));
    }
    wishes.further.extend(get(table, "sector_size").cloned());
    let Some(list) = get(table, "partitions") else { return wishes };
    for table in reader.tables(PARTITIONS, list, &PARTITION_KEYS) {
        partition(reader, &mut wishes, table);
    }
    wishes
}

fn partition(reader: &mut Reader<'_>, wishes: &mut Wishes, table: &Node) {
    if let Some(kind) = get(table, "type").filter(|kind| !matches!(kind.node.text(), Some("plain" | ""))) {
        let help = "write `type = \"plain\"`; LVM and subvolumes of Btrfs cannot be made";
        return reader.advise(&kind.node.span, "only plain partitions can be made", help);
    }
    let swap = get(table, "fs_type").is_some_and(|kind| kind.node.text() == Some("swap"));
    let point = if swap { get(table, "mountpoint") } else { reader.required(PARTITIONS, table, "mountpoint") };
    let path = match point {
        Some(point) => match reader.text("mountpoint", point) {
            Some(path) => path,
            None => return,
        },
        None if swap => "",
        None => return,
    };
    if let Some(point) = point {
        if swap && !path.is_empty() {
            return reader.advise(&point.node.span, "swap space is mounted nowhere", "remove `mountpoint`");
        }
        if !is_place(reader, path, point) {
            return;
        }
    }
    let size = get(table, "minsize").map(|size| (reader.size("minsize", size), size));
    let size = match size {
        Some((Some(bytes), size)) => Some((bytes, size)),
        Some((None, _)) => return,
        None if path == "/" => None,
        None => {
            reader.required(PARTITIONS, table, "minsize");
            return;
        }
    };
    let keys = [("fs_type", "filesystem"), ("label", "label"), ("part_uuid", "uuid")];
    let further = keys.into_iter().filter_map(|(key, own)| Some(make::renamed(get(table, key)?, own)));
    let further: Vec<_> = further.filter(|entry| !(swap && entry.key == "filesystem")).collect();
    if path == "/" {
        wishes.root = size.map(|(bytes, size)| (bytes, size.node.span.clone()));
        wishes.root_filesystem = get(table, "fs_type").cloned();
    }
    wishes.add(path, table, further, point, size);
}

impl Wishes {
    /// A partition for `path`, or for swap space where that is empty.
    fn add(
        &mut self,
        path: &str,
        table: &Node,
        mut options: Vec<Entry>,
        point: Option<&Entry>,
        size: Option<(u64, &Entry)>,
    ) {
        let kind = match path {
            "" => "swap",
            "/" => "root",
            "/boot" => "boot",
            "/boot/efi" => "esp",
            _ => "linux",
        };
        let span = &table.span;
        options.push(make::entry("kind", span, make::text(kind, span)));
        if let Some(point) = point {
            options.push(make::renamed(point, "mountpoint"));
        }
        let size = match size {
            Some((bytes, size)) if kind != "root" => {
                options.push(make::entry("size", &size.key_span, make::number(bytes, &size.node.span)));
                bytes
            }
            _ => {
                options.push(make::entry("grow", span, make::truth(true, span)));
                0
            }
        };
        if matches!(kind, "linux" | "swap") && !options.iter().any(|option| option.key == "label") {
            // A name of its own: no two partitions have the same, and XFS takes 12 characters.
            let label = format!("{}{}", if kind == "swap" { "swap" } else { "data" }, self.partitions.len() + 1);
            options.push(make::entry("label", span, make::text(label, span)));
        }
        self.partitions.push(Wish { kind, size, node: make::mapping(options, span) });
    }

    /// The options of the disk.
    fn options(mut self, place: &Range<usize>) -> Vec<Entry> {
        let mut options = self.further;
        let large =
            options.iter().any(|option| matches!(&option.node.kind, Kind::Scalar { value, .. } if *value == 4096));
        let mut boot = bootable(if large { SectorSize::B4096 } else { SectorSize::B512 });
        if self.partitions.iter().any(|wish| wish.kind == "esp") {
            boot.retain(|partition| partition.kind != PartitionKind::Esp);
        }
        let fixed = boot.iter().filter_map(|partition| partition.size).map(|size| size.0);
        let fixed = fixed.chain(self.partitions.iter().map(|wish| wish.size)).fold(2 * EDGE, u64::saturating_add);
        let root = self.root.take().map(|(size, span)| (size.saturating_add(fixed), span));
        if let Some((least, span)) = root.into_iter().chain(self.whole.take()).max_by_key(|(size, _)| *size) {
            options.push(make::entry("min_size", &span, make::number(least, &span)));
        }
        if !self.partitions.is_empty() {
            let root = self.partitions.iter().any(|wish| wish.kind == "root").then_some(Vec::new());
            let root = root.unwrap_or_else(|| vec![written("root", None, place)]);
            let boot = boot.iter().map(|partition| match partition.kind {
                PartitionKind::BiosBoot => written("bios-boot", partition.size, place),
                _ => written("esp", partition.size, place),
            });
            let own = self.partitions.into_iter().map(|wish| wish.node);
            let all = boot.chain(own).chain(root).collect();
            options.push(make::entry("partitions", place, make::list(all, place)));
        }
        options
    }
}

/// The partitions that a container image needs to boot, beside its root.
fn bootable(sector_size: SectorSize) -> Vec<Partition> {
    let disk = Disk { sector_size, ..Disk::default() };
    let mut partitions = layout(&disk, Some(&Bootloader::default()));
    partitions.retain(|partition| partition.kind != PartitionKind::Root);
    partitions
}

/// A partition that nobody has asked for.
fn written(kind: &str, size: Option<Size>, place: &Range<usize>) -> Arc<Node> {
    let size = match size {
        Some(size) => make::entry("size", place, make::number(size.0, place)),
        None => make::entry("grow", place, make::truth(true, place)),
    };
    make::mapping(vec![make::entry("kind", place, make::text(kind, place)), size], place)
}
