//! What was downloaded, and what stages have made, kept for the next build: objects named by URL or key, held by their SHA-256
//! (`cacache`), shared by all builds of one user on one machine.
//!
//! An object appears when it is complete ([`Put::commit`]) and never before. It is read from end to end and compared
//! with its digest before it is handed out; one that has rotted is removed and counts as absent. Several processes may
//! use one store at a time: objects are written under another name and renamed, and whoever reads an object that is
//! pruned at that moment keeps its descriptor.

mod adopt;
mod lock;

pub use adopt::Adopted;
pub use lock::{Alone, Making};

use crate::error::{Class, Classify};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use thiserror::Error;
use tokio::io::AsyncWriteExt;

/// Where `cacache` writes what is not committed yet.
const UNFINISHED: &str = "tmp";

/// Where `cacache` keeps the objects.
const CONTENT: &str = "content-v2";

/// Bytes that are read at a time.
const READ_SIZE: usize = 256 << 10;

/// Why the store could not do its work.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be made, read or locked.
    #[error("cannot use {} as the store of downloads and stages", .path.display())]
    Folder {
        /// The folder or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An object cannot be read, written or removed.
    #[error("cannot {action} the object of {key} in the store")]
    Object {
        /// What was to be done.
        action: &'static str,
        /// Its name.
        key: String,
        /// Why.
        #[source]
        source: cacache::Error,
    },
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Folder { .. } => {
                Some("set XDG_CACHE_HOME to a folder that you can write to and that has space left".into())
            }
            Self::Object { .. } => Some("make sure that the cache has space left (`particle-vm cache prune`)".into()),
        }
    }
}

/// What is known about an object beside its bytes: the response's fields of these names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// A build failed on it: it must be fetched anew ([`Store::doubt`]).
    #[serde(default)]
    doubted: bool,
}

impl Fields {
    /// The fields of one response.
    pub fn new(content_type: Option<String>, last_modified: Option<String>, etag: Option<String>) -> Self {
        Self { content_type, last_modified, etag, doubted: false }
    }
}

/// An object whose digest has just been checked.
#[derive(Debug)]
pub struct Object {
    /// Its bytes, at their beginning.
    pub file: File,
    /// How many there are.
    pub size: u64,
    /// Their SHA-256 in hexadecimal.
    pub sha256: String,
    /// The fields of the response that brought it.
    pub fields: Fields,
}

/// What [`Store::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many objects.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<PathBuf>,
    // Shared by all that use the store; whoever gets it alone may remove what dead processes left half written.
    _lock: Arc<File>,
}

impl Store {
    /// Open the store in `root` ([`crate::dirs::Dirs::store`]); make it, if there is none. Removes what a killed
    /// process left half written, unless another process uses the store at the moment. Blocking: another process may
    /// be removing such things.
    ///
    /// # Errors
    /// When the folder cannot be made or locked.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path, source| StoreError::Folder { path: path.to_owned(), source };
        std::fs::create_dir_all(root).map_err(|source| failed(root, source))?;
        let path = root.join("lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(|source| failed(&path, source))?;
        if lock.try_lock().is_ok() {
            let unfinished = root.join(UNFINISHED);
            match std::fs::remove_dir_all(&unfinished) {
                // It takes up space, no more; root may have left it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {error}", unfinished.display());
                }
                _ => {}
            }
        }
        lock.lock_shared().map_err(|source| failed(&path, source))?;
        Ok(Self { root: Arc::new(root.to_owned()), _lock: Arc::new(lock) })
    }

    /// [`Store::open`] on another thread, so that the caller can be interrupted.
    ///
    /// # Errors
    /// As that.
    pub async fn open_waiting(root: PathBuf) -> Result<Self, StoreError> {
        let opened = tokio::task::spawn_blocking(move || Self::open(&root)).await;
        opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// The object that is stored as `key`, if there is a sound one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let (root, name) = (self.root.clone(), key.to_owned());
        let found = tokio::task::spawn_blocking(move || open_checked(&root, &name)).await;
        let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        found.map_err(|source| StoreError::Object { action: "read", key: key.to_owned(), source })
    }

    /// The file of the object that is stored as `key`, if there is one, not compared with its digest: for a caller that
    /// does so while it reads. Blocking.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn locate(&self, key: &str) -> Result<Option<File>, StoreError> {
        let failed = |source| StoreError::Object { action: "read", key: key.to_owned(), source };
        let Some(entry) = cacache::index::find(&self.root, key).map_err(failed)? else {
            return Ok(None);
        };
        match File::open(content_path(&self.root, &entry.integrity)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(cacache::Error::IoError(error, "the object is not readable".into()))),
        }
    }

    /// Begin to write an object; it is stored when [`Put::commit`] succeeds.
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub async fn put_stream(&self, key: &str, fields: Fields) -> Result<Put, StoreError> {
        let writer = cacache::WriteOpts::new()
            .algorithm(cacache::Algorithm::Sha256)
            .open_hash(&*self.root)
            .await
            .map_err(|source| StoreError::Object { action: "write", key: key.to_owned(), source })?;
        Ok(Put { root: self.root.clone(), key: key.to_owned(), fields, writer, written: 0 })
    }

    /// Hand out `key` no more until it has been fetched again: a build failed after it had been given this object, and
    /// only the guest's package manager knows whether it was the right one.
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub fn doubt(&self, key: &str) -> Result<(), StoreError> {
        let failed = |source| StoreError::Object { action: "mark", key: key.to_owned(), source };
        let Some(entry) = cacache::index::find(&self.root, key).map_err(failed)? else {
            return Ok(());
        };
        let fields = Fields { doubted: true, ..fields_of(&entry) };
        let size = u64::try_from(entry.size).unwrap_or(u64::MAX);
        index(&self.root, key, entry.integrity, size, &fields).map_err(failed)
    }

    /// Bytes that the objects occupy.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(self.contents()?.iter().map(|content| content.size).sum())
    }

    /// Remove the objects that have not been used for the longest time until no more than `keep` bytes are left.
    ///
    /// # Errors
    /// When the store cannot be read or an object not be removed.
    pub fn prune(&self, keep: u64) -> Result<Pruned, StoreError> {
        let mut contents = self.contents()?;
        contents.sort_by_key(|content| content.used);
        let mut left: u64 = contents.iter().map(|content| content.size).sum();
        let mut pruned = Pruned::default();
        if left <= keep {
            return Ok(pruned);
        }
        // `cacache` removes an entry of the index only while the object that it names is there.
        let mut names: HashMap<PathBuf, Vec<String>> = HashMap::new();
        for entry in cacache::list_sync(&*self.root).flatten() {
            names.entry(content_path(&self.root, &entry.integrity)).or_default().push(entry.key);
        }
        for Content { path, size, .. } in contents {
            if left <= keep {
                break;
            }
            for key in names.remove(&path).unwrap_or_default() {
                let removed = cacache::RemoveOpts::new().remove_fully(true).remove_sync(&*self.root, &key);
                let removed = removed.or_else(|error| {
                    // A second name of the same object.
                    if is_absent(&error) { cacache::index::delete(&self.root, &key) } else { Err(error) }
                });
                removed.map_err(|source| StoreError::Object { action: "remove", key, source })?;
            }
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Folder { path, source });
                }
                _ => {}
            }
            left -= size;
            pruned.objects += 1;
            pruned.bytes += size;
        }
        Ok(pruned)
    }

    fn contents(&self) -> Result<Vec<Content>, StoreError> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.join(CONTENT)];
        while let Some(folder) = folders.pop() {
            let failed = |source| StoreError::Folder { path: folder.clone(), source };
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                match entry.metadata() {
                    Ok(data) if data.is_dir() => folders.push(entry.path()),
                    Ok(data) => {
                        let used = data.modified().map_err(failed)?;
                        found.push(Content { path: entry.path(), size: data.len(), used });
                    }
                    // Another process has pruned it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(found)
    }
}

