//! The layer: the archive of the tree, compressed so that the same archive gives the same bytes.

use super::work::Watch;
use crate::recipe::Compression;
use flate2::GzBuilder;
use particle_vm_protocol::Archive;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much is read at a time.
const BLOCK: usize = 1 << 20;

/// Level of zstd: its default, without threads, whose number would change the bytes.
const ZSTD_LEVEL: i32 = 3;

/// A layer that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// SHA-256 of the archive.
    pub(super) diff_id: String,
    /// SHA-256 of the blob, which is its name too.
    pub(super) digest: String,
    /// Length of the blob.
    pub(super) size: u64,
    /// What the archive is compressed with.
    pub(super) compression: Compression,
}

/// Reads an archive from the guest's disk, and hashes it.
pub(super) struct Source {
    disk: File,
    at: u64,
    left: u64,
    hash: Sha256,
    watch: Watch,
}

impl Source {
    pub(super) fn new(disk: File, archive: Archive, watch: Watch) -> Self {
        Self { disk, at: archive.offset, left: archive.length, hash: Sha256::new(), watch }
    }

    /// Its length, as long as nothing has been read.
    pub(super) fn length(&self) -> u64 {
        self.left
    }

    /// SHA-256 of what has been read, in hexadecimal.
    pub(super) fn digest(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.disk.read_at(&mut buffer[..most], self.at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hash.update(&buffer[..read]);
        self.at += read as u64;
        self.left -= read as u64;
        self.watch.advance(read as u64)?;
        Ok(read)
    }
}

/// A file that is hashed while it is written.
struct Hashed {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Compress `source` to a blob in the folder `blobs`.
pub(super) fn compress(mut source: Source, compression: Compression, blobs: &Path) -> io::Result<Layer> {
    let unnamed = blobs.join("layer");
    let target = Hashed { file: File::create_new(&unnamed)?, hash: Sha256::new(), size: 0 };
    let target = match compression {
        Compression::Gzip => {
            // Neither a time nor the system that it was made on.
            let mut encoder =
                GzBuilder::new().mtime(0).operating_system(255).write(target, flate2::Compression::default());
            copy(&mut source, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            copy(&mut source, &mut encoder)?;
            encoder.finish()?
        }
    };
    let digest = hex::encode(target.hash.finalize());
    std::fs::rename(&unnamed, blobs.join(&digest))?;
    Ok(Layer { diff_id: source.digest(), digest, size: target.size, compression })
}

fn copy(from: &mut Source, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read])?,
        }
    }
}
