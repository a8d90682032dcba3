//! The target disk: partition table, file systems, the files of the tree.

mod copy;
mod device;
mod format;
pub mod fstab;
mod mounts;
mod table;

use crate::boot;
use crate::context::Context;
use crate::paths;
use crate::report;
use device::Device;
use mounts::Mounts;
use particle_vm_protocol::{Disk, Failure, FailureKind, FormattedFilesystem, Partition, Plan};
use std::path::{Path, PathBuf};

/// A partition with a file system, and its device.
#[derive(Debug)]
pub struct Filled<'a> {
    partition: &'a Partition,
    filesystem: &'a FormattedFilesystem,
    /// For instance `/dev/vdb2`.
    pub device: PathBuf,
}

impl Filled<'_> {
    /// UUID of the file system; for FAT the volume id as `XXXX-XXXX`.
    pub fn uuid(&self) -> &str {
        &self.filesystem.uuid
    }

    /// Where it is mounted; none for swap.
    pub fn mountpoint(&self) -> Option<&str> {
        self.partition.mountpoint.as_deref()
    }
}

/// The disk with empty file systems on it.
#[derive(Debug)]
pub struct Empty<'a> {
    device: Device,
    partitions: Vec<Filled<'a>>,
}

/// The disk with the files on it, mounted at [`paths::TARGET`].
#[derive(Debug)]
pub struct Mounted<'a> {
    // Unmounted before the device goes.
    mounts: Mounts,
    device: Device,
    partitions: Vec<Filled<'a>>,
}

/// Partition the disk at `target` and make its file systems.
///
/// # Errors
/// When the partitions do not fit, or a tool fails.
pub fn format<'a>(context: &Context, disk: &'a Disk, target: &Path) -> Result<Empty<'a>, Failure> {
    if disk.mounted_at("/").is_none() {
        return Err(report::plain(FailureKind::Input, "no partition is mounted at `/`"));
    }
    let device = Device::open(target, disk.sector_size)?;
    table::write(context, disk, device.path())?;
    table::wait_for_devices(context, disk, device.path())?;
    let mut partitions = Vec::new();
    for (number, partition) in (1..).zip(&disk.partitions) {
        let Some(filesystem) = &partition.filesystem else { continue };
        let path = table::partition(device.path(), number);
        format::make(context, filesystem, &path, device::size(&path)?, disk.sector_size)?;
        partitions.push(Filled { partition, filesystem, device: path });
    }
    Ok(Empty { device, partitions })
}

impl<'a> Empty<'a> {
    /// Mount the file systems and copy the tree to them.
    ///
    /// # Errors
    /// When the files do not fit.
    pub fn fill(self, context: &Context, tree: &Path) -> Result<Mounted<'a>, Failure> {
        let root = Path::new(paths::TARGET);
        let mounts = Mounts::new(root, &self.partitions)?;
        copy::copy(context, tree, root)?;
        Ok(Mounted { mounts, device: self.device, partitions: self.partitions })
    }
}

impl Mounted<'_> {
    /// Install the bootloader, unmount everything and write it out. Returns how many bytes the files occupy.
    ///
    /// # Errors
    /// When a tool fails, or something cannot be written.
    pub fn finish(self, context: &Context, plan: &Plan) -> Result<u64, Failure> {
        boot::install(context, plan, Path::new(paths::TARGET), self.device.path(), &self.partitions)?;
        let used = self.mounts.used()?;
        self.mounts.trim()?;
        self.mounts.unmount()?;
        self.device.close()?;
        Ok(used)
    }
}
