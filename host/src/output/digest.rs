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

/// A checksum in the making, on a thread of its own; it ends when this is dropped.
pub(super) struct Reading {
    task: JoinHandle<io::Result<Digest>>,
    cancelled: Arc<AtomicBool>,
    path: PathBuf,
}

impl Reading {
    /// Begin to read `path`. The file is flushed to the disk before it is read, so that a checksum never vouches for
    /// bytes that a power cut can still take away.
    pub(super) fn start(path: &Path) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (flag, file) = (cancelled.clone(), path.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            let file = File::open(file)?;
            file.sync_all()?;
            digest(&file, &flag)
        });
        Self { task, cancelled, path: path.to_owned() }
    }

    /// The result.
    ///
    /// # Errors
    /// When the file cannot be read or flushed.
    pub(super) async fn finish(mut self) -> Result<Digest, OutputError> {
        let failed = |source| OutputError::Digest { path: self.path.clone(), source };
        (&mut self.task).await.map_err(|error| failed(error.into()))?.map_err(failed)
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
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
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
        let digest = Reading::start(file.path()).finish().await.unwrap();
        assert_eq!(digest.sha256, reference(&bytes));
        assert_eq!(digest.size, bytes.len() as u64);
        assert!(digest.allocated < digest.size);
    }

    #[tokio::test]
    async fn an_empty_file_has_a_checksum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Reading::start(file.path()).finish().await.unwrap().sha256, reference(b""));
    }

    #[test]
    fn a_cancelled_reading_stops() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(digest(&file, &AtomicBool::new(true)).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
