//! The target as a block device with the sector size that the image is to have.

use crate::loopdev::LoopDevice;
use crate::report::Explain;
use particle_vm_protocol::{Failure, FailureKind, SectorSize};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The disk itself, or a loop device over it.
#[derive(Debug)]
pub enum Device {
    /// Its sectors have 512 bytes, as virtio-blk presents it.
    Disk(PathBuf),
    /// Larger sectors.
    Loop(LoopDevice),
}

impl Device {
    /// The disk at `path` with sectors of `sector_size`.
    ///
    /// # Errors
    /// When there is no loop device.
    pub fn open(path: &Path, sector_size: SectorSize) -> Result<Self, Failure> {
        if sector_size == SectorSize::B512 {
            return Ok(Self::Disk(path.to_owned()));
        }
        LoopDevice::attach(path, sector_size.bytes())
            .map(Self::Loop)
            .explain(FailureKind::Agent, || "cannot give the disk another sector size")
    }

    /// The block device.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Loop(device) => device.path(),
        }
    }

    /// Write everything to the disk.
    ///
    /// # Errors
    /// When writing fails, or something uses the device.
    pub fn close(self) -> Result<(), Failure> {
        let explain = || "cannot write the disk out";
        match self {
            Self::Disk(path) => File::open(path).and_then(|file| file.sync_all()).explain(FailureKind::Agent, explain),
            Self::Loop(device) => device.detach().explain(FailureKind::Agent, explain),
        }
    }
}

/// Size of a block device in bytes.
///
/// # Errors
/// When it cannot be opened.
pub fn size(path: &Path) -> Result<u64, Failure> {
    File::open(path)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .explain(FailureKind::Agent, || format!("cannot tell the size of {}", path.display()))
}
