//! fstab(5) of the image.

use particle_vm_protocol::{Disk, Filesystem, Partition, PartitionKind};

/// Its path.
pub const PATH: &str = "/etc/fstab";

/// The table that is there, completed by the partitions of `disk` that it does not mention.
pub fn merge(before: &str, disk: &Disk) -> String {
    let entries: Vec<Vec<_>> = before
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 2 && !fields[0].starts_with('#'))
        .collect();
    // debootstrap leaves a file that says that it is not configured.
    let mut table = if entries.is_empty() {
        "# <file system> <mount point> <type> <options> <dump> <pass>\n".to_owned()
    } else if before.ends_with('\n') {
        before.to_owned()
    } else {
        format!("{before}\n")
    };
    let mut partitions: Vec<_> = disk.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.mountpoint.as_ref().map_or(usize::MAX, |point| depth(point)));
    for partition in partitions {
        let Some(line) = line(partition) else { continue };
        let mentions = |fields: &Vec<&str>| match &partition.mountpoint {
            Some(point) => fields[1] == point,
            None => line.starts_with(&format!("{} ", fields[0])),
        };
        if !entries.iter().any(mentions) {
            table += &line;
        }
    }
    table
}

/// `disk` with the partitions only that the table of a deployment names. Its root is found by the kernel's arguments, and
/// `/var` is bound from it; the EFI system partition is of no use to a running system. `/boot` is for ostree to write to.
pub fn of_deployment(disk: &Disk) -> Disk {
    let mut disk = disk.clone();
    disk.partitions
        .retain(|partition| partition.kind != PartitionKind::Esp && partition.mountpoint.as_deref() != Some("/"));
    for boot in disk.partitions.iter_mut().filter(|partition| partition.mountpoint.as_deref() == Some("/boot")) {
        if boot.options.is_empty() {
            boot.options = vec!["ro".into()];
        }
    }
    disk
}

/// How many folders lie above a mount point: what is mounted on comes before what is mounted there.
pub fn depth(mountpoint: &str) -> usize {
    mountpoint.split('/').filter(|part| !part.is_empty()).count()
}

/// The line of a partition, when it has one.
fn line(partition: &Partition) -> Option<String> {
    let filesystem = partition.filesystem.as_ref()?;
    let uuid = &filesystem.uuid;
    if filesystem.kind == Filesystem::Swap {
        return Some(format!("UUID={uuid} none swap {} 0 0\n", options(partition, "sw")));
    }
    let point = partition.mountpoint.as_ref()?;
    let (usual, checked) = match filesystem.kind {
        Filesystem::Ext4 if point == "/" => ("errors=remount-ro", true),
        Filesystem::Ext4 => ("defaults", true),
        Filesystem::Vfat => ("umask=0077", true),
        // They check themselves; fsck.xfs(8) and fsck.btrfs(8) do nothing.
        Filesystem::Xfs | Filesystem::Btrfs => ("defaults", false),
        Filesystem::Swap => return None,
    };
    let pass = match (checked, point.as_str()) {
        (false, _) => 0,
        (true, "/") => 1,
        (true, _) => 2,
    };
    let (point, kind, options) = (escape(point), filesystem.kind.name(), options(partition, usual));
    Some(format!("UUID={uuid} {point} {kind} {options} 0 {pass}\n"))
}

fn options(partition: &Partition, usual: &str) -> String {
    if partition.options.is_empty() { usual.to_owned() } else { partition.options.join(",") }
}

/// fstab(5) writes white space as octal numbers.
fn escape(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
}

#[cfg(test)]
mod tests {
    use super::*;
    use particle_vm_protocol::{FormattedFilesystem, SectorSize};

    fn partition(kind: Option<Filesystem>, uuid: &str, mountpoint: Option<&str>) -> Partition {
        Partition {
            kind: PartitionKind::Linux,
            label: String::new(),
            uuid: String::new(),
            size: None,
            filesystem: kind.map(|kind| FormattedFilesystem { kind, label: String::new(), uuid: uuid.into() }),
            mountpoint: mountpoint.map(str::to_owned),
            options: Vec::new(),
        }
    }

    fn disk() -> Disk {
        Disk {
            size: 0,
            sector_size: SectorSize::B512,
            uuid: String::new(),
            partitions: vec![
                partition(None, "", None),
                partition(Some(Filesystem::Vfat), "AB12-34CD", Some("/boot/efi")),
                partition(Some(Filesystem::Swap), "swap", None),
                partition(Some(Filesystem::Xfs), "boot", Some("/boot")),
                partition(Some(Filesystem::Ext4), "root", Some("/")),
            ],
        }
    }

    #[test]
    fn each_file_system_comes_after_the_one_that_it_is_mounted_on() {
        let table = merge("# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", &disk());
        let lines: Vec<_> = table.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "UUID=root / ext4 errors=remount-ro 0 1",
                "UUID=boot /boot xfs defaults 0 0",
                "UUID=AB12-34CD /boot/efi vfat umask=0077 0 2",
                "UUID=swap none swap sw 0 0",
            ]
        );
    }

    #[test]
    fn a_deployment_mounts_what_it_has_beside_its_root() {
        let mut disk = disk();
        disk.partitions[1].kind = PartitionKind::Esp;
        disk.partitions.push(partition(Some(Filesystem::Ext4), "data", Some("/var/data")));
        let table = merge("", &of_deployment(&disk));
        let lines: Vec<_> = table.lines().skip(1).collect();
        let swap = "UUID=swap none swap sw 0 0";
        assert_eq!(lines, ["UUID=boot /boot xfs ro 0 0", "UUID=data /var/data ext4 defaults 0 2", swap]);
    }

    #[test]
    fn what_the_recipe_wrote_stays() {
        let own = "LABEL=x / ext4 noatime 0 1\ntmpfs /tmp tmpfs defaults 0 0";
        let table = merge(own, &disk());
        assert!(table.starts_with("LABEL=x / ext4 noatime 0 1\ntmpfs /tmp tmpfs defaults 0 0\nUUID=boot"));
        assert_eq!(merge(&table, &disk()), table);
    }

    #[test]
    fn white_space_is_escaped() {
        assert_eq!(escape("/a b"), "/a\\040b");
    }
}
