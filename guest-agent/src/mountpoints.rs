//! What is mounted for a while.

use crate::report::{self, Explain};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs;
use std::path::{Path, PathBuf};

/// Mount points; unmounted when dropped, the last first.
#[derive(Debug, Default)]
pub struct MountPoints {
    /// In the order of mounting.
    points: Vec<PathBuf>,
}

impl MountPoints {
    /// Mount the folder `from` at `to`, with nothing of what is mounted beneath it.
    ///
    /// # Errors
    /// When one of them is no folder but perhaps a link. Folders on the way there are not looked at.
    pub fn bind(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        for path in [from, to] {
            if !fs::symlink_metadata(path).is_ok_and(|data| data.is_dir()) {
                let message = format!("{} is no folder, and something was to be mounted there", path.display());
                return Err(report::plain(FailureKind::Input, message));
            }
        }
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .explain(FailureKind::Agent, || format!("cannot mount {} at {}", from.display(), to.display()))?;
        self.push(to);
        Ok(())
    }

    /// Something has been mounted at `point`.
    pub fn push(&mut self, point: &Path) {
        self.points.push(point.to_owned());
    }

    /// Those that are mounted, in the order of mounting.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.points.iter().map(PathBuf::as_path)
    }

    /// Make the last one, a bind mount, read-only.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn seal(&self) -> Result<(), Failure> {
        let Some(point) = self.points.last() else { return Ok(()) };
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
            .explain(FailureKind::Agent, || format!("cannot make {} read-only", point.display()))
    }

    /// Unmount them all.
    ///
    /// # Errors
    /// When something in one of them is in use. What can be unmounted is.
    pub fn undo(mut self) -> Result<(), Failure> {
        self.undo_all()
    }

    fn undo_all(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        for point in std::mem::take(&mut self.points).iter().rev() {
            let unmounted = umount2(point, MntFlags::UMOUNT_NOFOLLOW);
            result =
                result.and(unmounted.explain(FailureKind::Agent, || format!("cannot unmount {}", point.display())));
        }
        result
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        if let Err(failure) = self.undo_all() {
            eprintln!("particle-vm agent: {}", failure.message);
        }
    }
}
