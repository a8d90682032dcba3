//! Making file systems that the kernels and the GRUBs of all supported releases can read.

use crate::context::Context;
use crate::process::Command;
use crate::report;
use particle_vm_protocol::disk::fat32_cluster_sectors;
use particle_vm_protocol::{Failure, FailureKind, Filesystem, FormattedFilesystem, SectorSize};
use std::path::Path;

/// Features that mke2fs(8) of Debian 13 turns on and GRUB 2.06 of Debian 12 does not know.
const EXT4_FEATURES: &str = "^metadata_csum_seed,^orphan_file";

/// Beside them, where OSTree may ask the kernel to check its files.
const VERITY: &str = "verity";

/// The disk is a new sparse file: what is not written reads as zero, and the zeros of inode tables and of the journal
/// need not be written, neither now nor by the kernel at the first mount.
const EXT4_EXTENDED: &str = "assume_storage_prezeroed=1,lazy_itable_init=0,nodiscard";

/// Make a file system on `device`, which has `size` bytes; with `verity` one that can have fs-verity where its kind needs
/// to know that when it is made.
///
/// # Errors
/// When the tool fails, or the device is too small.
pub fn make(
    context: &Context,
    filesystem: &FormattedFilesystem,
    device: &Path,
    size: u64,
    sector_size: SectorSize,
    verity: bool,
) -> Result<(), Failure> {
    let FormattedFilesystem { kind, label, uuid } = filesystem;
    let command = match kind {
        Filesystem::Ext4 => Command::new("mkfs.ext4").args([
            "-q",
            "-F",
            "-O",
            &ext4_features(verity),
            "-E",
            &format!("{EXT4_EXTENDED},hash_seed={uuid}"),
            "-U",
            uuid,
        ]),
        Filesystem::Xfs => Command::new("mkfs.xfs")
            // GRUB reads extent counters of 64 bits from 2.12 on, and parent pointers not at all.
            .args(["-q", "-f", "-K", "-i", "nrext64=0,exchange=0", "-n", "parent=0"])
            .args(["-m", &format!("uuid={uuid}")]),
        Filesystem::Btrfs => Command::new("mkfs.btrfs").args(["-q", "-f", "-K", "-U", uuid]),
        Filesystem::Vfat => {
            let Some(cluster) = fat32_cluster_sectors(size, sector_size) else {
                let message = format!(
                    "a partition of {} MiB is too small for FAT32 with sectors of {} bytes",
                    size >> 20,
                    sector_size.bytes()
                );
                return Err(report::plain(FailureKind::Input, message));
            };
            Command::new("mkfs.vfat")
                .args(["-F", "32", "-S", &sector_size.bytes().to_string(), "-s", &cluster.to_string()])
                .args(["-i", &uuid.replace('-', "")])
        }
        Filesystem::Swap => Command::new("mkswap").args(["-q", "-U", uuid]),
    };
    let labelled = match kind {
        _ if label.is_empty() => command,
        Filesystem::Vfat => command.args(["-n", label]),
        _ => command.args(["-L", label]),
    };
    context.run(&labelled.arg(device))
}

fn ext4_features(verity: bool) -> String {
    if verity { format!("{EXT4_FEATURES},{VERITY}") } else { EXT4_FEATURES.to_owned() }
}

/// The options with which it is mounted while it is filled; nothing reads it before it is unmounted. Of the recipe's
/// own, `options`, only what decides how Btrfs compresses files has to hold already when they are written.
pub fn mount_options(kind: Filesystem, options: &[String]) -> String {
    let compresses = |option: &&str| kind == Filesystem::Btrfs && option.starts_with("compress");
    let own = options.iter().map(String::as_str).filter(compresses);
    std::iter::once(while_filled(kind)).filter(|usual| !usual.is_empty()).chain(own).collect::<Vec<_>>().join(",")
}

fn while_filled(kind: Filesystem) -> &'static str {
    match kind {
        // The journal stays unused, and a hole in the image: all it would do is to write everything twice.
        Filesystem::Ext4 => "noload,discard,noinit_itable,nobarrier",
        Filesystem::Btrfs => "nobarrier",
        // FAT knows no owners; copying a tree need not fail for that.
        Filesystem::Vfat => "umask=0077,quiet",
        Filesystem::Xfs | Filesystem::Swap => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compressed_when_they_are_written() {
        let options = ["noatime".to_owned(), "compress=zstd:1".to_owned()];
        assert_eq!(mount_options(Filesystem::Btrfs, &options), "nobarrier,compress=zstd:1");
        assert_eq!(mount_options(Filesystem::Xfs, &options), "");
    }
}
