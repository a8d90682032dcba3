//! The files of the recipe's folder that stages name. The guest opens them in the same way, and refuses what is refused
//! here; this is to tell it before.

use super::Checker;
use super::partition::MOUNTED_ELSEWHERE;
use crate::recipe::near::nearest;
use crate::recipe::path::Path;
use crate::recipe::size::Size;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{AccessFlags, access};
use particle_vm_protocol::stage::{MAX_DEPTH, MAX_READ};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Component, Path as FilePath, PathBuf};

const INSIDE: &str = "the build sees the recipe's folder only: put the file into it, and name it from there";

impl Checker<'_> {
    /// `written` names a small file of the recipe's folder that can be read.
    pub(super) fn file(&mut self, path: &Path, written: &str) {
        let Some(data) = self.beneath(path, written) else { return };
        if !data.is_file() {
            self.report(path, format!("`{written}` is not a file"));
        } else if data.len() > MAX_READ {
            let message =
                format!("`{written}` has {}, and the build reads {} of it at most", Size(data.len()), Size(MAX_READ));
            self.report(path, message);
        }
    }

    /// The same for a file of any size, or a folder. Gives the bytes of all the files.
    pub(super) fn file_or_folder(&mut self, path: &Path, written: &str) -> Option<u64> {
        let data = self.beneath(path, written)?;
        if data.is_file() {
            return Some(data.len());
        }
        if !data.is_dir() {
            self.report(path, format!("`{written}` is neither a file nor a folder"));
            return None;
        }
        match bytes_in(&self.folder.join(written), 0) {
            Ok(bytes) => Some(bytes),
            Err(Unfit { path: entry, reason }) => {
                let entry = entry.strip_prefix(&self.folder).unwrap_or(&entry).display();
                self.report(path, format!("`{entry}` cannot be copied: {reason}"));
                None
            }
        }
    }

    /// What of the folder `written` something else is mounted over, when that folder becomes `/`: the first such place.
    pub(super) fn mounted_over(&self, written: &str) -> Option<String> {
        MOUNTED_ELSEWHERE.iter().find_map(|place| {
            let folder = self.folder.join(written).join(place.trim_start_matches('/'));
            let entries = fs::read_dir(&folder).ok().filter(|_| !folder.is_symlink())?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.min().map(|name| format!("{place}/{name}"))
        })
    }

    /// What `written` names in the recipe's folder.
    fn beneath(&mut self, path: &Path, written: &str) -> Option<Metadata> {
        let relative = FilePath::new(written);
        if written.is_empty() || written.contains('\0') {
            self.report(path, "this is not a path");
        } else if relative.is_absolute() {
            self.advise(path, format!("`{written}` is an absolute path"), INSIDE);
        } else if leaves(relative) {
            self.advise(path, format!("`{written}` leads out of the recipe's folder"), INSIDE);
        } else {
            match open(&self.folder, relative) {
                Ok(data) => return Some(data),
                Err(error) => self.cannot_open(path, written, error),
            }
        }
        None
    }

    fn cannot_open(&mut self, path: &Path, written: &str, error: io::Error) {
        let found = self.folder.join(written);
        if error.raw_os_error() == Some(Errno::EXDEV as i32) {
            // The guest sees the folder under another name, where a link with the whole path leads nowhere.
            if found.canonicalize().is_ok_and(|real| real.starts_with(&self.folder)) {
                let message = format!("`{written}` leads through a symbolic link with an absolute path");
                self.advise(path, message, "make the link relative (`ln -sr`)");
            } else {
                let message = format!("`{written}` leads out of the recipe's folder by a symbolic link");
                self.advise(path, message, INSIDE);
            }
        } else if error.kind() == io::ErrorKind::NotFound && found.is_symlink() {
            self.report(path, format!("`{written}` is a symbolic link to nowhere"));
        } else if error.kind() == io::ErrorKind::NotFound {
            let near = similar(&found).map_or_else(
                || "paths are relative to the recipe's folder".to_owned(),
                |near| format!("did you mean `{}`?", FilePath::new(written).with_file_name(near).display()),
            );
            self.advise(path, format!("there is no file `{written}`"), near);
        } else {
            self.report(path, format!("`{written}` cannot be read: {error}"));
        }
    }
}

/// Whether a relative path leads above where it begins, by its words alone.
fn leaves(path: &FilePath) -> bool {
    let mut depth = 0_i32;
    path.components().any(|part| {
        depth += match part {
            Component::ParentDir => -1,
            Component::Normal(_) => 1,
            _ => 0,
        };
        depth < 0
    })
}

/// Opens what `path` names in `folder` as the guest does. Only files and folders are opened for reading: a pipe would
/// wait for its other end.
fn open(folder: &FilePath, path: &FilePath) -> io::Result<Metadata> {
    let folder = File::open(folder)?;
    let open = |flags: OFlag| -> io::Result<File> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(File::from(openat2(&folder, path, how)?))
    };
    let data = open(OFlag::O_PATH)?.metadata()?;
    if data.is_file() || data.is_dir() {
        open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    }
    Ok(data)
}

/// What in a folder cannot be copied.
struct Unfit {
    path: PathBuf,
    reason: String,
}

/// The bytes of all files in `folder`. Links are copied as links.
fn bytes_in(folder: &FilePath, depth: usize) -> Result<u64, Unfit> {
    let unfit = |path: &FilePath, reason: String| Unfit { path: path.to_owned(), reason };
    let cannot = |error: io::Error| unfit(folder, error.to_string());
    if depth == MAX_DEPTH {
        return Err(unfit(folder, format!("it lies more than {MAX_DEPTH} folders deep")));
    }
    let mut sum: u64 = 0;
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        let failed = |error: io::Error| unfit(&path, error.to_string());
        if entry.file_name().to_str().is_none() {
            return Err(unfit(&path, "its name is not UTF-8".into()));
        }
        let data = entry.metadata().map_err(failed)?;
        let bytes = if data.is_dir() {
            bytes_in(&path, depth + 1)?
        } else if data.is_file() {
            access(&path, AccessFlags::R_OK).map_err(|errno| failed(errno.into()))?;
            data.len()
        } else if !data.is_symlink() {
            return Err(unfit(&path, "it is neither a file, a folder nor a link".into()));
        } else if fs::read_link(&path).map_err(failed)?.to_str().is_none() {
            return Err(unfit(&path, "the target of the link is not UTF-8".into()));
        } else {
            0
        };
        sum = sum.saturating_add(bytes);
    }
    Ok(sum)
}

/// The name beside `path` that is most like its own.
fn similar(path: &FilePath) -> Option<String> {
    // Enough to help, and no long wait in a folder of a million files.
    const LOOKED_AT: usize = 1000;
    let entries = fs::read_dir(path.parent()?).ok()?.take(LOOKED_AT);
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    nearest(path.file_name()?.to_str()?, &names).map(str::to_owned)
}
