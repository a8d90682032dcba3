//! Removing a workspace, whatever is in it.
//!
//! A guest writes to a folder in there, and may leave folders without permissions, links, and a nesting that is deeper than
//! a path may be long. So everything is named relative to a folder that is open, no link is followed, and each folder is
//! moved up into the workspace before it is emptied. What cannot be removed does not keep the rest.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Remove the folder `workspace`, and its file `lock` after all the others.
///
/// # Errors
/// The first one, after everything that can be removed is gone. The lock is still there then.
pub(super) fn remove(workspace: &Path, lock: &str) -> io::Result<()> {
    let top = open(workspace, FOLDER, Mode::empty())?;
    // What stays, and why the first of it does.
    let (mut stuck, mut failed) = (BTreeSet::new(), None);
    loop {
        let names = names(&top)?;
        let mut left =
            names.iter().filter(|name| name.as_bytes() != lock.as_bytes() && !stuck.contains(*name)).peekable();
        // Once more after the last one, as it may have held folders.
        if left.peek().is_none() {
            break;
        }
        let errors: Vec<_> = left.filter_map(|name| Some((name.clone(), entry(&top, name).err()?))).collect();
        for (name, error) in errors {
            stuck.insert(name);
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    unlinkat(&top, lock, UnlinkatFlags::NoRemoveDir)?;
    std::fs::remove_dir(workspace)
}

/// Remove what `name` is in `top`; folders in it come to lie in `top`.
fn entry(top: &OwnedFd, name: &CStr) -> nix::Result<()> {
    if unlink(top, name)? == Kind::File {
        return Ok(());
    }
    let folder = Dir::openat(top, name, FOLDER, Mode::empty())?;
    let mut failed = None;
    for inner in names(&folder)? {
        let moved = match unlink(&folder, &inner) {
            Ok(Kind::File) => Ok(()),
            Ok(Kind::Folder) => {
                let unique = uuid::Uuid::new_v4().simple().to_string();
                renameat(&folder, inner.as_c_str(), top, unique.as_str())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = moved {
            failed.get_or_insert(error);
        }
    }
    failed.map_or_else(|| unlinkat(top, name, UnlinkatFlags::RemoveDir), Err)
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// Remove `name` from `folder` unless it is a folder itself, which is made fit to be emptied and moved then.
fn unlink(folder: &impl AsFd, name: &CStr) -> nix::Result<Kind> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(Kind::File),
        Err(Errno::EISDIR) => {
            // When it is not ours to change, what follows says so.
            let _ = fchmodat(folder, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink);
            Ok(Kind::Folder)
        }
        Err(error) => Err(error),
    }
}

/// The names in `folder`.
fn names(folder: &impl AsFd) -> nix::Result<Vec<CString>> {
    let mut folder = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    let names = folder.iter().map(|entry| Ok(entry?.file_name().to_owned()));
    let own = |name: &nix::Result<CString>| name.as_deref() != Ok(c".") && name.as_deref() != Ok(c"..");
    names.filter(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn workspace(parent: &Path) -> std::path::PathBuf {
        let dir = parent.join("workspace");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lock"), "").unwrap();
        dir
    }

    #[test]
    fn a_folder_without_permissions_keeps_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let dir = workspace(parent.path());
        for mode in [0o000, 0o555, 0o444] {
            // On either side of it, in whatever order they are read.
            for name in ["a", "m", "z"] {
                let folder = dir.join(format!("staging/{name}{mode:o}/within"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("file"), "").unwrap();
                for path in [folder.as_path(), folder.parent().unwrap()] {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
        }
        remove(&dir, "lock").unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_behind_a_link_is_touched() {
        let parent = tempfile::tempdir().unwrap();
        let dir = workspace(parent.path());
        let theirs = parent.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("thesis.txt"), "years of work").unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.join("staging")).unwrap();
        for link in ["link", "staging/link"] {
            symlink(&theirs, dir.join(link)).unwrap();
        }
        remove(&dir, "lock").unwrap();
        assert_eq!(fs::read(theirs.join("thesis.txt")).unwrap(), b"years of work");
        assert_eq!(fs::metadata(&theirs).unwrap().permissions().mode() & 0o777, 0o755);
        // Nor is a link the workspace.
        symlink(&theirs, &dir).unwrap();
        remove(&dir, "lock").unwrap_err();
    }

    #[test]
    fn a_nesting_that_no_path_reaches_goes() {
        let parent = tempfile::tempdir().unwrap();
        let dir = workspace(parent.path());
        let mut folder = open(&dir, FOLDER, Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&folder, "deep", Mode::S_IRWXU).unwrap();
            folder = nix::fcntl::openat(&folder, "deep", FOLDER, Mode::empty()).unwrap();
        }
        remove(&dir, "lock").unwrap();
        assert!(!dir.exists());
    }
}
