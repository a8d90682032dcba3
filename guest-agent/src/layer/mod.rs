//! Layers of container images: tar archives as container tools write them (OCI image specification, "Image Layer
//! Filesystem Changeset"; the formats are in tar(5) of libarchive).
//!
//! The `tar` crate reads headers; the stream is read here. That crate takes the end of a line in the value of an extended
//! attribute for the end of the record, knows sparse files in one of their four forms only, and sizes of more than 8 GiB
//! in PAX archives not when it is to leave the records alone.

mod attributes;
mod content;
mod records;
mod sparse;

pub use attributes::{apply, set_time};
pub use content::Content;
pub use records::Xattr;

use records::Records;
use std::collections::BTreeSet;
use std::io::{self, Read};
use thiserror::Error;

/// How the names of whiteouts begin.
pub const WHITEOUT: &[u8] = b".wh.";

/// The whiteout of everything that lower layers have in a folder.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Folders that a running system mounts something on: what lies in them belongs to whoever made the tree, and not to it.
pub const MOUNTED_OVER: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// A block of an archive.
const BLOCK: usize = 512;

/// Longest path, in bytes; the kernel's own limit (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// Why a layer is refused.
#[derive(Debug, Error)]
pub enum LayerError {
    /// It cannot be read.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// It is no archive, or a broken one.
    #[error("the layer is no proper tar archive: {0}")]
    Broken(String),
    /// A name leads out of the image.
    #[error("`{path}` in the layer leads out of the image")]
    Outside {
        /// The name, or the target of the hard link.
        path: String,
    },
    /// A name leads through a link that is in the same layer.
    #[error("`{path}` in the layer is beneath the symbolic link `{link}` of the same layer")]
    ThroughLink {
        /// The name.
        path: String,
        /// The link.
        link: String,
    },
    /// A type of file that nobody knows.
    #[error("`{path}` in the layer is of the unknown type {kind:?}")]
    Kind {
        /// The name.
        path: String,
        /// Its type.
        kind: char,
    },
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file; its content comes next in the archive.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and where it leads, as it is written.
    Symlink(Vec<u8>),
    /// Another name of a file: its path.
    Link(Vec<u8>),
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A pipe with a name.
    Fifo,
}

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the image: names with single slashes between them, none of them `.` or `..`. Empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed: seconds since the Unix epoch and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Size of the file with its holes.
    pub size: u64,
}

impl Entry {
    /// The folder that it is in, and its name.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.path[..slash], &self.path[slash + 1..]),
            None => (b"", &self.path),
        }
    }
}

/// The path as text for messages.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A layer that is being read.
#[derive(Debug)]
pub struct Layer<R> {
    input: R,
    /// Bytes of the current entry that are still in the archive, without what fills up its last block.
    stored: u64,
    /// What fills it up.
    padding: u64,
    holes: Option<sparse::Map>,
    size: u64,
    links: BTreeSet<Vec<u8>>,
}

impl<R: Read> Layer<R> {
    /// The layer in `input`.
    pub fn new(input: R) -> Self {
        Self { input, stored: 0, padding: 0, holes: None, size: 0, links: BTreeSet::new() }
    }

