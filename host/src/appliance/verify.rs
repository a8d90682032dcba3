//! Whether the files of an appliance are those of its manifest.
//!
//! Sizes are compared at every use. Hashes are compared at the first use after a boot and whenever a file has another
//! inode, size or time of change than when it was last found right: reading 300 MiB at each start would cost more than
//! starting the VM.

use super::error::ApplianceError;
use super::manifest::{self, Manifest};
use crate::dirs::Dirs;
use crate::facts;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What was found right.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot: String,
    digest: String,
    files: BTreeMap<String, Stamp>,
}

/// What changes when a file does. The time of change (ctime) cannot be set by a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let data = fs::symlink_metadata(path)?;
        if !data.file_type().is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(Self { device: data.dev(), inode: data.ino(), size: data.len(), changed: (data.ctime(), data.ctime_nsec()) })
    }
}

/// Compare the files in `folder` with `manifest`. Blocking.
///
/// # Errors
/// [`ApplianceError::Damaged`] when one is missing or another.
pub fn check(folder: &Path, manifest: &Manifest, dirs: &Dirs) -> Result<(), ApplianceError> {
    let damaged = |reason| ApplianceError::Damaged { path: folder.to_owned(), reason };
    let mut files = BTreeMap::new();
    for (name, expected) in &manifest.files {
        let stamp = Stamp::of(&folder.join(name)).map_err(|error| damaged(format!("{name}: {error}")))?;
        if stamp.size != expected.size {
            return Err(damaged(format!("{name} has {} bytes instead of {}", stamp.size, expected.size)));
        }
        files.insert(name.clone(), stamp);
    }
    let record = Record { boot: boot_id(), digest: digest_of(manifest), files };
    let path = record_path(folder, dirs)?;
    if fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok()).as_ref() == Some(&record) {
        return Ok(());
    }
    for (name, expected) in &manifest.files {
        if manifest::describe(&folder.join(name))?.sha256 != expected.sha256 {
            return Err(damaged(format!("{name} has another SHA-256 than its manifest says")));
        }
    }
    // Without the record the next use reads the files once more; nothing else depends on it.
    if let Err(error) = facts::keep(&path, &record) {
        tracing::debug!("cannot remember that {} is right: {error}", folder.display());
    }
    Ok(())
}

/// Whether there is an appliance in `folder` whose files are those of its manifest. Blocking.
pub fn is_sound(folder: &Path, dirs: &Dirs) -> bool {
    Manifest::read(folder).and_then(|manifest| check(folder, &manifest, dirs)).is_ok()
}

/// A manifest that was changed together with a file is another one.
fn digest_of(manifest: &Manifest) -> String {
    let mut hash = Sha256::new();
    for (name, file) in &manifest.files {
        hash.update(name);
        hash.update(&file.sha256);
    }
    hex::encode(hash.finalize())
}

fn record_path(folder: &Path, dirs: &Dirs) -> Result<PathBuf, ApplianceError> {
    let whole = folder.canonicalize().map_err(ApplianceError::io("open", folder))?;
    let name = hex::encode(Sha256::digest(whole.as_os_str().as_encoded_bytes()));
    Ok(dirs.facts().join(format!("appliance-{}.json", &name[..16])))
}

/// Of this boot of the machine, random(4). Where it cannot be read, each process is one of its own.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_else(|_| std::process::id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::manifest::file;
    use std::os::unix::fs::symlink;

    fn appliance(folder: &Path) -> Manifest {
        let mut manifest = manifest::tests::sample();
        for name in file::ALL {
            let path = folder.join(name);
            fs::write(&path, name).unwrap();
            manifest.files.insert(name.into(), manifest::describe(&path).unwrap());
        }
        manifest
    }

    #[test]
    fn a_whole_appliance_is_remembered_and_a_changed_one_is_found() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = Dirs::at(cache.path());
        let manifest = appliance(folder.path());
        check(folder.path(), &manifest, &dirs).unwrap();
        assert_eq!(fs::read_dir(dirs.facts()).unwrap().count(), 1);
        check(folder.path(), &manifest, &dirs).unwrap();

        let kernel = folder.path().join(file::KERNEL);
        fs::write(&kernel, "vmlinuX").unwrap();
        assert!(matches!(check(folder.path(), &manifest, &dirs), Err(ApplianceError::Damaged { .. })));
        fs::write(&kernel, "vmlinux ").unwrap();
        let error = check(folder.path(), &manifest, &dirs).unwrap_err();
        assert!(error.to_string().contains("8 bytes instead of 7"), "{error}");
        fs::remove_file(&kernel).unwrap();
        assert!(matches!(check(folder.path(), &manifest, &dirs), Err(ApplianceError::Damaged { .. })));
        symlink("modules.cpio", &kernel).unwrap();
        let error = check(folder.path(), &manifest, &dirs).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}
