//! The tree that is being built, as a file system of its own.
//!
//! A tree holds what packages and recipes have put there: symbolic links that are absolute, that lead out of it, that
//! go round in circles. Every path is resolved by the kernel with the tree's root as `/` (`openat2(2)`,
//! `RESOLVE_IN_ROOT`), so that nothing outside is read or written, whatever the links say.

mod raw;
mod write;

pub use raw::Place;
pub use write::Attributes;

use crate::report;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest file that is read into memory, in bytes. Configuration files are small; one that is not is not one.
const MAX_READ: u64 = 16 << 20;

/// How often a path is resolved again when something was renamed meanwhile (`openat2(2)`, `EAGAIN`).
const ATTEMPTS: usize = 16;

/// What cannot be done in a tree.
#[derive(Debug, Error)]
#[error("cannot {what} `{path}` in the image")]
pub struct TreeError {
    /// What was tried.
    pub what: &'static str,
    /// The path as the image sees it.
    pub path: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        report::failure(FailureKind::Agent, &error)
    }
}

fn cannot<E: Into<io::Error>>(what: &'static str, path: &str) -> impl FnOnce(E) -> TreeError {
    move |error| TreeError { what, path: path.to_owned(), source: error.into() }
}

/// A root folder. Paths are absolute paths as the image sees them; a leading `/` may be left out.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// The tree in `path`.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where it is, seen from the appliance.
    pub fn root(&self) -> &Path {
        &self.path
    }

    /// What a file contains.
    ///
    /// # Errors
    /// When it is missing, cannot be read or has more than 16 MiB.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, TreeError> {
        let read = || {
            let fd = self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
            let file = File::from(fd);
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let mut bytes = Vec::new();
            file.take(MAX_READ + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_READ {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            Ok(bytes)
        };
        read().map_err(cannot("read", path))
    }

    /// What a text file contains; nothing when it is missing. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read_text(&self, path: &str) -> Result<String, TreeError> {
        match self.read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// What `path` is, after links; nothing when it is missing or leads nowhere.
    pub fn stat(&self, path: &str) -> Option<FileStat> {
        let fd = self.resolve(path, OFlag::O_PATH).ok()?;
        nix::sys::stat::fstat(fd).ok()
    }

    /// What `path` itself is, a link too; nothing when it is missing.
    pub fn lstat(&self, path: &str) -> Option<FileStat> {
        let (folder, name) = self.parent(path).ok()?;
        fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }

    /// Whether there is a regular file at `path`, after links.
    pub fn is_file(&self, path: &str) -> bool {
        self.stat(path).is_some_and(|stat| kind(&stat) == SFlag::S_IFREG)
    }

    /// Whether there is a folder at `path`, after links.
    pub fn is_folder(&self, path: &str) -> bool {
        self.stat(path).is_some_and(|stat| kind(&stat) == SFlag::S_IFDIR)
    }

    /// Whether there is anything at `path`, a link that leads nowhere too.
    pub fn exists(&self, path: &str) -> bool {
        let Ok((folder, name)) = self.parent(path) else { return false };
        fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Where the link at `path` leads, as it is written; nothing when there is no link.
    pub fn link_target(&self, path: &str) -> Option<PathBuf> {
        let (folder, name) = self.parent(path).ok()?;
        readlinkat(&folder, name).ok().map(PathBuf::from)
    }

    /// The names in a folder, sorted; none when it is missing. Names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self, path: &str) -> Result<Vec<String>, TreeError> {
        let folder = match self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            folder => folder.map_err(cannot("read", path))?,
        };
        let entries = fs::read_dir(through(&folder)).map_err(cannot("read", path))?;
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Open what `path` leads to.
    fn resolve(&self, path: impl AsRef<[u8]>, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = path.as_ref();
        let relative = &path[path.iter().take_while(|byte| **byte == b'/').count()..];
        let relative = if relative.is_empty() { b"." } else { relative };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 1..ATTEMPTS {
            match openat2(&self.root, relative, how) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        openat2(&self.root, relative, how)
    }

    /// The folder that holds `path`, and the name in it.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        let (folder, name) = split(path)?;
        Ok((self.resolve(folder, OFlag::O_PATH | OFlag::O_DIRECTORY)?, name))
    }
}

/// A path's folder and last name.
fn split(path: &str) -> Result<(&str, &str), Errno> {
    let path = path.trim_end_matches('/');
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "" | "." | ".." => Err(Errno::EINVAL),
        name => Ok((folder, name)),
    }
}

/// The type of file.
fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT)
}

/// A path for functions of the standard library that leads to an open folder.
fn through(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}
