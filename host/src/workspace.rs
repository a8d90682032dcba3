//! Folders that do not outlive their process: removed when dropped, and swept by the next run after a `kill -9`.
//!
//! They may lie in a folder that is the user's own, beside anything. So a sweep removes only what cannot be anybody
//! else's: a folder of this user, named as ours are, with a file `lock` that says in our words that it is temporary.
//! Its process keeps that file locked; a folder whose lock can be taken has lost its process.

mod remove;

use crate::error::{Class, Classify};
use nix::unistd::geteuid;
use remove::remove;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How the names of these folders begin, wherever they are.
const PREFIX: &str = ".particle-vm-";

/// Name of the file that is locked. It goes last, so that a removal that is interrupted can be taken up again.
const LOCK: &str = "lock";

/// What is in that file.
const CONTENT: &[u8] =
    b"particle-vm: a temporary folder, which is removed when no process holds the lock of this file\n";

/// Age of a folder without lock, or with an empty one, after which nobody is about to finish it.
const ABANDONED: Duration = Duration::from_secs(60);

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
    path: PathBuf,
    // Held until the folder is gone.
    _lock: File,
}

impl Workspace {
    /// A new folder in `parent`, which is created if need be. First removes what dead processes have left there.
    ///
    /// # Errors
    /// When `parent` cannot be created or written to.
    pub fn new(parent: &Path) -> Result<Self, WorkspaceError> {
        let failed = |source| WorkspaceError::Create { path: parent.to_owned(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(|source| WorkspaceError::Parent { path: parent.to_owned(), source })?;
        sweep(parent).map_err(failed)?;
        // A sweeper may look before the lock is taken: it removes the folder, and we make another.
        loop {
            let mode = Permissions::from_mode(0o700);
            let dir = tempfile::Builder::new().prefix(PREFIX).permissions(mode).tempdir_in(parent).map_err(failed)?;
            let path = dir.path().join(LOCK);
            let mut lock = match File::create_new(&path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            lock.write_all(CONTENT).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) if path.exists() => return Ok(Self { path: dir.keep(), _lock: lock }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed now is left to the next sweep.
        let _ = remove(&self.path, LOCK);
    }
}

/// Remove the workspaces in `parent` whose process has died; nothing else, whatever its name.
///
/// # Errors
/// When `parent` cannot be read. A folder that cannot be removed is left to the next sweep.
pub fn sweep(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        // Others sweep too: what cannot be looked at is gone, or not ours.
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(data) = entry.metadata() else { continue };
        if !data.is_dir() || data.uid() != geteuid().as_raw() {
            continue;
        }
        match lock_of_the_dead(&entry.path()) {
            Ok(Some(_lock)) => drop(remove(&entry.path(), LOCK)),
            Ok(None) if is_abandoned(&data) => drop(remove_begun(&entry.path())),
            Ok(None) => {}
            // About to get its lock, or dead before it did. It is empty then, and only then this removes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_abandoned(&data) {
                    let _ = std::fs::remove_dir(entry.path());
                }
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether nobody is about to write to a folder that is not finished.
fn is_abandoned(data: &Metadata) -> bool {
    data.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
}

/// Remove a folder whose process died when it had made the lock and not yet written to it: an empty file of that name is
/// all that it holds.
fn remove_begun(dir: &Path) -> io::Result<()> {
    let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    let lock = dir.join(LOCK);
    let data = std::fs::symlink_metadata(&lock)?;
    if names == [LOCK] && data.is_file() && data.uid() == geteuid().as_raw() && data.len() == 0 {
        std::fs::remove_file(&lock)?;
        std::fs::remove_dir(dir)?;
    }
    Ok(())
}

/// The lock of a workspace, taken; none if its process lives, or if the file is not one of ours.
fn lock_of_the_dead(dir: &Path) -> io::Result<Option<File>> {
    // Writable, because a lock on NFS asks for it; neither a link nor a pipe can lead this astray.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let lock = File::options().read(true).write(true).custom_flags(flags).open(dir.join(LOCK))?;
    let data = lock.metadata()?;
    let mut content = Vec::new();
    if data.is_file() && data.uid() == geteuid().as_raw() && data.len() == CONTENT.len() as u64 {
        (&lock).take(data.len()).read_to_end(&mut content)?;
    }
    let dead = content == CONTENT && lock.try_lock().is_ok();
    Ok(dead.then_some(lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_goes_with_its_handle() {
        let parent = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(parent.path()).unwrap();
        assert_eq!(std::fs::metadata(workspace.path()).unwrap().mode() & 0o777, 0o700);
        std::fs::create_dir_all(workspace.path().join("a/b")).unwrap();
        std::fs::write(workspace.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink("/", workspace.path().join("link")).unwrap();
        drop(workspace);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    /// An old folder `name` in `parent` with `files`.
    fn folder(parent: &Path, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let dir = parent.join(name);
        std::fs::create_dir(&dir).unwrap();
        for (file, content) in files {
            std::fs::write(dir.join(file), content).unwrap();
        }
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        File::open(&dir).unwrap().set_modified(old).unwrap();
        dir
    }

    #[test]
    fn a_living_workspace_is_not_swept_and_a_dead_one_is() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Workspace::new(parent.path()).unwrap();
        let dead = folder(parent.path(), ".particle-vm-dead", &[("lock", CONTENT), ("scratch.raw", b"much")]);
        let empty = folder(parent.path(), ".particle-vm-empty", &[]);
        sweep(parent.path()).unwrap();
        assert!(alive.path().is_dir());
        assert!(!dead.exists());
        assert!(!empty.exists());
    }

    #[test]
    fn one_whose_process_died_before_its_lock_was_written_is_swept_when_it_is_old() {
        let parent = tempfile::tempdir().unwrap();
        let begun = folder(parent.path(), ".particle-vm-begun", &[("lock", b"")]);
        let young = folder(parent.path(), ".particle-vm-young", &[("lock", b"")]);
        File::open(&young).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        let other = folder(parent.path(), ".particle-vm-other", &[("other", b"")]);
        let written = folder(parent.path(), ".particle-vm-written", &[("lock", b"by somebody")]);
        sweep(parent.path()).unwrap();
        assert!(!begun.exists());
        assert!(young.exists() && other.exists() && written.exists());
    }

    #[test]
    fn what_is_not_ours_survives() {
        let parent = tempfile::tempdir().unwrap();
        let thesis: (&str, &[u8]) = ("thesis.txt", b"years of work");
        let theirs = [
            folder(parent.path(), "boot-images", &[thesis]),
            folder(parent.path(), "vm-images", &[thesis, ("lock", b"")]),
            folder(parent.path(), "backup", &[thesis, ("lock", CONTENT)]),
            folder(parent.path(), ".particle-vm-notes", &[thesis]),
            folder(parent.path(), ".particle-vm-mine", &[thesis, ("lock", b"")]),
            folder(parent.path(), ".particle-vm-yours", &[thesis, ("lock", &[b'x'; CONTENT.len()])]),
        ];
        let elsewhere = folder(parent.path(), "elsewhere", &[thesis, ("lock", CONTENT)]);
        std::os::unix::fs::symlink(&elsewhere, parent.path().join(".particle-vm-link")).unwrap();
        let linked = folder(parent.path(), ".particle-vm-linked", &[thesis]);
        std::os::unix::fs::symlink(elsewhere.join("lock"), linked.join("lock")).unwrap();
        drop(Workspace::new(parent.path()).unwrap());
        for dir in theirs.iter().chain([&elsewhere, &linked]) {
            assert_eq!(std::fs::read(dir.join(thesis.0)).unwrap(), thesis.1, "{}", dir.display());
        }
    }
}
