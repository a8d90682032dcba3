//! The links below `/dev` that udev would make and the tools of bootloaders look at.

use crate::disk::Filled;
use crate::report::Explain;
use nix::sys::stat::{major, minor};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// By the UUID of the file system: grub-mkconfig(8) writes `root=UUID=` only when it finds the link.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// By device number: how systemd's tools find a partition's device.
const BY_NUMBER: &str = "/dev/block";

/// The links; removed when dropped. devtmpfs is the same in every place where it is mounted, so they are in each of
/// them.
#[derive(Debug, Default)]
pub struct Links(Vec<PathBuf>);

impl Links {
    /// For the file systems of the target disk.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub fn new(partitions: &[Filled<'_>]) -> Result<Self, Failure> {
        let mut links = Self::default();
        for filled in partitions {
            links.add(filled).explain(FailureKind::Agent, || format!("cannot link to {}", filled.device.display()))?;
        }
        Ok(links)
    }

    fn add(&mut self, filled: &Filled<'_>) -> io::Result<()> {
        let number = filled.device.metadata()?.rdev();
        let number = format!("{}:{}", major(number), minor(number));
        for path in [Path::new(BY_UUID).join(filled.uuid()), Path::new(BY_NUMBER).join(number)] {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/dev")))?;
            match symlink(&filled.device, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => {
                    result?;
                    self.0.push(path);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for path in &self.0 {
            // A link that stays leads to a device that will be there as long.
            let _ = fs::remove_file(path);
        }
    }
}
