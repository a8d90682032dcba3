//! Reading of a `.deb` (deb(5)): an `ar` archive with `control.tar` and `data.tar`, each of them compressed.

use super::background::GivenUp;
use super::fetch::Package;
use super::manifest;
use super::tree::{Content, Kind, Meta, Node, TreeError, inside};
use crate::error::{Class, Classify};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Most bytes of one unpacked package. The largest package of the appliance, the kernel, has 120 MiB.
const MAX_UNPACKED: u64 = 2 << 30;

/// Most entries of one package.
const MAX_ENTRIES: usize = 100_000;

/// Most bytes of one file of the control archive.
const MAX_CONTROL: u64 = 4 << 20;

/// Most memory that a decoder may take, in bytes. `xz -9` needs 65 MiB to unpack.
const MAX_DECODER: u64 = 160 << 20;

/// Why a package cannot be unpacked.
#[derive(Debug, Error)]
pub enum DebError {
    /// The spool file or the package cannot be read or written.
    #[error("reading or unpacking it failed")]
    Io(#[from] io::Error),
    /// The file has another hash than the index says.
    #[error("its SHA-256 is {found}, where the index has {expected}")]
    Hash {
        /// In the index.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// It is no Debian package.
    #[error("it is no Debian package: {0}")]
    Format(String),
    /// It holds more than is sensible.
    #[error("it holds more than {0}")]
    TooLarge(&'static str),
    /// An entry that cannot be in a tree.
    #[error("it holds something that is not allowed")]
    Entry(#[from] TreeError),
}

impl Classify for DebError {
    fn class(&self) -> Class {
        match self {
            Self::Io(error) if error.kind() != io::ErrorKind::InvalidData => Class::Host,
            _ => Class::Network,
        }
    }
}

/// An unpacked package.
#[derive(Debug)]
pub struct Deb {
    /// The files of its control archive: `control`, `postinst`, ...
    pub control: Vec<(String, Vec<u8>)>,
    /// The entries of its data archive, in their order.
    pub entries: Vec<(PathBuf, Entry)>,
}

/// An entry of the data archive.
#[derive(Debug)]
pub enum Entry {
    /// Something with contents of its own.
    Node(Node),
    /// A hard link to an earlier entry.
    HardLink(PathBuf),
}

/// Where the contents of files are kept until the image is written.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
    given_up: GivenUp,
}

impl Spool {
    /// An unnamed file in `folder`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(folder: &Path, given_up: &GivenUp) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(folder)?), end: 0, given_up: given_up.clone() })
    }

    /// Keep what `reader` gives.
    ///
    /// # Errors
    /// When reading or writing fails, or nobody waits any more.
    pub fn keep(&mut self, reader: impl Read) -> io::Result<Content> {
        let mut file = &*self.file;
        file.seek(io::SeekFrom::Start(self.end))?;
        let length = io::copy(&mut self.given_up.reader(reader), &mut file)?;
        let content = Content::Spooled { file: Arc::clone(&self.file), offset: self.end, length };
        self.end += length;
        Ok(content)
    }
}

/// Verify and unpack the package at `path`. Of its files only those are kept whose path `keep` takes.
///
/// # Errors
/// When the file is not the one of the index, or no sound package.
pub fn unpack(
    path: &Path,
    package: &Package,
    spool: &mut Spool,
    keep: impl Fn(&Path) -> bool,
) -> Result<Deb, DebError> {
    let mut file = File::open(path)?;
    // One byte more tells a longer file from the right one.
    let found = manifest::measure((&mut file).take(package.size + 1), |_| Ok(()))?.sha256;
    if found != package.sha256 {
        return Err(DebError::Hash { expected: package.sha256.clone(), found });
    }
    file.rewind()?;
    let mut archive = ar::Archive::new(BufReader::with_capacity(256 << 10, file));
    let (mut control, mut entries) = (None, None);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if let Some(suffix) = name.strip_prefix("control.tar") {
            control = Some(read_control(decoder(suffix, member)?)?);
        } else if let Some(suffix) = name.strip_prefix("data.tar") {
            entries = Some(read_data(decoder(suffix, member)?, spool, &keep)?);
        }
    }
    match (control, entries) {
        (Some(control), Some(entries)) => Ok(Deb { control, entries }),
        _ => Err(DebError::Format("control.tar or data.tar is missing".into())),
    }
}

/// The decoder for a member, by the end of its name. deb(5) also knows gzip, which the packages of the suites in use no
/// longer have.
fn decoder<'a>(suffix: &str, member: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DebError> {
    let plain: Box<dyn Read> = match suffix {
        "" => Box::new(member),
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MAX_DECODER, 0).map_err(io::Error::from)?;
            Box::new(liblzma::read::XzDecoder::new_stream(member, stream))
        }
        ".zst" => {
            let mut decoder = zstd::Decoder::new(member)?;
            decoder.window_log_max(MAX_DECODER.ilog2())?;
            Box::new(decoder)
        }
        other => return Err(DebError::Format(format!("unknown compression {other:?}"))),
    };
    Ok(Box::new(Capped { reader: plain, left: MAX_UNPACKED }))
}

