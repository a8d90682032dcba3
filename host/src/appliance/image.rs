//! Writing of a tree into a squashfs image with root's ownership, without being root.

use super::background::{GivenUp, Reader};
use super::error::ApplianceError;
use super::tree::{ContentReader, Kind, Tree};
use crate::event::Step;
use backhand::compression::{CompressionAction, Compressor};
use backhand::kind::Kind as Format;
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader, SuperBlock};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes between two reports of progress.
const REPORT: u64 = 4 << 20;

/// Size of a data block.
const BLOCK: u32 = 128 << 10;

/// Stores every block as it is: squashfs keeps a block uncompressed when compressing it does not make it smaller.
/// Decompression is what costs most when a guest without KVM reads the image; the disk space costs little.
struct Stored;

impl CompressionAction for Stored {
    type Error = BackhandError;
    type Compressor = Compressor;
    type FilesystemCompressor = FilesystemCompressor;
    type SuperBlock = SuperBlock;

    fn decompress(&self, _: &[u8], _: &mut Vec<u8>, id: Compressor) -> Result<(), BackhandError> {
        // Never called: this kind is only used for writing.
        Err(BackhandError::UnsupportedCompression(format!("{id:?}")))
    }

    fn compress(&self, bytes: &[u8], _: FilesystemCompressor, _: u32) -> Result<Vec<u8>, BackhandError> {
        Ok(vec![0; bytes.len() + 1])
    }
}

/// Write `tree` to the new file `path`. `step` counts the bytes of its files.
///
/// # Errors
/// When the file cannot be written, or nobody waits for it any more.
pub fn write(tree: &Tree, path: &Path, given_up: &GivenUp, step: &Step) -> Result<(), ApplianceError> {
    let done = AtomicU64::new(0);
    let mut writer = FilesystemWriter::default();
    writer.set_kind(Format::new_v4(&Stored));
    // The kernel looks at the id only when it finds a compressed block, but it has to know it.
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, None).map_err(ApplianceError::Image)?);
    writer.set_block_size(BLOCK);
    writer.set_time(0);
    writer.set_root_mode(0o755);
    for (path, node) in tree.iter() {
        let meta = node.meta;
        let header = NodeHeader::new(meta.mode, meta.uid, meta.gid, meta.mtime);
        match &node.kind {
            Kind::Folder => writer.push_dir(path, header),
            Kind::File(content) => {
                let reader = Counted { reader: given_up.reader(content.reader()), done: &done, step };
                writer.push_file(reader, path, header)
            }
            Kind::Whiteout => writer.push_char_device(0, path, header),
            Kind::Link(target) => writer.push_symlink(target, path, header),
        }
        .map_err(ApplianceError::Image)?;
    }
    let file = File::create_new(path).map_err(ApplianceError::io("create", path))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    writer.write(&mut file).map_err(ApplianceError::Image)?;
    file.flush().map_err(ApplianceError::io("write", path))
}

/// Tells how much of all files has been read.
struct Counted<'a> {
    reader: Reader<ContentReader>,
    done: &'a AtomicU64,
    step: &'a Step,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let before = self.done.fetch_add(read as u64, Ordering::Relaxed);
        // Not for every small file: listeners would do nothing else.
        if before / REPORT != (before + read as u64) / REPORT {
            self.step.progress(before + read as u64);
        }
        Ok(read)
    }
}
