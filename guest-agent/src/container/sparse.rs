//! Files with holes, in GNU tar's old format ("Storing Sparse Files" in the manual of GNU tar): a map of what is there in
//! the header and in blocks behind it, then only that.

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// A file is stored with its holes when they are at least this large together. For less, a reader that does not know the
/// format is the greater harm.
const WORTH: u64 = 1 << 20;

/// What of a file is there: beginnings and lengths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<(u64, u64)>);

/// Whether the holes of a file are worth it.
pub(super) fn is_worth_it(data: &Metadata) -> bool {
    data.blocks().saturating_mul(512).saturating_add(WORTH) <= data.len()
}

/// The map of a file of `size` bytes. It ends with an empty piece at the end of the file, as GNU tar has it, by which a
/// reader knows of a hole there.
pub(super) fn map(file: &File, size: u64) -> io::Result<Map> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match lseek(file, at.cast_signed(), Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            begin => begin?.cast_unsigned().min(size),
        };
        if begin >= size {
            break;
        }
        let end = lseek(file, begin.cast_signed(), Whence::SeekHole)?.cast_unsigned().min(size);
        pieces.push((begin, end - begin));
        at = end;
    }
    pieces.push((size, 0));
    Ok(Map(pieces))
}

impl Map {
    /// How many bytes are stored.
    pub(super) fn stored(&self) -> u64 {
        self.0.iter().map(|(_, length)| length).sum()
    }

    /// Reads these bytes.
    pub(super) fn reader(&self, file: File) -> impl Read + use<> {
        Pieces { file, pieces: self.0.clone().into_iter(), at: 0, left: 0 }
    }
}

struct Pieces {
    file: File,
    pieces: std::vec::IntoIter<(u64, u64)>,
    at: u64,
    left: u64,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((at, length)) = self.pieces.next() else { return Ok(0) };
            (self.at, self.left) = (at, length);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The header of a sparse file of `size` bytes, made of its ustar header, and the blocks behind it that hold the rest of
/// the map. Their length counts as content for the padding, and not for the size.
pub(super) fn header(ustar: &Header, map: &Map, size: u64) -> (Header, Vec<u8>) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(map.stored());
    let mut blocks = Vec::new();
    let (Some(gnu), Some(from)) = (header.as_gnu_mut(), ustar.as_ustar()) else { return (header, blocks) };
    // The long form of a name is in a record; a prefix has no place here.
    (gnu.name, gnu.mode, gnu.uid, gnu.gid, gnu.mtime) = (from.name, from.mode, from.uid, from.gid, from.mtime);
    number(&mut gnu.realsize, size);
    let mut pieces = map.0.iter();
    fill(&mut gnu.sparse, &mut pieces);
    gnu.isextended[0] = u8::from(pieces.len() > 0);
    while pieces.len() > 0 {
        let mut block = GnuExtSparseHeader::new();
        fill(&mut block.sparse, &mut pieces);
        block.isextended[0] = u8::from(pieces.len() > 0);
        blocks.extend_from_slice(block.as_bytes());
    }
    (header, blocks)
}

fn fill(places: &mut [GnuSparseHeader], pieces: &mut std::slice::Iter<'_, (u64, u64)>) {
    for (place, (offset, length)) in places.iter_mut().zip(pieces) {
        number(&mut place.offset, *offset);
        number(&mut place.numbytes, *length);
    }
}

/// 11 octal digits, or for more the binary form of GNU tar.
fn number(field: &mut [u8; 12], value: u64) {
    let octal = format!("{value:011o}");
    if octal.len() == 11 {
        field[..11].copy_from_slice(octal.as_bytes());
        field[11] = 0;
    } else {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
}
