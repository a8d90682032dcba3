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
use crate::report::Explain;
use crate::tree::{Attributes, Tree};
use device::Device;
use mounts::Mounts;
use particle_vm_protocol::{
    Backend, Disk, Engine, Failure, FailureKind, FormattedFilesystem, Partition, PartitionKind, Plan,
};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Where a file system is mounted while what is in its place is copied to it.
const ASIDE: &str = "/scratch/aside";

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

/// Partition the disk at `target` and make its file systems. Those of a `deployment` can have files that the kernel
/// checks, and nothing mounts them by their types.
///
/// # Errors
/// When the partitions do not fit, or a tool fails.
pub fn format<'a>(context: &Context, disk: &'a Disk, target: &Path, deployment: bool) -> Result<Empty<'a>, Failure> {
    if disk.mounted_at("/").is_none() {
        return Err(report::plain(FailureKind::Input, "no partition is mounted at `/`"));
    }
    let device = Device::open(target, disk.sector_size)?;
    table::write(context, disk, device.path(), deployment)?;
    table::wait_for_devices(context, disk, device.path())?;
    let mut partitions = Vec::new();
    for (number, partition) in (1..).zip(&disk.partitions) {
        let Some(filesystem) = &partition.filesystem else { continue };
        let path = table::partition(device.path(), number);
        format::make(context, filesystem, &path, device::size(&path)?, disk.sector_size, deployment)?;
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
        let mounts = Mounts::new(
            root,
            self.partitions.iter().filter_map(|filled| Some((filled.mountpoint()?.to_owned(), filled))),
        )?;
        copy::copy(context, tree, root)?;
        Ok(Mounted { mounts, device: self.device, partitions: self.partitions })
    }

    /// Mount what a deployment lies on: the root of the disk, and `/boot`.
    ///
    /// # Errors
    /// When one cannot be mounted.
    pub fn mount_sysroot(self) -> Result<Mounted<'a>, Failure> {
        let physical = self.partitions.iter().filter_map(|filled| {
            filled.mountpoint().filter(|point| is_physical(point)).map(|point| (point.to_owned(), filled))
        });
        let mounts = Mounts::new(Path::new(paths::TARGET), physical)?;
        Ok(Mounted { mounts, device: self.device, partitions: self.partitions })
    }
}

/// Where the EFI system partition is mounted while a boot loader is put on it.
pub const ESP: &str = "/boot/efi";

/// Whether a mount point of a recipe is one of the disk, and not of the deployment on it.
fn is_physical(point: &str) -> bool {
    matches!(point, "/" | "/boot")
}

/// File systems that are mounted in a deployment.
#[derive(Debug)]
pub struct Others(Mounts);

impl Others {
    /// Unmount them. Gives how many bytes their files occupy.
    ///
    /// # Errors
    /// When one is in use.
    pub fn finish(self) -> Result<u64, Failure> {
        let used = self.0.used()?;
        self.0.trim()?;
        self.0.unmount()?;
        Ok(used)
    }
}

impl Mounted<'_> {
    /// Mount the other partitions in a deployment, which is `tree`. What was in the place of one is in it then.
    ///
    /// # Errors
    /// When the deployment has no place for one.
    pub fn mount_others(&self, context: &Context, tree: &Tree) -> Result<Others, Failure> {
        let mut mounts = Mounts::none();
        let mut others: Vec<_> = self
            .partitions
            .iter()
            .filter(|filled| filled.partition.kind != PartitionKind::Esp)
            .filter_map(|filled| Some((filled.mountpoint().filter(|point| !is_physical(point))?, filled)))
            .collect();
        others.sort_by_key(|(point, _)| fstab::depth(point));
        for (point, filled) in others {
            tree.make_folder(point, Attributes::root(0o755)).map_err(|error| {
                let failure = Failure::from(error);
                let message = format!("{}\na partition of a deployment has its place beneath /var", failure.message);
                Failure { message, kind: FailureKind::Input, ..failure }
            })?;
            let folder =
                tree.open_raw(point.as_bytes()).explain(FailureKind::Agent, || format!("cannot open {point}"))?;
            let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))
                .explain(FailureKind::Agent, || format!("cannot tell where {point} is"))?;
            // What is in the place comes along, by way of a mount elsewhere.
            let mut aside = Mounts::none();
            aside.add(Path::new(ASIDE), filled)?;
            copy::copy(context, &path, Path::new(ASIDE))?;
            aside.unmount()?;
            mounts.add(&path, filled)?;
        }
        Ok(Others(mounts))
    }

    /// Make the deployment in `tree` bootable, as far as its engine has not done so.
    ///
    /// # Errors
    /// When a tool fails, or the disk lacks a partition.
    pub fn make_bootable(&mut self, context: &Context, plan: &Plan, tree: &Tree) -> Result<(), Failure> {
        // Where it is mounted in the booted system does not matter here.
        if let Some(esp) = self.partitions.iter().find(|filled| filled.partition.kind == PartitionKind::Esp) {
            self.mounts.add(&Path::new(paths::TARGET).join(ESP.trim_start_matches('/')), esp)?;
        }
        if plan.base.as_ref().is_some_and(|base| base.engine == Engine::Bootc && base.backend == Backend::Composefs) {
            return boot::deployment::set_timeout(plan.bootloader.timeout);
        }
        boot::deployment::install(context, plan, tree, self.device.path(), &self.partitions)
    }

    /// Install the bootloader, unmount everything and write it out. Returns how many bytes the files occupy.
    ///
    /// # Errors
    /// When a tool fails, or something cannot be written.
    pub fn finish(self, context: &Context, plan: &Plan) -> Result<u64, Failure> {
        boot::install(context, plan, Path::new(paths::TARGET), self.device.path(), &self.partitions)?;
        self.write_out()
    }

    /// Unmount everything and write it out. Gives how many bytes the files occupy.
    ///
    /// # Errors
    /// When something is in use, or cannot be written.
    pub fn write_out(self) -> Result<u64, Failure> {
        let used = self.mounts.used()?;
        self.mounts.trim()?;
        self.mounts.unmount()?;
        self.device.close()?;
        Ok(used)
    }
}
