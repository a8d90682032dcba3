//! Checksums of images, which also brings them to the disk.

use super::OutputError;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// How much is read at a time, and after which the cancel flag is looked at.
const BLOCK: usize = 1 << 20;

/// What a hole in a sparse file reads as.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What is known of a file that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Bytes that it takes on the disk.
    pub(crate) allocated: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// Checksums in the making, on a thread of their own; it ends when this is dropped.
pub(super) struct Reading {
    task: JoinHandle<Result<Vec<Digest>, OutputError>>,
    cancelled: Arc<AtomicBool>,
    path: PathBuf,
}

impl Reading {
    /// Begin to read `files` of `path`, one after the other: a repository has a hundred thousand. Each is flushed to the
    /// disk before it is read, so that a checksum never vouches for bytes that a power cut can still take away.
    pub(super) fn start(path: &Path, files: Vec<PathBuf>) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = cancelled.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; BLOCK];
            let mut read = |path: &Path| {
                let file = File::open(path)?;
                file.sync_all()?;
                digest_with(&file, &flag, &mut buffer)
            };
            let one = |path: PathBuf| read(&path).map_err(|source| OutputError::Digest { path, source });
            files.into_iter().map(one).collect()
        });
        Self { task, cancelled, path: path.to_owned() }
    }

    /// The same for the file `path`.
    pub(super) fn of(path: &Path) -> Self {
        Self::start(path, vec![path.to_owned()])
    }

    /// The results, in the order of the files.
    ///
    /// # Errors
    /// When a file cannot be read or flushed.
    pub(super) async fn finish(mut self) -> Result<Vec<Digest>, OutputError> {
        let failed = |source| OutputError::Digest { path: self.path.clone(), source };
        (&mut self.task).await.map_err(|error| failed(error.into()))?
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Read a file from its beginning to its end; holes are hashed without being read.
///
/// # Errors
/// When it cannot be read, or `cancelled` becomes true.
pub(crate) fn digest(file: &File, cancelled: &AtomicBool) -> io::Result<Digest> {
    digest_with(file, cancelled, &mut vec![0; BLOCK])
}

fn digest_with(file: &File, cancelled: &AtomicBool, buffer: &mut [u8]) -> io::Result<Digest> {
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < size {
        let data = next_data(file, at)?.unwrap_or(size).min(size);
        while at < data {
            check(cancelled)?;
            let length = (data - at).min(BLOCK as u64);
            hash.update(&ZEROS[..length as usize]);
            at += length;
        }
        if at == size {
            break;
        }
        let hole = (lseek(file, at.cast_signed(), Whence::SeekHole)?.cast_unsigned()).min(size);
        while at < hole {
            check(cancelled)?;
            let length = (hole - at).min(BLOCK as u64) as usize;
            file.read_exact_at(&mut buffer[..length], at)?;
            hash.update(&buffer[..length]);
            at += length as u64;
        }
    }
    let allocated = file.metadata()?.blocks() * 512;
    Ok(Digest { size, allocated, sha256: hex::encode(hash.finalize()) })
}

/// Where the next data begin; none behind the last of them. A file system that cannot tell has data everywhere.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match lseek(file, at.cast_signed(), Whence::SeekData) {
        Ok(data) => Ok(Some(data.cast_unsigned())),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn check(cancelled: &AtomicBool) -> io::Result<()> {
    if cancelled.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }

    #[tokio::test]
    async fn holes_count_as_zeros() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 5 << 20];
        for at in [0, (1 << 20) + 17, 4 << 20] {
            file.as_file().write_all_at(b"particle", at as u64).unwrap();
            bytes[at..at + 8].copy_from_slice(b"particle");
        }
        file.as_file().set_len(bytes.len() as u64).unwrap();
        let digest = Reading::of(file.path()).finish().await.unwrap().remove(0);
        assert_eq!(digest.sha256, reference(&bytes));
        assert_eq!(digest.size, bytes.len() as u64);
        assert!(digest.allocated < digest.size);
    }

    #[tokio::test]
    async fn an_empty_file_has_a_checksum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Reading::of(file.path()).finish().await.unwrap()[0].sha256, reference(b""));
    }

    #[tokio::test]
    async fn the_files_of_a_folder_are_read_by_one_task_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut files: Vec<_> = (0..20).map(|number| folder.path().join(format!("{number}"))).collect();
        files.iter().for_each(|file| std::fs::write(file, file.file_name().unwrap().as_encoded_bytes()).unwrap());
        let found = Reading::start(folder.path(), files.clone()).finish().await.unwrap();
        let found: Vec<_> = found.into_iter().map(|digest| digest.sha256).collect();
        assert_eq!(found, (0..20).map(|number| reference(number.to_string().as_bytes())).collect::<Vec<_>>());
        // The one that cannot be read is named.
        files.insert(3, folder.path().join("missing"));
        let error = Reading::start(folder.path(), files).finish().await.unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_cancelled_reading_stops() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(digest(&file, &AtomicBool::new(true)).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