/// Fails beyond a number of bytes; [`Read::take`] would end there as if nothing more came.
struct Capped<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("it unpacks to more than {MAX_UNPACKED} bytes"))
        })?;
        Ok(read)
    }
}

fn read_control(reader: impl Read) -> Result<Vec<(String, Vec<u8>)>, DebError> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > MAX_CONTROL || files.len() == MAX_ENTRIES {
            return Err(DebError::TooLarge("control information usually has"));
        }
        let path = inside(&entry.path()?)?;
        let name = path.to_str().filter(|name| !name.contains('/') && !name.is_empty());
        let name = name.ok_or_else(|| DebError::Format(format!("control file {}", path.display())))?.to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push((name, bytes));
    }
    Ok(files)
}

/// The entries of a tar archive whose path `keep` takes; contents go to `spool`.
///
/// # Errors
/// When the archive is none, or holds what cannot be in a tree.
pub fn read_data(
    reader: impl Read,
    spool: &mut Spool,
    keep: impl Fn(&Path) -> bool,
) -> Result<Vec<(PathBuf, Entry)>, DebError> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        if entries.len() == MAX_ENTRIES {
            return Err(DebError::TooLarge("100,000 files"));
        }
        let path = inside(&entry.path()?)?;
        if path.as_os_str().is_empty() || !keep(&path) {
            continue;
        }
        let kind = entry.header().entry_type();
        let linked = |entry: &tar::Entry<_>| -> Result<PathBuf, DebError> {
            let target = entry.link_name()?.map(|target| target.into_owned());
            target.ok_or_else(|| DebError::Format(format!("{} points nowhere", path.display())))
        };
        let kind = match kind {
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File(spool.keep(&mut entry)?),
            tar::EntryType::Symlink => Kind::Link(linked(&entry)?),
            tar::EntryType::Link => {
                let target = inside(&linked(&entry)?)?;
                entries.push((path, Entry::HardLink(target)));
                continue;
            }
            tar::EntryType::Char if is_whiteout(entry.header())? => Kind::Whiteout,
            other => return Err(DebError::Format(format!("{} is of the kind {other:?}", path.display()))),
        };
        let meta = meta(entry.header())?;
        entries.push((path, Entry::Node(Node { meta, kind })));
    }
    Ok(entries)
}

/// Number 0 belongs to no device.
fn is_whiteout(header: &tar::Header) -> io::Result<bool> {
    Ok(header.device_major()? == Some(0) && header.device_minor()? == Some(0))
}

