//! The disk that a build makes, fully resolved: every size in bytes, every UUID chosen.

use serde::{Deserialize, Serialize};

/// A GPT disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Size of the disk in bytes, a multiple of 1 MiB.
    pub size: u64,
    /// Size of a logical sector.
    pub sector_size: SectorSize,
    /// GUID of the disk.
    pub uuid: String,
    /// The partitions, in the order of the table. At most one has no size, and it comes last.
    pub partitions: Vec<Partition>,
}

impl Disk {
    /// The partition that is mounted at `mountpoint`.
    pub fn mounted_at(&self, mountpoint: &str) -> Option<&Partition> {
        self.partitions.iter().find(|p| p.mountpoint.as_deref() == Some(mountpoint))
    }
}

/// Sizes of a logical sector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
#[cfg_attr(feature = "schema", schemars(with = "u32", extend("enum" = [512, 4096])))]
pub enum SectorSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes ("4Kn").
    B4096,
}

impl SectorSize {
    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> Self {
        size.bytes()
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            other => Err(format!("a sector size of {other} bytes is not possible: it is 512 or 4096")),
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// What it is for; decides its type GUID.
    pub kind: PartitionKind,
    /// Name in the partition table, at most 36 characters.
    pub label: String,
    /// GUID of the partition.
    pub uuid: String,
    /// Size in bytes, a multiple of 1 MiB; none for the one that takes the rest of the disk.
    pub size: Option<u64>,
    /// The file system in it; none for the BIOS boot partition.
    pub filesystem: Option<FormattedFilesystem>,
    /// Where it is mounted, none for swap and the BIOS boot partition.
    pub mountpoint: Option<String>,
    /// Mount options for fstab(5), for instance `["noatime"]`.
    pub options: Vec<String>,
}

/// A file system with its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormattedFilesystem {
    /// Its kind.
    pub kind: Filesystem,
    /// Its label.
    pub label: String,
    /// Its UUID; for FAT the volume id as `XXXX-XXXX`.
    pub uuid: String,
}

/// File systems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// FAT32, for the EFI system partition.
    Vfat,
    /// Swap space.
    Swap,
}

impl Filesystem {
    /// What the kernel, fstab(5) and blkid(8) call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        }
    }
}

/// What a partition is for. Type GUIDs: UAPI.2 Discoverable Partitions Specification; for the BIOS boot partition the
/// GRUB manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PartitionKind {
    /// EFI system partition.
    Esp,
    /// Where GRUB puts its core image on a BIOS machine.
    BiosBoot,
    /// Extended boot loader partition, `/boot`.
    Boot,
    /// Root of an amd64 system.
    Root,
    /// `/home`.
    Home,
    /// `/srv`.
    Srv,
    /// `/var`.
    Var,
    /// `/var/tmp`.
    Tmp,
    /// Swap space.
    Swap,
    /// Any other Linux data.
    Linux,
}

impl PartitionKind {
    /// The type GUID.
    pub fn type_guid(self) -> &'static str {
        match self {
            Self::Esp => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Self::BiosBoot => "21686148-6449-6e6f-744e-656564454649",
            Self::Boot => "bc13c2ff-59e6-4262-a352-b275fd6f7172",
            Self::Root => "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            Self::Home => "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
            Self::Srv => "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
            Self::Var => "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
            Self::Tmp => "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
            Self::Swap => "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
            Self::Linux => "0fc63daf-8483-4772-8e79-3d69d8477de4",
        }
    }
}

/// Fewest clusters of a FAT32 file system. Firmware takes one with fewer for FAT16 and finds nothing in it (FAT32 File
/// System Specification 1.03, "FAT Type Determination").
const FAT32_MIN_CLUSTERS: u64 = 65525;

/// Clusters to spare: mkfs.fat(8) rounds its structures up.
const FAT32_SPARE_CLUSTERS: u64 = 64;

/// Sectors in a cluster of a FAT32 file system of `size` bytes: the largest power of two up to 4096 bytes with which it
/// has enough clusters. None when it is too small for FAT32.
pub fn fat32_cluster_sectors(size: u64, sector_size: SectorSize) -> Option<u32> {
    let sector = u64::from(sector_size.bytes());
    // 32 reserved sectors; each cluster needs 4 bytes in both tables.
    let clusters = |sectors: u32| size.saturating_sub(32 * sector) / (u64::from(sectors) * sector + 8);
    let enough = |sectors: &u32| clusters(*sectors) >= FAT32_MIN_CLUSTERS + FAT32_SPARE_CLUSTERS;
    [8, 4, 2, 1].into_iter().filter(|sectors| u64::from(*sectors) * sector <= 4096).find(enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fat32_has_enough_clusters() {
        let cluster = |mib: u64, sector| fat32_cluster_sectors(mib << 20, sector);
        assert_eq!(cluster(512, SectorSize::B512), Some(8));
        assert_eq!(cluster(256, SectorSize::B512), Some(4));
        assert_eq!(cluster(64, SectorSize::B512), Some(1));
        assert_eq!(cluster(32, SectorSize::B512), None);
        assert_eq!(cluster(512, SectorSize::B4096), Some(1));
        assert_eq!(cluster(257, SectorSize::B4096), Some(1));
        assert_eq!(cluster(256, SectorSize::B4096), None);
    }
}