/// The file of an object.
struct Content {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// An object that is being written. Dropped without [`Put::commit`], it leaves nothing behind.
pub struct Put {
    root: Arc<PathBuf>,
    key: String,
    fields: Fields,
    writer: cacache::Writer,
    written: u64,
}

impl Put {
    /// Append `bytes`.
    ///
    /// # Errors
    /// When they cannot be written, for instance because the disk is full.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.written += bytes.len() as u64;
        let result = self.writer.write_all(bytes).await;
        result.map_err(|source| self.failed(cacache::Error::IoError(source, "cannot write".into())))
    }

    /// Store the object, in place of one that has the same name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { root, key, fields, writer, written } = self;
        let failed = |source| StoreError::Object { action: "write", key: key.clone(), source };
        let integrity = writer.commit().await.map_err(failed)?;
        index(&root, &key, integrity, written, &fields).map_err(failed)
    }

    fn failed(&self, source: cacache::Error) -> StoreError {
        StoreError::Object { action: "write", key: self.key.clone(), source }
    }
}

fn index(
    root: &Path,
    key: &str,
    integrity: cacache::Integrity,
    size: u64,
    fields: &impl Serialize,
) -> Result<(), cacache::Error> {
    let metadata = serde_json::to_value(fields)
        .map_err(|source| cacache::Error::SerdeError(source, "cannot write the fields".into()))?;
    let options = cacache::WriteOpts::new()
        .integrity(integrity)
        .size(usize::try_from(size).unwrap_or(usize::MAX))
        .metadata(metadata);
    cacache::index::insert(root, key, options).map(drop)
}

fn fields_of(entry: &cacache::Metadata) -> Fields {
    serde_json::from_value(entry.metadata.clone()).unwrap_or_default()
}

fn is_absent(error: &cacache::Error) -> bool {
    matches!(error, cacache::Error::IoError(source, _) if source.kind() == io::ErrorKind::NotFound)
}

/// Where `cacache` keeps the object with this digest.
fn content_path(root: &Path, integrity: &cacache::Integrity) -> PathBuf {
    let (algorithm, digest) = integrity.to_hex();
    let mut path = root.join(CONTENT);
    path.extend([algorithm.to_string().as_str(), &digest[..2], &digest[2..4], &digest[4..]]);
    path
}

/// The bytes are read twice, to be checked and to be sent: what a client has got cannot be taken back.
fn open_checked(root: &Path, key: &str) -> Result<Option<Object>, cacache::Error> {
    let Some(entry) = cacache::index::find(root, key)? else {
        return Ok(None);
    };
    let fields = fields_of(&entry);
    if fields.doubted {
        return Ok(None);
    }
    let failed = |source| cacache::Error::IoError(source, "the object is not readable".into());
    let mut file = match File::open(content_path(root, &entry.integrity)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut digest = Sha256::new();
    let (mut size, mut buffer) = (0, vec![0; READ_SIZE]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        digest.update(&buffer[..read]);
    }
    let sha256 = hex::encode(digest.finalize());
    if entry.integrity.to_hex().1 != sha256 {
        cacache::remove_hash_sync(root, &entry.integrity)?;
        return Ok(None);
    }
    file.rewind().map_err(failed)?;
    // For `prune`; a store on a read-only file system is still good for reading.
    let _ = file.set_modified(SystemTime::now());
    Ok(Some(Object { file, size, sha256, fields }))
}

#[cfg(test)]
mod tests;
