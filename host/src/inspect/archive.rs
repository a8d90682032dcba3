//! Reading of a layer: tar(5) with the extensions that images have, entry by entry.
//!
//! The headers are taken apart by the crate `tar`. Its own reading of archives takes long names and extended headers into
//! memory whole, whatever their size, and stumbles over attributes that have a newline in them.

use super::error::Fault;
use super::limits;
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: u64 = 512;

/// What kind of file an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    Device,
    Fifo,
}

/// An entry, its extensions applied.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is written, to be made normal.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Of links.
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    /// Of the file, holes included.
    pub(super) size: u64,
    /// Whether what the archive has of the file is not its content as it is.
    pub(super) sparse: bool,
}

/// A layer; reading gives the content of the entry that came last.
pub(super) struct Archive<R> {
    reader: R,
    /// Bytes of the content that were not read yet, and of the padding after it.
    content: u64,
    padding: u64,
    ended: bool,
}

/// What extended headers say of the entry that follows.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, content: 0, padding: 0, ended: false }
    }

    /// The next entry; none at the end, which is reached by reading the stream to its end, so that whoever checks its
    /// digest sees all of it.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        let (mut extensions, mut announced) = (Extensions::default(), false);
        loop {
            self.pass()?;
            let Some(block) = self.header()? else {
                return if announced { Err(Fault::refused("it ends where an entry has to follow")) } else { Ok(None) };
            };
            let header = Header::from_byte_slice(&block);
            let size = header.entry_size().map_err(|_| Fault::refused("an entry has no size"))?;
            let kind = header.entry_type();
            announced |= matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader);
            // What describes another entry has its content in its own size.
            match kind {
                EntryType::GNULongName => extensions.name = Some(until_nul(self.extended(size)?)),
                EntryType::GNULongLink => extensions.target = Some(until_nul(self.extended(size)?)),
                EntryType::XHeader => extensions.read(&self.extended(size)?)?,
                // Attributes that hold for all entries; those of one entry are not among them (pax(1)).
                EntryType::XGlobalHeader => drop(self.extended(size)?),
                _ => return self.entry(header, size, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry, Fault> {
        let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let refused = |what: &str| {
            let shown = String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
            Fault::refused(format!("the entry {shown:?} {what}"))
        };
        let stored = extensions.size.unwrap_or(size);
        let (mut real, mut sparse) = (extensions.real_size.unwrap_or(stored), extensions.sparse);
        let kind = match header.entry_type() {
            // Before POSIX a folder was a file whose name ends in a slash (tar(5)).
            EntryType::Regular if name.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::GNUSparse => {
                let gnu = header.as_gnu().ok_or_else(|| refused("is sparse in a form that is not GNU tar's"))?;
                real = gnu.real_size().map_err(|_| refused("is sparse and has no size"))?;
                sparse = true;
                self.pass_sparse_map(gnu.is_extended())?;
                Kind::File
            }
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Folder,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::Fifo => Kind::Fifo,
            other => return Err(refused(&format!("is of the type {:?}", char::from(other.as_byte())))),
        };
        let target = match kind {
            Kind::HardLink | Kind::Symlink => {
                let of_header = || header.link_name_bytes().map(|target| target.into_owned());
                extensions.target.or_else(of_header).ok_or_else(|| refused("is a link without a target"))?
            }
            _ => Vec::new(),
        };
        // Only files have content, whatever the size says: so Go's library has it, which podman and Docker write with.
        self.content = if kind == Kind::File { stored } else { 0 };
        self.padding = self.content.wrapping_neg() % BLOCK;
        // A field that is blank means nothing special, as GNU tar has it.
        Ok(Entry { kind, target, mode: header.mode().unwrap_or(0) & 0o7777, size: real, sparse, name })
    }

    /// Pass over what is left of the entry before.
    fn pass(&mut self) -> Result<(), Fault> {
        let (content, padding) = (std::mem::take(&mut self.content), std::mem::take(&mut self.padding));
        if io::copy(&mut (&mut self.reader).take(content), &mut io::sink())? < content {
            return Err(Fault::refused("it ends in the middle of a file"));
        }
        // The last file of some archives is not padded.
        io::copy(&mut (&mut self.reader).take(padding), &mut io::sink())?;
        Ok(())
    }

    /// The next block that is a header.
    fn header(&mut self) -> Result<Option<[u8; BLOCK as usize]>, Fault> {
        let mut block = [0; BLOCK as usize];
        if self.ended || !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK as usize] {
            // Two of them are the end; what follows is padding.
            self.ended = true;
            io::copy(&mut self.reader, &mut io::sink())?;
            return Ok(None);
        }
        let unsigned = block.iter().enumerate().map(|(at, byte)| match at {
            // The checksum counts its own field as spaces.
            148..156 => 32,
            _ => u32::from(*byte),
        });
        let sum: u32 = unsigned.sum();
        if Header::from_byte_slice(&block).cksum().ok() != Some(sum) {
            return Err(Fault::refused("it is no tar archive, or a broken one"));
        }
        Ok(Some(block))
    }

    /// Read a block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK as usize]) -> Result<bool, Fault> {
        let mut read = 0;
        while read < block.len() {
            match self.reader.read(&mut block[read..]) {
                Ok(0) if read == 0 => return Ok(false),
                Ok(0) => return Err(Fault::refused("it ends in the middle of a block")),
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The content of an entry that describes the next one.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, Fault> {
        if size > limits::HEADER {
            return Err(Fault::refused(format!("it has a header of {size} bytes")));
        }
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The map of a sparse file of GNU tar goes on in blocks between header and content.
    fn pass_sparse_map(&mut self, mut more: bool) -> Result<(), Fault> {
        let mut map = GnuExtSparseHeader::new();
        for _ in 0..limits::HEADER / BLOCK {
            if !more {
                return Ok(());
            }
            self.reader.read_exact(map.as_mut_bytes()).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Fault::refused("it ends in the middle of a sparse file"),
                _ => error.into(),
            })?;
            more = map.is_extended();
        }
        Err(Fault::refused("a sparse file has too many pieces"))
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.reader).take(self.content).read(buffer)?;
        self.content -= count as u64;
        Ok(count)
    }
}

impl Extensions {
    /// Records of pax(1): `LENGTH KEY=VALUE` and a newline, where the length is that of the whole record; the value may
    /// have any bytes.
    fn read(&mut self, mut records: &[u8]) -> Result<(), Fault> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(|| Fault::refused("an extended header is broken"))?;
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            let number = || number().ok_or_else(|| Fault::refused("an extended header has a size that is none"));
            match key {
                b"path" if !self.sparse => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                // GNU tar's sparse files in archives of pax(1).
                b"GNU.sparse.name" => self.name = Some(value.to_vec()),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = Some(number()?),
                _ => {}
            }
            self.sparse |= key.starts_with(b"GNU.sparse.");
            records = rest;
        }
        Ok(())
    }
}

fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let body = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &records[length..]))
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}
