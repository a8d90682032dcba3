//! A tree as a tar archive: the same tree gives the same bytes.
//!
//! The format is pax (POSIX.1-2024, pax, "pax Interchange Format"): ustar headers, and records before them for what has no
//! room there. Extended attributes are in records `SCHILY.xattr.*`, as the OCI image specification wants them
//! (layer.md, "File attributes"), and with them capabilities and ACLs. Files with large holes have the header of GNU tar's
//! old sparse format, the one that all readers know: GNU tar, libarchive, Go's and Rust's.

use super::ArchiveError;
use super::sparse;
use super::walk::walk;
use crate::layer::WHITEOUT;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Largest number in a ustar field of 8 bytes: 7 octal digits.
const MAX_ID: u64 = 0o7_777_777;

/// Largest size in a ustar header: 11 octal digits.
const MAX_SIZE: u64 = 0o77_777_777_777;

/// A record of a pax header.
type Record = (String, Vec<u8>);

/// Writes an archive of the tree at `root` to `output`. No time in it is later than `latest`, in seconds since the Unix
/// epoch; owners are numbers, without names.
///
/// # Errors
/// When something cannot be read or written, has a name that no layer can hold, or `check` fails.
pub(super) fn write(
    root: &Path,
    latest: u64,
    output: impl Write,
    check: &dyn Fn() -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut writer = Writer { root, latest, builder: Builder::new(output), linked: HashMap::new(), check };
    walk(root, &mut |inside, data| writer.entry(inside, data))?;
    let mut output = writer.builder.into_inner().map_err(ArchiveError::Write)?;
    output.flush().map_err(ArchiveError::Write)
}

struct Writer<'a, W: Write> {
    root: &'a Path,
    latest: u64,
    builder: Builder<W>,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    check: &'a dyn Fn() -> Result<(), ArchiveError>,
}

