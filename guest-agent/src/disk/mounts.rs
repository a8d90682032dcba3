//! The file systems of the target disk, mounted beneath one folder.

use super::{Filled, format, fstab};
use crate::mountpoints::MountPoints;
use crate::report::Explain;
use crate::tree::{Attributes, Tree};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use particle_vm_protocol::{Failure, FailureKind};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `struct fstrim_range` of `linux/fs.h`.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    shortest: u64,
}

nix::ioctl_readwrite!(trim, b'X', 121, TrimRange);

/// Mounted file systems; unmounted when dropped.
#[derive(Debug)]
pub struct Mounts {
    points: MountPoints,
}

impl Mounts {
    /// Nothing yet.
    pub fn none() -> Self {
        Self { points: MountPoints::default() }
    }

    /// Mount file systems at their mount points beneath `root`.
    ///
    /// # Errors
    /// When one cannot be mounted. Those before it are unmounted then.
    pub fn new<'a, 'b: 'a>(
        root: &Path,
        partitions: impl Iterator<Item = (String, &'a Filled<'b>)>,
    ) -> Result<Self, Failure> {
        let mut mounts = Self::none();
        let mut sorted: Vec<_> = partitions.collect();
        sorted.sort_by_key(|(point, _)| fstab::depth(point));
        fs::create_dir_all(root).explain(FailureKind::Agent, || format!("cannot make {}", root.display()))?;
        for (point, filled) in sorted {
            let path = if point == "/" {
                root.to_owned()
            } else {
                // What lies above is a new file system with nothing but folders in it.
                Tree::open(root)
                    .explain(FailureKind::Agent, || format!("cannot open {}", root.display()))?
                    .make_folder(&point, Attributes::root(0o755))?;
                root.join(point.trim_start_matches('/'))
            };
            mounts.add(&path, filled)?;
        }
        Ok(mounts)
    }

    /// Mount one more, at `path`.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn add(&mut self, path: &Path, filled: &Filled<'_>) -> Result<(), Failure> {
        fs::create_dir_all(path).explain(FailureKind::Agent, || format!("cannot make {}", path.display()))?;
        let kind = filled.filesystem.kind;
        let options = format::mount_options(kind, &filled.partition.options);
        let options = Some(options.as_str()).filter(|options| !options.is_empty());
        mount(Some(&filled.device), path, Some(kind.name()), MsFlags::MS_NOATIME, options)
            .explain(FailureKind::Agent, || {
                format!("cannot mount {} at {}", filled.device.display(), path.display())
            })?;
        self.points.push(path);
        Ok(())
    }

    /// Bytes that the files occupy.
    ///
    /// # Errors
    /// When a file system does not tell.
    pub fn used(&self) -> Result<u64, Failure> {
        self.points.iter().try_fold(0, |sum, point| {
            let state = statvfs(point).explain(FailureKind::Agent, || format!("cannot measure {}", point.display()))?;
            Ok(sum + (state.blocks() - state.blocks_free()) * state.fragment_size())
        })
    }

    /// Tell the disk which blocks are free, so that the image has holes there.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that the file system or the disk cannot do it.
    pub fn trim(&self) -> Result<(), Failure> {
        self.points.iter().try_for_each(|point| {
            let explain = || format!("cannot discard the free space of {}", point.display());
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let folder = nix::fcntl::open(point, flags, Mode::empty()).explain(FailureKind::Agent, explain)?;
            let mut range = TrimRange { start: 0, length: u64::MAX, shortest: 0 };
            // SAFETY: `range` has the layout of struct fstrim_range and outlives the call.
            match unsafe { trim(folder.as_raw_fd(), &raw mut range) } {
                Ok(_) | Err(nix::Error::EOPNOTSUPP | nix::Error::ENOTTY) => Ok(()),
                // ext4 refuses while its journal is not loaded; mounted so, it has discarded what was freed at once.
                Err(nix::Error::EROFS) => Ok(()),
                Err(error) => Err(error).explain(FailureKind::Agent, explain),
            }
        })
    }

    /// Write everything out and unmount.
    ///
    /// # Errors
    /// When something is in use. What can be unmounted is.
    pub fn unmount(self) -> Result<(), Failure> {
        self.points.undo()
    }
}
