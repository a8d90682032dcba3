//! Paths of archives: bytes, of which nobody promises that they are UTF-8.

use super::{Tree, kind, through};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A name in an open folder of a tree.
#[derive(Debug)]
pub struct Place<'n> {
    /// The folder.
    pub folder: OwnedFd,
    /// The name.
    pub name: &'n [u8],
}

impl Tree {
    /// Open what `path` leads to for reading.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub fn open_raw(&self, path: &[u8]) -> io::Result<OwnedFd> {
        Ok(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?)
    }

    /// Whether there is a folder at `path`, and no link.
    pub fn is_folder_raw(&self, path: &[u8]) -> bool {
        let stat = self.existing(path).and_then(|place| place.stat().ok()?);
        stat.is_some_and(|stat| kind(&stat) == SFlag::S_IFDIR)
    }

    /// What the symbolic link at `path` holds; none where there is something else, or nothing.
    pub fn link_target_raw(&self, path: &[u8]) -> Option<Vec<u8>> {
        let place = self.existing(path)?;
        readlinkat(&place.folder, place.name).ok().map(OsStringExt::into_vec)
    }

    /// The name that `path` ends in, in its folder, if that is there.
    pub fn existing<'n>(&self, path: &'n [u8]) -> Option<Place<'n>> {
        let (above, name) = split(path);
        Some(Place { folder: self.resolve(above, OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?, name })
    }

    /// The folder at `path`; missing ones are made, root's and with mode 0755.
    ///
    /// # Errors
    /// When something else is in its place.
    pub fn folder_raw(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let open = || self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        match open() {
            Err(Errno::ENOENT) if !path.is_empty() => {}
            folder => return Ok(folder?),
        }
        let (above, name) = split(path);
        // A link that leads nowhere is in its place, if it exists.
        mkdirat(&self.folder_raw(above)?, name, Mode::from_bits_truncate(0o755))?;
        Ok(open()?)
    }

    /// The name that `path` ends in, in its folder, which is made when it is missing.
    ///
    /// # Errors
    /// When something else is in the folder's place.
    pub fn place<'n>(&self, path: &'n [u8]) -> io::Result<Place<'n>> {
        let (above, name) = split(path);
        Ok(Place { folder: self.folder_raw(above)?, name })
    }
}

impl Place<'_> {
    /// What is there; a link itself and not what it leads to.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn stat(&self) -> io::Result<Option<FileStat>> {
        match fstatat(&self.folder, self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Remove what is there, a folder with all that is in it. Nothing may be there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        match self.stat()? {
            None => Ok(()),
            Some(stat) if kind(&stat) == SFlag::S_IFDIR => fs::remove_dir_all(self.path()),
            Some(_) => Ok(unlinkat(&self.folder, self.name, UnlinkatFlags::NoRemoveDir)?),
        }
    }

    /// A path for functions that take nothing else. It leads through the open folder.
    pub fn path(&self) -> PathBuf {
        through(&self.folder).join(OsStr::from_bytes(self.name))
    }
}

/// A path's folder and last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
