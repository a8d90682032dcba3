//! The files of the recipe's folder that a build uses, for its manifest.

use super::EngineError;
use crate::output::digest;
use crate::output::manifest::File;
use crate::recipe::Recipe;
use particle_vm_protocol::Stage;
use particle_vm_protocol::stage::MAX_DEPTH;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// What the stages of `recipe` name in its folder. The guest sees that folder when there is something.
pub(super) fn named(recipe: &Recipe) -> Vec<&str> {
    let mut named = Vec::new();
    for stage in &recipe.stages {
        match &stage.stage {
            Stage::Copy(options) => named.push(options.source.as_str()),
            Stage::Run(options) => named.extend(options.file.as_deref()),
            Stage::Debootstrap(options) => named.extend(options.keyring.as_deref()),
            Stage::Sources(options) => {
                named.extend(options.sources.iter().filter_map(|source| source.keyring.as_deref()));
            }
            Stage::OstreePull(options) => {
                named.extend(options.path.iter().chain(&options.gpg_keyring).map(String::as_str))
            }
            Stage::OstreeRemotes(options) => {
                named.extend(options.remotes.iter().filter_map(|remote| remote.gpg_keyring.as_deref()));
            }
            _ => {}
        }
    }
    named
}

/// The checksums of these files in the making, on a thread of its own; it ends when this is dropped.
pub(super) struct Reading {
    task: JoinHandle<Result<BTreeMap<String, File>, EngineError>>,
    given_up: Arc<AtomicBool>,
}

impl Reading {
    /// Begin to read the files that `recipe` uses.
    pub(super) fn start(recipe: &Recipe) -> Self {
        let named: Vec<String> = named(recipe).into_iter().map(str::to_owned).collect();
        let (folder, given_up) = (recipe.folder().to_owned(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&given_up);
        let task = tokio::task::spawn_blocking(move || {
            let mut files = BTreeMap::new();
            for name in named {
                read(&folder, Path::new(&name), 0, &flag, &mut files)?;
            }
            Ok(files)
        });
        Self { task, given_up }
    }

    /// The files by their paths in the recipe's folder.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) async fn finish(mut self) -> Result<BTreeMap<String, File>, EngineError> {
        let failed =
            |error: tokio::task::JoinError| EngineError::File { path: PathBuf::from("."), source: error.into() };
        (&mut self.task).await.map_err(failed)?
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// Enter the file `relative` of `folder`, or all in that folder, into `files`. The guest copies links as links, except
/// the one that the recipe itself names.
fn read(
    folder: &Path,
    relative: &Path,
    depth: usize,
    given_up: &AtomicBool,
    files: &mut BTreeMap<String, File>,
) -> Result<(), EngineError> {
    let path = folder.join(relative);
    let failed = |source| EngineError::File { path: path.clone(), source };
    if given_up.load(Ordering::Relaxed) {
        return Err(failed(io::ErrorKind::Interrupted.into()));
    }
    let data = if depth == 0 { std::fs::metadata(&path) } else { std::fs::symlink_metadata(&path) }.map_err(failed)?;
    let file = if data.is_dir() {
        if depth < MAX_DEPTH {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                read(folder, &relative.join(entry.map_err(failed)?.file_name()), depth + 1, given_up, files)?;
            }
        }
        return Ok(());
    } else if data.is_symlink() {
        let target = std::fs::read_link(&path).map_err(failed)?;
        let sha256 = hex::encode(Sha256::digest(target.as_os_str().as_bytes()));
        File { size: target.as_os_str().len() as u64, sha256 }
    } else if data.is_file() {
        let read = std::fs::File::open(&path).and_then(|file| digest(&file, given_up)).map_err(failed)?;
        File { size: read.size, sha256: read.sha256 }
    } else {
        // The guest refuses it and says so.
        return Ok(());
    };
    files.insert(relative.display().to_string(), file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_is_read_with_all_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("tree/etc")).unwrap();
        std::fs::write(dir.path().join("tree/etc/motd"), "hello").unwrap();
        symlink("/etc/shadow", dir.path().join("tree/link")).unwrap();
        symlink("tree/etc/motd", dir.path().join("script")).unwrap();
        let mut files = BTreeMap::new();
        for name in ["tree", "script"] {
            read(dir.path(), Path::new(name), 0, &AtomicBool::new(false), &mut files).unwrap();
        }
        assert_eq!(files.keys().collect::<Vec<_>>(), ["script", "tree/etc/motd", "tree/link"]);
        assert_eq!(files["script"], files["tree/etc/motd"]);
        assert_eq!(files["script"].sha256, hex::encode(Sha256::digest("hello")));
        assert_eq!(files["tree/link"].sha256, hex::encode(Sha256::digest("/etc/shadow")));
        read(dir.path(), Path::new("tree"), 0, &AtomicBool::new(true), &mut files).unwrap_err();
    }
}
