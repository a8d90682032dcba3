//! Folders that do not outlive their process: removed when dropped, and swept by the next run after a `kill -9`.
//!
//! Each such folder holds a file `lock` that its process keeps locked. A folder whose lock can be taken has lost its
//! process.

use crate::error::{Class, Classify};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a workspace could not be made.
#[derive(Debug, Error)]
pub enum WorkspaceError {
    /// The folder above it cannot be created.
    #[error("cannot create the folder {}", .path.display())]
    Parent {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder itself or its lock cannot be created.
    #[error("cannot create a temporary folder in {}", .path.display())]
    Create {
        /// The folder above it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for WorkspaceError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        let (Self::Parent { path, .. } | Self::Create { path, .. }) = self;
        Some(format!("make {} a folder that you can write to, or name another one", path.display()))
    }
}

/// A folder of mode 0700 that is removed when dropped.
#[derive(Debug)]
pub struct Workspace {
    dir: tempfile::TempDir,
    // Held until the folder is gone.
    _lock: File,
}

impl Workspace {
    /// A new folder in `parent`, whose name begins with `prefix`. First removes what dead processes have left there
    /// under that prefix.
    ///
    /// # Errors
    /// When `parent` cannot be created or written to.
    pub fn new(parent: &Path, prefix: &str) -> Result<Self, WorkspaceError> {
        let failed = |source| WorkspaceError::Create { path: parent.to_owned(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(|source| WorkspaceError::Parent { path: parent.to_owned(), source })?;
        sweep(parent, prefix).map_err(failed)?;
        // A sweeper may look between mkdir and lock: it takes the lock, removes the folder, and we make another.
        loop {
            let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).map_err(failed)?;
            let path = dir.path().join("lock");
            let lock = match File::create_new(&path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match lock.try_lock() {
                Ok(()) if path.exists() => return Ok(Self { dir, _lock: lock }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Remove the folders in `parent` whose name begins with `prefix` and whose process has died.
///
/// # Errors
/// When `parent` cannot be read. A folder that cannot be removed is left to the next sweep.
pub fn sweep(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if !ours || !entry.file_type()?.is_dir() {
            continue;
        }
        // A folder without its lock file is about to get it, or half removed; its age tells which.
        let lock = File::open(entry.path().join("lock"));
        let dead = match &lock {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60)),
        };
        if dead {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_goes_with_its_handle() {
        let parent = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(parent.path(), "build-").unwrap();
        assert!(workspace.path().is_dir());
        drop(workspace);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_living_workspace_is_not_swept_and_a_dead_one_is() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Workspace::new(parent.path(), "build-").unwrap();
        let dead = parent.path().join("build-dead");
        let other = parent.path().join("other");
        for dir in [&dead, &other] {
            std::fs::create_dir(dir).unwrap();
            File::create(dir.join("lock")).unwrap();
        }
        sweep(parent.path(), "build-").unwrap();
        assert!(alive.path().is_dir());
        assert!(!dead.exists());
        assert!(other.is_dir());
    }
}
