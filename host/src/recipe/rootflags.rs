//! Mount options of the root that the kernel is told (`rootflags=`).
//!
//! The root is mounted without options and mounted again with those of fstab(5) (systemd-remount-fs(8)). What a file
//! system takes at its first mount only would fail then, or be ignored.

use super::types::Partition;
use particle_vm_protocol::Filesystem;

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
    let options = root.options.iter().filter(|option| at_first_mount(root.filesystem, option));
    let options: Vec<&str> = options.map(String::as_str).collect();
    (!options.is_empty()).then(|| format!("rootflags={}", options.join(",")))
}
