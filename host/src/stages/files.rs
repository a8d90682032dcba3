//! The files of the recipe's folder that stages use: for the manifest, and because what a stage makes follows from them.

use super::FileError;
use crate::output::digest;
use crate::output::manifest::File;
use crate::recipe::Recipe;
use particle_vm_protocol::Stage;
use particle_vm_protocol::stage::MAX_DEPTH;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// What a stage names in the recipe's folder.
pub(super) fn named(stage: &Stage) -> Vec<&str> {
    match stage {
        Stage::Copy(options) => vec![options.source.as_str()],
        Stage::Run(options) => options.file.as_deref().into_iter().collect(),
        Stage::Debootstrap(options) => options.keyring.as_deref().into_iter().collect(),
        Stage::Sources(options) => options.sources.iter().filter_map(|source| source.keyring.as_deref()).collect(),
        Stage::OstreePull(options) => options.path.iter().chain(&options.gpg_keyring).map(String::as_str).collect(),
        Stage::OstreeRemotes(options) => {
            options.remotes.iter().filter_map(|remote| remote.gpg_keyring.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

/// The files that the stages of a recipe use.
#[derive(Debug, Default)]
pub struct Files {
    folder: PathBuf,
    /// What each name stands for, by the paths in the folder.
    named: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// A file, a link or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// Type and permissions, as stat(2) has them: the guest copies both.
    mode: u32,
    /// Of a file or a link.
    content: Option<File>,
    /// What changes when somebody writes to it. What follows from its content does not follow from that.
    #[serde(skip)]
    stamp: Stamp,
}

type Stamp = (u64, i64, i64, i64, i64);

fn stamp(data: &Metadata) -> Stamp {
    (data.ino(), data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec())
}

impl Files {
    /// Whether the stages of `recipe` use any. The guest sees the recipe's folder then.
    pub fn are_used(recipe: &Recipe) -> bool {
        recipe.stages.iter().any(|stage| !named(&stage.stage).is_empty())
    }

    /// Those with content by their paths in the recipe's folder, for the manifest.
    pub fn manifest(&self) -> BTreeMap<String, File> {
        let with_content = |(path, entry): (&String, &Entry)| Some((path.clone(), entry.content.clone()?));
        self.named.values().flatten().filter_map(with_content).collect()
    }

    /// What `stage` uses.
    pub(super) fn of(&self, stage: &Stage) -> BTreeMap<&str, &BTreeMap<String, Entry>> {
        let entries = |name: &'_ str| self.named.get_key_value(name);
        named(stage).into_iter().filter_map(entries).map(|(name, entries)| (name.as_str(), entries)).collect()
    }

    /// Whether nobody has written to what `stage` uses since it was read.
    pub(super) fn are_unchanged(&self, stage: &Stage) -> bool {
        let unchanged = |(path, entry): (&String, &Entry), followed: bool| {
            let path = self.folder.join(path);
            let data = if followed { path.metadata() } else { path.symlink_metadata() };
            data.is_ok_and(|data| stamp(&data) == entry.stamp)
        };
        let all = |(name, entries): (&str, &BTreeMap<String, Entry>)| {
            // What the recipe names may be a link, which is followed.
            entries.iter().all(|(path, entry)| unchanged((path, entry), path == name))
        };
        self.of(stage).into_iter().all(all)
    }
}

/// The files in the making, on a thread of its own; it ends when this is dropped.
pub struct Reading {
    task: JoinHandle<Result<Files, FileError>>,
    given_up: Arc<AtomicBool>,
}

impl Reading {
    /// Begin to read the files that `recipe` uses.
    pub fn start(recipe: &Recipe) -> Self {
        let names: Vec<String> =
            recipe.stages.iter().flat_map(|stage| named(&stage.stage)).map(str::to_owned).collect();
        let (folder, given_up) = (recipe.folder().to_owned(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&given_up);
        let task = tokio::task::spawn_blocking(move || {
            let mut named = BTreeMap::new();
            for name in names {
                let mut entries = BTreeMap::new();
                read(&folder, Path::new(&name), 0, &flag, &mut entries)?;
                named.insert(name, entries);
            }
            Ok(Files { folder, named })
        });
        Self { task, given_up }
    }

    /// The files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub async fn finish(mut self) -> Result<Files, FileError> {
        let failed = |error: tokio::task::JoinError| FileError { path: PathBuf::from("."), source: error.into() };
        (&mut self.task).await.map_err(failed)?
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// Enter `relative` of `folder`, and what is in it, into `entries`. The guest copies links as links, except the one that the
/// recipe itself names.
fn read(
    folder: &Path,
    relative: &Path,
    depth: usize,
    given_up: &AtomicBool,
    entries: &mut BTreeMap<String, Entry>,
) -> Result<(), FileError> {
    let path = folder.join(relative);
    let failed = |source| FileError { path: path.clone(), source };
    if given_up.load(Ordering::Relaxed) {
        return Err(failed(io::ErrorKind::Interrupted.into()));
    }
    // Before the content: what is written while that is read has a later time.
    let data = if depth == 0 { std::fs::metadata(&path) } else { std::fs::symlink_metadata(&path) }.map_err(failed)?;
    let content = if data.is_dir() {
        if depth < MAX_DEPTH {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                read(folder, &relative.join(entry.map_err(failed)?.file_name()), depth + 1, given_up, entries)?;
            }
        }
        None
    } else if data.is_symlink() {
        let target = std::fs::read_link(&path).map_err(failed)?;
        let sha256 = hex::encode(Sha256::digest(target.as_os_str().as_bytes()));
        Some(File { size: target.as_os_str().len() as u64, sha256 })
    } else if data.is_file() {
        let read = std::fs::File::open(&path).and_then(|file| digest(&file, given_up)).map_err(failed)?;
        Some(File { size: read.size, sha256: read.sha256 })
    } else {
        // The guest refuses it and says so.
        return Ok(());
    };
    entries.insert(relative.display().to_string(), Entry { mode: data.mode(), content, stamp: stamp(&data) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn copy(source: &str) -> Stage {
        let options = json!({ "source": source, "destination": "/srv" });
        serde_json::from_value(json!({ "type": "copy", "options": options })).unwrap()
    }

    fn files(folder: &Path, names: &[&str]) -> Files {
        let entries = |name: &&str| {
            let mut entries = BTreeMap::new();
            read(folder, Path::new(name), 0, &AtomicBool::new(false), &mut entries).unwrap();
            ((*name).to_owned(), entries)
        };
        Files { folder: folder.to_owned(), named: names.iter().map(entries).collect() }
    }

    #[test]
    fn a_folder_is_read_with_all_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("tree/etc")).unwrap();
        std::fs::write(dir.path().join("tree/etc/motd"), "hello").unwrap();
        symlink("/etc/shadow", dir.path().join("tree/link")).unwrap();
        symlink("tree/etc/motd", dir.path().join("script")).unwrap();
        let read_files = files(dir.path(), &["tree", "script"]);
        let manifest = read_files.manifest();
        assert_eq!(manifest.keys().collect::<Vec<_>>(), ["script", "tree/etc/motd", "tree/link"]);
        assert_eq!(manifest["script"], manifest["tree/etc/motd"]);
        assert_eq!(manifest["script"].sha256, hex::encode(Sha256::digest("hello")));
        assert_eq!(manifest["tree/link"].sha256, hex::encode(Sha256::digest("/etc/shadow")));
        let of = read_files.of(&copy("tree"));
        assert_eq!(of["tree"].keys().collect::<Vec<_>>(), ["tree", "tree/etc", "tree/etc/motd", "tree/link"]);
        read(dir.path(), Path::new("tree"), 0, &AtomicBool::new(true), &mut BTreeMap::new()).unwrap_err();
    }

    #[test]
    fn who_writes_to_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("tree")).unwrap();
        std::fs::write(path("tree/motd"), "hello").unwrap();
        let changes: [&dyn Fn(); 4] = [
            &|| std::fs::write(path("tree/motd"), "HELLO").unwrap(),
            &|| std::fs::write(path("tree/more"), "").unwrap(),
            &|| std::fs::set_permissions(path("tree/motd"), PermissionsExt::from_mode(0o600)).unwrap(),
            &|| std::fs::remove_file(path("tree/motd")).unwrap(),
        ];
        for change in changes {
            let files = files(dir.path(), &["tree"]);
            assert!(files.are_unchanged(&copy("tree")));
            // The clock of a file system goes in steps of the kernel's ticks.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change();
            assert!(!files.are_unchanged(&copy("tree")));
        }
    }
}
