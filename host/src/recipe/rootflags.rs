//! Mount options of the root that the kernel is told (`rootflags=`).
//!
//! The root is mounted without options and mounted again with those of fstab(5) (systemd-remount-fs(8)). What a file
//! system takes at its first mount only would fail then, or be ignored. The root of a deployment is not mounted again.

use super::types::Partition;
use particle_vm_protocol::{Filesystem, PartitionKind};

/// ext4: what `ext4_check_opt_consistency` of the kernel refuses or ignores when it mounts again.
const EXT4: &[&str] = &["data", "dax", "journal_async_commit", "journal_checksum", "nojournal_checksum"];

/// XFS: all but what `xfs_fs_reconfigure` of the kernel changes.
const XFS: &[&str] = &[
    "allocsize",
    "attr2",
    "noattr2",
    "dax",
    "filestreams",
    "gqnoenforce",
    "gquota",
    "grpquota",
    "ikeep",
    "noikeep",
    "largeio",
    "nolargeio",
    "logbsize",
    "logbufs",
    "noalign",
    "norecovery",
    "noquota",
    "nouuid",
    "pqnoenforce",
    "pquota",
    "prjquota",
    "qnoenforce",
    "quota",
    "sunit",
    "swalloc",
    "swidth",
    "uqnoenforce",
    "uquota",
    "usrquota",
    "wsync",
];

/// The name of a mount option, without its value.
pub fn name_of(option: &str) -> &str {
    option.split('=').next().unwrap_or_default()
}

/// Whether `filesystem` takes `option` at its first mount only.
pub fn at_first_mount(filesystem: Option<Filesystem>, option: &str) -> bool {
    let only = match filesystem {
        Some(Filesystem::Ext4) => EXT4,
        Some(Filesystem::Xfs) => XFS,
        _ => return false,
    };
    only.contains(&name_of(option))
}

/// The kernel argument for a root with such options.
pub fn argument(root: &Partition) -> Option<String> {
    rootflags(root.options.iter().filter(|option| at_first_mount(root.filesystem, option)))
}

/// The kernel argument for the root of a deployment: with all options but those that say nothing. What an image says of
/// writing is OSTree's business, which mounts the root read-only by itself.
pub fn argument_of_deployment(root: &Partition) -> Option<String> {
    rootflags(root.options.iter().filter(|option| !matches!(option.as_str(), "defaults" | "ro" | "rw")))
}

fn rootflags<'a>(options: impl Iterator<Item = &'a String>) -> Option<String> {
    let options: Vec<&str> = options.map(String::as_str).collect();
    (!options.is_empty()).then(|| format!("rootflags={}", options.join(",")))
}

/// Whether the kernel, or an initramfs that mounts for it, can be told `option`: not what is for mount(8) and systemd in a
/// running system, nor what would keep the system from starting, nor what its command line cannot express.
pub fn can_be_told(option: &str) -> bool {
    const RUNNING: &[&str] =
        &["auto", "group", "noauto", "noexec", "nofail", "owner", "remount", "ro", "user", "users", "_netdev"];
    let of_mount = option.starts_with("x-") || option.starts_with("X-");
    !RUNNING.contains(&option) && !of_mount && !option.contains(['"', '\'', '\\'])
}

/// What has to be said of options that the kernel has to be told where nothing tells it: the number of the partition, the
/// number of the option, and a message.
pub fn untold(partitions: &[Partition]) -> impl Iterator<Item = (usize, usize, String)> {
    let root = partitions.iter().enumerate().find(|(_, partition)| partition.kind == PartitionKind::Root);
    root.into_iter().flat_map(|(number, root)| {
        let options = root.options.iter().enumerate().filter(|(_, option)| at_first_mount(root.filesystem, option));
        options.map(move |(option, name)| {
            (number, option, format!("the kernel has to be told `{name}`, and no stage sets its arguments"))
        })
    })
}

/// What helps then.
pub const TELL: &str = "add a stage `kernel`";
