//! What is in an initramfs: one or more cpio archives, the first often with microcode and not compressed (kernel,
//! Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! It is read while the layer passes by and never kept. What is wrong with it ends the reading and is told beside what
//! was found until then.

use super::keep::{NO_COMPOSEFS, contains};
use super::limits;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Cursor, Read};

/// Modules that decide whether an image finds its root.
const TELLING: [&str; 12] = [
    "btrfs",
    "dm_verity",
    "erofs",
    "ext4",
    "nvme",
    "overlay",
    "vfat",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
    "xfs",
];

/// Length of a header of cpio(5)'s "new ASCII format", and where in it the length of the name stands.
const HEADER: usize = 110;
const NAME_SIZE: std::ops::Range<usize> = 94..102;

/// Longest name; dracut pads names up to a block of the file system.
const MAX_NAME: u32 = 64 << 10;

/// Most bytes of a text in it that is kept.
const MAX_TEXT: u64 = 64 << 10;

/// What is in an initramfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Initramfs {
    /// Its size in bytes.
    pub size: u64,
    /// How it is compressed: `none`, `gzip`, `zstd`, `xz`, `lzma`, `lz4`; null where it has nothing.
    pub compression: Option<&'static str>,
    /// How many files it has.
    pub entries: u64,
    /// What made it: `dracut`, `initramfs-tools`, or null.
    pub generator: Option<&'static str>,
    /// Whether it carries microcode for processors.
    pub microcode: bool,
    /// Whether systemd runs in it.
    pub systemd: bool,
    /// Whether it has `ostree-prepare-root`, which makes an OSTree deployment the root.
    pub ostree_prepare_root: bool,
    /// Whether a unit that starts `ostree-prepare-root` is enabled in it.
    pub ostree_unit: bool,
    /// Whether its `ostree-prepare-root` was built without composefs.
    pub ostree_without_composefs: bool,
    /// Whether it has bootc's `initramfs-setup`, which mounts a composefs image as the root.
    pub bootc_setup: bool,
    /// Whether a unit that starts bootc's `initramfs-setup` is enabled in it.
    pub bootc_unit: bool,
    /// Those of its kernel modules that decide whether the root is found.
    pub modules: BTreeSet<&'static str>,
    /// The kernel versions that its modules are for.
    pub kernels: BTreeSet<String>,
    /// Those modules of dracut that it was made with.
    pub dracut_modules: Vec<String>,
    /// Why not all of it could be read.
    pub problem: Option<String>,
    /// Its own copy of `prepare-root.conf`, which is the one that counts at boot.
    #[serde(skip)]
    pub prepare_root: Option<String>,
}

/// Look into the initramfs of `size` bytes that `reader` gives; `budget` is what all of them together may unpack to.
pub(super) fn read(mut reader: &mut dyn Read, size: u64, budget: &mut u64) -> Initramfs {
    let mut found = Initramfs { size, ..Initramfs::default() };
    if let Err(error) = segments(&mut found, &mut reader, Some(budget)) {
        found.problem = Some(error.to_string());
    }
    found
}

/// Archives one after the other, zeros between them. What was unpacked has no `budget`: it was charged where it came out,
/// and nothing in it is unpacked again.
fn segments(found: &mut Initramfs, reader: &mut dyn Read, mut budget: Option<&mut u64>) -> io::Result<()> {
    let mut source = Source { reader, buffer: Vec::new(), at: 0 };
    loop {
        source.skip_zeros()?;
        let magic = source.peek(HEADER)?;
        let name = match magic {
            [] => return Ok(()),
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => {
                if found.compression.is_none() && budget.is_some() {
                    found.compression = Some("none");
                }
                archive(found, &mut source)?;
                continue;
            }
            _ if budget.is_none() => return Err(broken("what it unpacks to is no cpio archive")),
            [0x1f, 0x8b, ..] => "gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
            [0x5d, 0, 0, ..] => "lzma",
            [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
            [b'B', b'Z', b'h', ..] => return Err(broken("it is compressed with bzip2, which is not looked into")),
            [0x89, b'L', b'Z', b'O', ..] => return Err(broken("it is compressed with lzo, which is not looked into")),
            _ => return Err(broken("it has something that is neither a cpio archive nor a compressed one")),
        };
        found.compression = Some(name);
        let mut decoder: Box<dyn Read + '_> = match name {
            "gzip" => Box::new(flate2::bufread::GzDecoder::new(&mut source)),
            "zstd" => Box::new(zstd::Decoder::with_buffer(&mut source)?.single_frame()),
            "xz" => {
                let stream = liblzma::stream::Stream::new_stream_decoder(256 << 20, 0)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(&mut source, stream))
            }
            "lzma" => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(256 << 20)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(&mut source, stream))
            }
            _ => Box::new(lz4_flex::frame::FrameDecoder::new(&mut source)),
        };
        let Some(budget) = budget.as_deref_mut() else { return Ok(()) };
        charge(budget, limits::SEGMENT)?;
        // It is read to its end, so that the next one is found.
        segments(found, &mut Charged { reader: &mut *decoder, budget }, None)?;
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// One cpio archive.
fn archive(found: &mut Initramfs, source: &mut Source<'_>) -> io::Result<()> {
    loop {
        // The crate has read the padding; nothing lies between a content and the next header.
        let header = source.peek(HEADER)?;
        if header.len() < HEADER {
            return Err(broken("it ends in the middle of an archive"));
        }
        let length = header.get(NAME_SIZE).and_then(|text| std::str::from_utf8(text).ok());
        if length.and_then(|text| u32::from_str_radix(text, 16).ok()).is_none_or(|length| length > MAX_NAME) {
            return Err(broken("it has a file whose header is broken"));
        }
        let mut entry = cpio::newc::Reader::new(&mut *source)?;
        if entry.entry().is_trailer() {
            entry.finish()?;
            return Ok(());
        }
        found.entries += 1;
        if found.entries > limits::INITRAMFS_ENTRIES {
            return Err(broken("it has more files than any initramfs"));
        }
        let name = entry.entry().name().trim_start_matches("./").trim_start_matches('/').to_owned();
        look(found, &name, &mut entry)?;
        io::copy(&mut entry, &mut io::sink())?;
        entry.finish()?;
    }
}

