//! `particle-vm cache`

use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::error::{Class, Classify, Result};
use crate::recipe::Size;
use crate::store::Store;
use crate::workspace;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Look at what is kept in $XDG_CACHE_HOME/particle-vm, or remove it
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Cache {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List what is kept, with its size and its place
    Ls,
    /// Remove downloads and what stages have made, those first that have not been used for the longest time, the logs of
    /// builds that failed, and what killed builds left
    ///
    /// Appliances are removed with `particle-vm appliance rm`.
    Prune(Prune),
}

/// Options of `cache prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Keep so much, for instance 2GiB
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub keep: Size,
}

/// The cache cannot be read.
#[derive(Debug, Error)]
#[error("cannot read or remove {}", .path.display())]
pub struct CacheError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Classify for CacheError {
    fn class(&self) -> Class {
        Class::Host
    }
}

impl Cache {
    /// List it, or remove things.
    ///
    /// # Errors
    /// When the cache cannot be read or an object cannot be removed.
    pub fn run(self) -> Result<u8> {
        let dirs = Dirs::new()?;
        match self.verb {
            Verb::Ls => list(&dirs),
            Verb::Prune(options) => prune(&dirs, options.keep.0),
        }
    }
}

fn list(dirs: &Dirs) -> Result<u8> {
    let folders = [
        ("appliances", dirs.appliances()),
        ("downloads and stages", dirs.store()),
        ("logs of failed builds", dirs.logs()),
        ("facts about this machine", dirs.facts()),
        ("builds under way", dirs.work()),
    ];
    let mut text = String::new();
    for (what, path) in folders {
        let size = allocated(&path).map_err(|source| CacheError { path: path.clone(), source })?;
        text.push_str(&format!("{what:<26}{:>12}  {}\n", ByteSize(size).display().iec().to_string(), path.display()));
    }
    stdout::print(text)?;
    Ok(0)
}

fn prune(dirs: &Dirs, keep: u64) -> Result<u8> {
    let pruned = Store::open(&dirs.store())?.prune(keep)?;
    for folder in [dirs.work(), dirs.logs(), dirs.appliances()].into_iter().filter(|folder| folder.exists()) {
        workspace::sweep(&folder).map_err(|source| CacheError { path: folder.clone(), source })?;
    }
    let logs = remove_files(&dirs.logs())?;
    remove_files(&dirs.recipes())?;
    let size = ByteSize(pruned.bytes).display().iec();
    stdout::print(format!("removed downloads: {}, {size}; logs: {logs}\n", pruned.objects))?;
    Ok(0)
}

/// Remove the files in `folder`, which need not exist; tells how many there were.
fn remove_files(folder: &Path) -> std::result::Result<usize, CacheError> {
    let failed = |path: &Path, source| CacheError { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(folder, error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|source| failed(folder, source))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::remove_file(entry.path()).map_err(|source| failed(&entry.path(), source))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What is allocated on the disk for the files beneath `path`, which need not exist.
fn allocated(path: &Path) -> io::Result<u64> {
    let gone = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) };
    let data = match std::fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) => return gone(error),
    };
    let own = data.blocks() * 512;
    if !data.is_dir() {
        return Ok(own);
    }
    // Builds come and go while this looks.
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return gone(error),
    };
    entries.map(|entry| allocated(&entry?.path())).try_fold(own, |sum, size| Ok(sum + size?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_takes_no_space() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(allocated(&dir.path().join("nothing")).unwrap(), 0);
        std::fs::write(dir.path().join("file"), vec![1; 10_000]).unwrap();
        assert!(allocated(dir.path()).unwrap() >= 10_000);
    }
}