    /// The next entry; none at the end. Content of the one before that was not read is passed over.
    ///
    /// # Errors
    /// When the archive is broken, or a name leads where it must not.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.pass_over()?;
        let mut records = Records::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| broken(&error))?;
            let kind = header.entry_type();
            if kind.is_pax_global_extensions() {
                // Comments of the program that made the archive.
                self.expect(size);
                self.pass_over()?;
            } else if records.takes(kind) {
                let bytes = self.small(size, records::MAX)?;
                records.take(kind, bytes)?;
            } else {
                return self.entry(&header, records).map(Some);
            }
        }
    }

    /// Size of the current entry with its holes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The content of the current entry.
    pub fn content(&mut self) -> Content<'_, R> {
        Content::new(self)
    }

    fn entry(&mut self, header: &tar::Header, records: Records) -> Result<Entry, LayerError> {
        let path = clean(records.path(header))?;
        if path.len() > MAX_PATH {
            return Err(LayerError::Broken(format!("a path of {} bytes", path.len())));
        }
        // The whiteouts of a folder itself and of the one above it.
        if path.ends_with(b"/.wh..") || path.ends_with(b"/.wh...") || [&b".wh.."[..], b".wh..."].contains(&&*path) {
            return Err(LayerError::Outside { path: shown(&path) });
        }
        self.check_links(&path)?;
        let kind = kind(header, &records, &path)?;
        let is_file = kind == Kind::File;
        self.expect(records.size(header)?);
        if !is_file {
            // Some programs write the size of a folder, or of the file that a link leads to, and no content.
            self.expect(0);
        }
        self.size = self.stored;
        if is_file && let Some((map, size)) = sparse::read(self, header, &records)? {
            (self.holes, self.size) = (Some(map), size);
        }
        match &kind {
            Kind::Symlink(_) => drop(self.links.insert(path.clone())),
            _ => drop(self.links.remove(&path)),
        }
        Ok(Entry {
            mode: or_blank(&header.as_old().mode, header.mode()).map_err(|error| broken(&error))? & 0o7777,
            uid: records.id("uid", or_blank(&header.as_old().uid, header.uid()))?,
            gid: records.id("gid", or_blank(&header.as_old().gid, header.gid()))?,
            mtime: records.mtime(header)?,
            xattrs: records.xattrs()?,
            size: self.size,
            path,
            kind,
        })
    }

    /// A name beneath a link of the same layer is no name that a program finds when it reads a tree.
    fn check_links(&self, path: &[u8]) -> Result<(), LayerError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        match slashes.map(|(slash, _)| &path[..slash]).find(|above| self.links.contains(*above)) {
            Some(link) => Err(LayerError::ThroughLink { path: shown(path), link: shown(link) }),
            None => Ok(()),
        }
    }

    /// A header; none at the end of the archive, which two blocks of zeros mark, or nothing at all.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block);
        // As for the checksum itself there are blanks (pax(1), "ustar Interchange Format").
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(LayerError::Broken("the checksum of a header is wrong".into()));
        }
        Ok(Some(header.clone()))
    }

    /// Fill `block`; false when there is nothing any more.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(LayerError::Broken("it ends in the middle of a block".into())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Read(error)),
            }
        }
        Ok(true)
    }

    /// `size` bytes follow.
    fn expect(&mut self, size: u64) {
        self.stored = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self.holes = None;
    }

    /// The `size` bytes that follow, at most `limit`.
    fn small(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, LayerError> {
        if size > limit {
            return Err(LayerError::Broken(format!("a record of {size} bytes")));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        self.input.by_ref().take(size).read_to_end(&mut bytes).map_err(LayerError::Read)?;
        self.stored -= bytes.len() as u64;
        if self.stored > 0 {
            return Err(ends());
        }
        self.pass_over()?;
        Ok(bytes)
    }

    /// Go to the next header.
    fn pass_over(&mut self) -> Result<(), LayerError> {
        let rest = self.stored + self.padding;
        let passed = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink()).map_err(LayerError::Read)?;
        // The last file of some archives is not filled up.
        if passed < self.stored {
            return Err(ends());
        }
        self.expect(0);
        Ok(())
    }
}

fn ends() -> LayerError {
    LayerError::Broken("it ends in the middle of an entry".into())
}

fn broken(error: &io::Error) -> LayerError {
    LayerError::Broken(error.to_string())
}

/// The number of a field, 0 where nothing is written: some programs leave the fields of hard links blank.
fn or_blank<T: From<u8>>(field: &[u8], number: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::from(0)) } else { number }
}

fn kind(header: &tar::Header, records: &Records, path: &[u8]) -> Result<Kind, LayerError> {
    let device = || {
        let number =
            |number: io::Result<Option<u32>>| number.map(Option::unwrap_or_default).map_err(|error| broken(&error));
        Ok::<_, LayerError>((number(header.device_major())?, number(header.device_minor())?))
    };
    Ok(match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            // Before POSIX folders were files whose names end in a slash.
            if records.path(header).ends_with(b"/") { Kind::Folder } else { Kind::File }
        }
        tar::EntryType::Directory => Kind::Folder,
        tar::EntryType::Symlink => Kind::Symlink(records.link(header)),
        tar::EntryType::Link => Kind::Link(clean(records.link(header))?),
        tar::EntryType::Char => device().map(|(major, minor)| Kind::Character(major, minor))?,
        tar::EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
        tar::EntryType::Fifo => Kind::Fifo,
        other => return Err(LayerError::Kind { path: shown(path), kind: char::from(other.as_byte()) }),
    })
}

/// A path without `.` and double slashes, seen from the root of the image: the specification says nothing of absolute
/// names, and container engines take them so.
fn clean(path: Vec<u8>) -> Result<Vec<u8>, LayerError> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    if names.clone().any(|name| name == b"..") || path.contains(&0) {
        return Err(LayerError::Outside { path: shown(&path) });
    }
    Ok(names.collect::<Vec<_>>().join(&b'/'))
}

#[cfg(test)]
mod tests;