/// What the file `name` tells.
fn look(found: &mut Initramfs, name: &str, content: &mut dyn Read) -> io::Result<()> {
    // /lib is a link to there, and archives are written both ways.
    let path = if name.starts_with("lib/") { format!("usr/{name}") } else { name.to_owned() };
    match path.as_str() {
        "usr/lib/ostree/ostree-prepare-root" => {
            found.ostree_prepare_root = true;
            found.ostree_without_composefs = contains(content, NO_COMPOSEFS)?;
        }
        // The one in /etc is read instead of the one in /usr, whichever comes first here.
        "etc/ostree/prepare-root.conf" => found.prepare_root = Some(text(content)?),
        "usr/lib/ostree/prepare-root.conf" if found.prepare_root.is_none() => {
            found.prepare_root = Some(text(content)?);
        }
        "usr/lib/bootc/initramfs-setup" => found.bootc_setup = true,
        "usr/lib/systemd/systemd" => found.systemd = true,
        "usr/lib/dracut/modules.txt" => {
            found.generator = Some("dracut");
            let text = text(content)?;
            found.dracut_modules = text.split_whitespace().take(limits::FILES).map(ToOwned::to_owned).collect();
        }
        "usr/lib/initrd-release" | "etc/initrd-release" => {
            found.generator = found.generator.or(Some("dracut"));
        }
        "conf/initramfs.conf" => found.generator = Some("initramfs-tools"),
        _ if path.starts_with("kernel/") => found.microcode |= path.contains("/microcode/"),
        _ => {}
    }
    if let Some((folder, unit)) = path.rsplit_once('/')
        && ["usr/lib/systemd/system/", "etc/systemd/system/"].iter().any(|system| folder.starts_with(system))
        && [".wants", ".requires"].iter().any(|enabled| folder.ends_with(enabled))
    {
        found.ostree_unit |= unit == "ostree-prepare-root.service";
        found.bootc_unit |= unit == "bootc-root-setup.service";
    }
    if let Some((version, module)) = path.strip_prefix("usr/lib/modules/").and_then(|path| path.split_once('/')) {
        if found.kernels.len() < 16 && version.len() <= limits::NAME && !found.kernels.contains(version) {
            found.kernels.insert(version.to_owned());
        }
        found.modules.extend(telling(module));
    }
    Ok(())
}

/// The name of the kernel module at `path`, if it is one of those that decide; a dash in it counts as an underscore.
pub(super) fn telling(path: &str) -> Option<&'static str> {
    let (name, suffix) = path.rsplit('/').next()?.split_once(".ko")?;
    let is = |telling: &str| name.len() == telling.len() && name.replace('-', "_") == telling;
    TELLING.into_iter().find(|telling| matches!(suffix, "" | ".xz" | ".zst" | ".gz") && is(telling))
}

fn text(content: &mut dyn Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    content.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes what it reads off the budget.
struct Charged<'a> {
    reader: &'a mut dyn Read,
    budget: &'a mut u64,
}

impl Read for Charged<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        charge(self.budget, count as u64)?;
        Ok(count)
    }
}

/// Once it is used up there is nothing for what follows either.
fn charge(budget: &mut u64, bytes: u64) -> io::Result<()> {
    let left = budget.checked_sub(bytes);
    *budget = left.unwrap_or_default();
    left.map(drop).ok_or_else(|| broken("it unpacks to more than any initramfs"))
}

/// A reader that can be looked ahead in, and that decoders take no more from than they need.
struct Source<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    at: usize,
}

impl Source<'_> {
    /// The next `count` bytes, fewer only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.at < count {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = 64 << 10;
            self.reader.take(more).read_to_end(&mut self.buffer)?;
        }
        let end = self.buffer.len().min(self.at + count);
        Ok(&self.buffer[self.at..end])
    }

    /// Padding between archives.
    fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let ahead = self.fill_buf()?;
            let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
            let end = ahead.is_empty() || zeros < ahead.len();
            self.consume(zeros);
            if end {
                return Ok(());
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = Cursor::new(self.fill_buf()?).read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.buffer.len().min(self.at + count);
    }
}