/// Owner, mode and time of a tar header. Names of owners are not looked up: packages own by number, dpkg-deb(1).
fn meta(header: &tar::Header) -> io::Result<Meta> {
    let number = |value: u64| u32::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok(Meta {
        mode: (header.mode()? & 0o7777) as u16,
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        mtime: number(header.mtime()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn tar_of(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(1000);
        header.set_cksum();
        header
    }

    fn deb(data: &[u8], suffix: &str) -> (tempfile::NamedTempFile, Package) {
        let control = tar_of(|tar| {
            let text = b"Package: x\n";
            tar.append_data(&mut header(tar::EntryType::Regular, 0o644, 11), "./control", &text[..]).unwrap();
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = ar::Builder::new(file.as_file());
        let data_name = format!("data.tar{suffix}");
        for (name, bytes) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), (&data_name, data)] {
            archive.append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), bytes).unwrap();
        }
        let bytes = std::fs::read(file.path()).unwrap();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let package = Package {
            uri: "http://m/x_1_all.deb".into(),
            file: "x_1_all.deb".into(),
            size: bytes.len() as u64,
            sha256,
        };
        (file, package)
    }

    fn unpacked(data: &[u8], suffix: &str) -> Result<Deb, DebError> {
        let (file, package) = deb(data, suffix);
        let folder = tempfile::tempdir().unwrap();
        unpack(file.path(), &package, &mut Spool::new(folder.path(), &GivenUp::default()).unwrap(), |path| {
            !path.starts_with("doc")
        })
    }

    fn sample() -> Vec<u8> {
        tar_of(|tar| {
            tar.append_data(&mut header(tar::EntryType::Directory, 0o2755, 0), "./bin/", io::empty()).unwrap();
            tar.append_data(&mut header(tar::EntryType::Regular, 0o4755, 3), "./bin/su", &b"ELF"[..]).unwrap();
            tar.append_data(&mut header(tar::EntryType::Regular, 0o644, 3), "./doc/x", &b"doc"[..]).unwrap();
            tar.append_link(&mut header(tar::EntryType::Link, 0o4755, 0), "./bin/su2", "./bin/su").unwrap();
            tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), "./etc/link", "../../x").unwrap();
        })
    }

    #[test]
    fn a_package_is_unpacked_from_each_compression() {
        let plain = sample();
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&plain[..], 1).read_to_end(&mut xz).unwrap();
        let zst = zstd::encode_all(&plain[..], 1).unwrap();
        for (data, suffix) in [(&plain, ""), (&xz, ".xz"), (&zst, ".zst")] {
            let deb = unpacked(data, suffix).unwrap();
            assert_eq!(deb.control, [("control".to_owned(), b"Package: x\n".to_vec())]);
            let paths: Vec<_> = deb.entries.iter().map(|(path, _)| path.to_str().unwrap()).collect();
            assert_eq!(paths, ["bin", "usr/bin/su", "usr/bin/su2", "etc/link"]);
            let Entry::Node(Node { meta, kind: Kind::File(content) }) = &deb.entries[1].1 else { panic!() };
            assert_eq!(*meta, Meta { mode: 0o4755, uid: 0, gid: 42, mtime: 1000 });
            assert_eq!(content.read().unwrap(), b"ELF");
            assert!(matches!(&deb.entries[2].1, Entry::HardLink(target) if target == Path::new("usr/bin/su")));
        }
    }

    #[test]
    fn a_package_that_was_altered_is_refused() {
        let (file, package) = deb(&sample(), "");
        file.as_file().set_len(package.size - 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error =
            unpack(file.path(), &package, &mut Spool::new(folder.path(), &GivenUp::default()).unwrap(), |_| true)
                .unwrap_err();
        assert!(matches!(error, DebError::Hash { .. }), "{error}");
        assert_eq!(error.class(), Class::Network);
    }

    #[test]
    fn what_does_not_belong_into_a_package_is_refused() {
        let device = tar_of(|tar| {
            tar.append_data(&mut header(tar::EntryType::Block, 0o600, 0), "./dev/sda", io::empty()).unwrap();
        });
        assert!(matches!(unpacked(&device, "").unwrap_err(), DebError::Format(_)));
        let mut outside = header(tar::EntryType::Regular, 0o644, 0);
        outside.as_mut_bytes()[..8].copy_from_slice(b"../../xx");
        outside.set_cksum();
        let outside = tar_of(|tar| tar.append(&outside, io::empty()).unwrap());
        assert!(matches!(unpacked(&outside, "").unwrap_err(), DebError::Entry(TreeError::Path(_))));
        assert!(matches!(unpacked(&sample(), ".lz").unwrap_err(), DebError::Format(_)));
        assert!(matches!(unpacked(b"garbage", ".xz").unwrap_err(), DebError::Io(_)));
    }
}
