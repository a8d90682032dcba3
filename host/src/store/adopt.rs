//! Files that come into the store as they are, and are used where they lie: too large to be written twice.

use super::{Store, StoreError, content_path, index, open_checked};
use crate::output::digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// Bytes that are copied between two looks at whether it is still wanted.
const STEP: u64 = 16 << 20;

/// A file that the store has taken over. It may be read and not written to, and goes when somebody prunes the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Store {
    /// Take the file `path` over as the object `key`, with `about` beside it. Nobody writes to it any more; whoever has it open
    /// may go on to read it. Ends when `given_up` becomes true.
    ///
    /// # Errors
    /// When it cannot be read, or not come into the store.
    pub async fn adopt<T: Serialize + Send + 'static>(
        &self,
        key: &str,
        path: &Path,
        about: T,
        given_up: &Arc<AtomicBool>,
    ) -> Result<Adopted, StoreError> {
        let (root, name, path, given_up) = (self.root.clone(), key.to_owned(), path.to_owned(), Arc::clone(given_up));
        let adopted = tokio::task::spawn_blocking(move || adopt(&root, &name, &path, &about, &given_up)).await;
        let adopted = adopted.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        adopted.map_err(|source| StoreError::Object { action: "write", key: key.to_owned(), source })
    }

    /// The file of the object `key` if there is a sound one, and what was put beside it if that is a `T`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn adopted<T: DeserializeOwned + Send + 'static>(
        &self,
        key: &str,
    ) -> Result<Option<(Adopted, T)>, StoreError> {
        let (root, name) = (self.root.clone(), key.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let Some(entry) = cacache::index::find(&root, &name)? else { return Ok(None) };
            let Ok(about) = serde_json::from_value(entry.metadata.clone()) else { return Ok(None) };
            let Some(object) = open_checked(&root, &name)? else { return Ok(None) };
            let path = content_path(&root, &entry.integrity);
            Ok(Some((Adopted { path, sha256: object.sha256 }, about)))
        });
        let found = found.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        found.map_err(|source| StoreError::Object { action: "read", key: key.to_owned(), source })
    }

    /// Note that files have been used, each of which is of no use without those before it: when the store is pruned, the last
    /// goes first.
    pub fn used(&self, chain: &[PathBuf]) {
        let mut time = SystemTime::now();
        for path in chain.iter().rev() {
            // A store that cannot be written to is still good for reading.
            let _ = File::open(path).and_then(|file| file.set_modified(time));
            time += Duration::from_millis(1);
        }
    }
}

fn of_file(source: io::Error) -> cacache::Error {
    cacache::Error::IoError(source, "the file is of no use".into())
}

fn adopt(
    root: &Path,
    key: &str,
    path: &Path,
    about: &impl Serialize,
    given_up: &AtomicBool,
) -> Result<Adopted, cacache::Error> {
    let file = File::open(path).map_err(of_file)?;
    let read = digest(&file, given_up).map_err(of_file)?;
    let integrity = cacache::Integrity::from_hex(&read.sha256, cacache::Algorithm::Sha256)?;
    let place = content_path(root, &integrity);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(of_file)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o400)).map_err(of_file)?;
    match std::fs::rename(path, &place) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(&file, root, &place, given_up),
        renamed => renamed,
    }
    .map_err(of_file)?;
    index(root, key, integrity, read.size, about)?;
    Ok(Adopted { path: place, sha256: read.sha256 })
}

/// Bring a file from another file system into its place.
fn copy(mut file: &File, root: &Path, place: &Path, given_up: &AtomicBool) -> io::Result<()> {
    let unfinished = root.join(super::UNFINISHED);
    std::fs::create_dir_all(&unfinished)?;
    let mut copied = NamedTempFile::new_in(unfinished)?;
    file.rewind()?;
    while io::copy(&mut file.take(STEP), copied.as_file_mut())? > 0 {
        if given_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    copied.as_file_mut().flush()?;
    copied.as_file().set_permissions(Permissions::from_mode(0o400))?;
    copied.persist(place)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[tokio::test]
    async fn a_file_is_taken_over_and_used_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let file = dir.path().join("layer");
        std::fs::write(&file, "what a stage has made").unwrap();
        let inode = std::fs::metadata(&file).unwrap().ino();
        let about = vec!["fetched".to_owned()];
        let adopted = store.adopt("stage 1", &file, about.clone(), &Arc::default()).await.unwrap();
        assert!(!file.exists());
        assert_eq!(store.adopted::<Vec<String>>("stage 1").await.unwrap(), Some((adopted.clone(), about)));
        assert_eq!(std::fs::metadata(&adopted.path).unwrap().ino(), inode);
        assert!(store.adopted::<Vec<String>>("stage 2").await.unwrap().is_none());
        // Of another version.
        assert!(store.adopted::<u32>("stage 1").await.unwrap().is_none());
        // One that has rotted is none.
        std::fs::set_permissions(&adopted.path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&adopted.path, "what a stage has mode").unwrap();
        assert!(store.adopted::<Vec<String>>("stage 1").await.unwrap().is_none());
        assert!(!adopted.path.exists());
    }

    #[tokio::test]
    async fn what_lies_on_others_goes_before_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut chain = Vec::new();
        for number in ["1", "2", "3"] {
            let file = dir.path().join(number);
            std::fs::write(&file, number.repeat(100)).unwrap();
            chain.push(store.adopt(number, &file, (), &Arc::default()).await.unwrap().path);
        }
        store.used(&chain);
        assert_eq!(store.prune(200).unwrap().objects, 1);
        assert_eq!([0, 1, 2].map(|place: usize| chain[place].exists()), [true, true, false]);
    }

    #[test]
    fn a_file_of_another_file_system_is_copied_as_long_as_it_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "abc").unwrap();
        let file = File::open(&from).unwrap();
        assert!(copy(&file, dir.path(), &to, &AtomicBool::new(true)).is_err());
        assert!(!to.exists());
        copy(&file, dir.path(), &to, &AtomicBool::new(false)).unwrap();
        assert_eq!(std::fs::read(to).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