impl<W: Write> Writer<'_, W> {
    fn entry(&mut self, inside: &Path, data: &Metadata) -> Result<(), ArchiveError> {
        (self.check)()?;
        if inside.as_os_str().is_empty() {
            // A layer does not say what the root is.
            return Ok(());
        }
        if inside.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT)) {
            return Err(ArchiveError::Whiteout { path: inside.to_owned() });
        }
        let kind = data.file_type();
        if kind.is_socket() {
            // It is nobody's any more: who listened on it has ended.
            return Ok(());
        }
        let mut name = inside.as_os_str().as_bytes().to_vec();
        if kind.is_dir() {
            name.push(b'/');
        }
        let mut header = self.header(data);
        let mut records = Vec::new();
        set_name(&mut header, &name, &mut records);
        owner(data, &mut header, &mut records);
        if data.nlink() > 1 && !kind.is_dir() {
            if let Some(first) = self.linked.get(&(data.dev(), data.ino())).cloned() {
                header.set_entry_type(EntryType::Link);
                set_link(&mut header, &first, &mut records);
                // Engines set the owner of each name, which takes the file's capabilities away.
                self.attributes(inside, &mut records)?;
                return self.append(inside, header, &records, io::empty());
            }
            self.linked.insert((data.dev(), data.ino()), name);
        }
        self.attributes(inside, &mut records)?;
        if kind.is_file() {
            return self.file(inside, data, header, records);
        }
        let entry_type = if kind.is_dir() {
            EntryType::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(self.root.join(inside)).map_err(ArchiveError::read(inside))?;
            set_link(&mut header, &target.into_os_string().into_vec(), &mut records);
            EntryType::Symlink
        } else if kind.is_fifo() {
            EntryType::Fifo
        } else {
            device(&mut header, data.rdev(), inside)?;
            if kind.is_char_device() { EntryType::Char } else { EntryType::Block }
        };
        header.set_entry_type(entry_type);
        self.append(inside, header, &records, io::empty())
    }

    /// What every entry says of itself.
    fn header(&self, data: &Metadata) -> Header {
        let mut header = Header::new_ustar();
        header.set_mode(data.mode() & 0o7777);
        header.set_mtime(u64::try_from(data.mtime()).unwrap_or(0).min(self.latest));
        header.set_size(0);
        header
    }

    /// Extended attributes.
    fn attributes(&self, inside: &Path, records: &mut Vec<Record>) -> Result<(), ArchiveError> {
        let path = self.root.join(inside);
        let mut names: Vec<_> = xattr::list(&path).map_err(ArchiveError::read(inside))?.collect();
        names.sort_unstable();
        for name in names {
            let Some(text) = name.to_str().filter(|text| !text.contains('=')) else {
                return Err(ArchiveError::Attribute { path: inside.to_owned(), name });
            };
            if let Some(value) = xattr::get(&path, &name).map_err(ArchiveError::read(inside))? {
                records.push((format!("SCHILY.xattr.{text}"), value));
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        inside: &Path,
        data: &Metadata,
        mut header: Header,
        mut records: Vec<Record>,
    ) -> Result<(), ArchiveError> {
        let file = File::open(self.root.join(inside)).map_err(ArchiveError::read(inside))?;
        if sparse::is_worth_it(data) {
            let map = sparse::map(&file, data.len()).map_err(ArchiveError::read(inside))?;
            // Its header has no prefix.
            let name = inside.as_os_str().as_bytes();
            if name.len() > 100 && !records.iter().any(|(key, _)| key == "path") {
                charset(name, &mut records);
                records.push(("path".into(), name.to_vec()));
            }
            let (header, blocks) = sparse::header(&header, &map, data.len());
            let content = map.reader(file);
            let length = map.stored();
            return self.append(
                inside,
                header,
                &records,
                blocks.as_slice().chain(Exactly { file: content, left: length }),
            );
        }
        header.set_entry_type(EntryType::Regular);
        if data.len() > MAX_SIZE {
            records.push(("size".into(), data.len().to_string().into_bytes()));
        } else {
            header.set_size(data.len());
        }
        self.append(inside, header, &records, Exactly { file, left: data.len() })
    }

    fn append(
        &mut self,
        inside: &Path,
        mut header: Header,
        records: &[Record],
        content: impl Read,
    ) -> Result<(), ArchiveError> {
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(ArchiveError::Write)?;
        let content = Checked { content, inside, check: self.check };
        self.builder.append(&header, content).map_err(ArchiveError::Write)
    }
}

/// The owner of an entry: in the header, or in records for numbers that have no room there.
fn owner(data: &Metadata, header: &mut Header, records: &mut Vec<Record>) {
    let mut short = |key: &str, id: u32| {
        let id = u64::from(id);
        if id <= MAX_ID {
            return id;
        }
        records.push((key.into(), id.to_string().into_bytes()));
        0
    };
    header.set_uid(short("uid", data.uid()));
    header.set_gid(short("gid", data.gid()));
}

/// The name of an entry: in the header, in both of its fields, or in a record.
fn set_name(header: &mut Header, name: &[u8], records: &mut Vec<Record>) {
    let Some(ustar) = header.as_ustar_mut() else { return };
    if let Some((prefix, rest)) = split(name, ustar.name.len(), ustar.prefix.len()) {
        ustar.prefix[..prefix.len()].copy_from_slice(prefix);
        ustar.name[..rest.len()].copy_from_slice(rest);
        return;
    }
    charset(name, records);
    records.push(("path".into(), name.to_vec()));
    // For readers that do not know the record; nobody should see it.
    let short = name.len().min(ustar.name.len());
    ustar.name[..short].copy_from_slice(&name[..short]);
}

/// The name in two parts, if it fits into the fields: the first is empty, or ends before a `/`.
fn split(name: &[u8], most: usize, most_prefix: usize) -> Option<(&[u8], &[u8])> {
    if name.len() <= most {
        return Some((&[], name));
    }
    // The slash of a folder is no place to part.
    let last = name.len() - 1;
    let slash = (0..last).filter(|at| name[*at] == b'/' && *at > 0).find(|at| last - at <= most)?;
    (slash <= most_prefix).then(|| (&name[..slash], &name[slash + 1..]))
}

fn set_link(header: &mut Header, target: &[u8], records: &mut Vec<Record>) {
    let Some(ustar) = header.as_ustar_mut() else { return };
    let short = target.len().min(ustar.linkname.len());
    if target.len() > short {
        charset(target, records);
        records.push(("linkpath".into(), target.to_vec()));
    }
    ustar.linkname[..short].copy_from_slice(&target[..short]);
}

/// Records are UTF-8 unless they say otherwise, before the first that is not.
fn charset(text: &[u8], records: &mut Vec<Record>) {
    if std::str::from_utf8(text).is_err() && !records.iter().any(|(key, _)| key == "hdrcharset") {
        records.push(("hdrcharset".into(), b"BINARY".to_vec()));
    }
}

fn device(header: &mut Header, number: u64, inside: &Path) -> Result<(), ArchiveError> {
    let (major, minor) = (libc::major(number), libc::minor(number));
    let set = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
    set.map_err(ArchiveError::read(inside))
}

/// Reads as many bytes as the header has promised.
struct Exactly<R> {
    file: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::other("a file became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Asks now and then whether to go on, and says what cannot be read.
struct Checked<'a, R> {
    content: R,
    inside: &'a Path,
    check: &'a dyn Fn() -> Result<(), ArchiveError>,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.check)().map_err(io::Error::other)?;
        self.content.read(buffer).map_err(ArchiveError::read(self.inside)).map_err(io::Error::other)
    }
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
