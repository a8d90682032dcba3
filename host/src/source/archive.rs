//! What is where in a tar archive: its members are read in place, so that nothing is unpacked and no name of it becomes
//! a path.
//!
//! Sources: pax(1) of POSIX for the `ustar` and `pax` formats, the GNU tar manual for long names.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tar::{EntryType, Header, PaxExtensions};

/// Bytes of a header, and of what everything is rounded up to.
const BLOCK: u64 = 512;

/// Most entries. An image of 1,000 layers as docker has long saved it has four for each.
const MAX_ENTRIES: usize = 1 << 14;

/// Most bytes of an extended header.
const MAX_HEADER: u64 = 1 << 20;

/// Longest name and longest target of a link: what Linux takes (`PATH_MAX`, limits.h(0p)).
const MAX_NAME: usize = 4096;

/// How many links are followed to a file.
const MAX_LINKS: usize = 8;

/// The members of an archive by their names.
#[derive(Debug, Default)]
pub struct Members(HashMap<String, Member>);

#[derive(Debug)]
enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// What extended headers say about the entry after them.
#[derive(Default)]
struct Next {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Members {
    /// Find the members of `file`. Blocking.
    ///
    /// # Errors
    /// What is wrong with the archive.
    pub fn of(file: &File) -> Result<Self, String> {
        let broken = |error: io::Error| format!("it cannot be read ({error})");
        let length = file.metadata().map_err(broken)?.len();
        let mut found = Self::default();
        let (mut position, mut next) = (0, Next::default());
        for count in 0.. {
            let mut block = [0; BLOCK as usize];
            if position == length && count > 0 {
                break;
            }
            if position + BLOCK > length {
                return Err("it ends in the middle".into());
            }
            file.read_exact_at(&mut block, position).map_err(broken)?;
            if block.iter().all(|byte| *byte == 0) {
                break;
            }
            if count == MAX_ENTRIES {
                return Err(format!("it has more than {MAX_ENTRIES} entries"));
            }
            let header = Header::from_byte_slice(&block);
            if !is_sound(header) {
                return Err(if count == 0 { beginning(&block) } else { "a header in it is damaged".into() });
            }
            let kind = header.entry_type();
            let own = header.entry_size().map_err(broken)?;
            let is_extension = kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink();
            let size = if is_extension { own } else { next.size.unwrap_or(own) };
            let offset = position + BLOCK;
            let end = offset.checked_add(size).filter(|end| *end <= length);
            let end = end.ok_or_else(|| "it ends in the middle".to_owned())?;
            if is_extension {
                if size > MAX_HEADER {
                    return Err(format!("a header in it has {size} bytes"));
                }
                let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
                file.read_exact_at(&mut text, offset).map_err(broken)?;
                next.learn(kind, text)?;
            } else {
                found.add(header, offset, size, std::mem::take(&mut next))?;
            }
            // The last member of some archives is not rounded up.
            position = end.next_multiple_of(BLOCK).min(length.max(end));
        }
        Ok(found)
    }

    fn add(&mut self, header: &Header, offset: u64, size: u64, next: Next) -> Result<(), String> {
        let Some(name) = next.path.as_deref().or(Some(&*header.path_bytes())).and_then(|path| resolve("", path)) else {
            // Nobody asks for a name that leads out of the archive.
            return Ok(());
        };
        let link = |from: &str| {
            let target = next.target.clone().or_else(|| header.link_name_bytes().map(Into::into));
            target.and_then(|target| resolve(from, &target)).map(Member::Link)
        };
        let member = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Some(Member::File { offset, size }),
            // A symbolic link is told from its folder, a hard link from the top.
            EntryType::Symlink => link(name.rsplit_once('/').map_or("", |(folder, _)| folder)),
            EntryType::Link => link(""),
            EntryType::GNUSparse => return Err("it has sparse files".into()),
            _ => None,
        };
        if let Some(member) = member {
            // As tar does, the last one counts.
            self.0.insert(name, member);
        }
        Ok(())
    }

    /// Where the bytes of `name` are, and how many.
    pub fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name.to_owned();
        for _ in 0..=MAX_LINKS {
            match self.0.get(&name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name = target.clone(),
            }
        }
        None
    }
}

impl Next {
    fn learn(&mut self, kind: EntryType, mut text: Vec<u8>) -> Result<(), String> {
        if !kind.is_pax_local_extensions() {
            text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
            *(if kind.is_gnu_longname() { &mut self.path } else { &mut self.target }) = Some(text);
            return Ok(());
        }
        for record in PaxExtensions::new(&text) {
            let record = record.map_err(|error| format!("a header in it is damaged ({error})"))?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.target = Some(value.to_owned()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or_else(|| "a size in it is no number".to_owned())?);
                }
                key if key.starts_with(b"GNU.sparse") => return Err("it has sparse files".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether the check sum of a header is right.
fn is_sound(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
    header.cksum().is_ok_and(|expected| expected == sum - own + 8 * u32::from(b' '))
}

/// What it is instead of a tar archive.
fn beginning(block: &[u8]) -> String {
    let tools =
        [(&b"\x1f\x8b"[..], "gunzip"), (b"\x28\xb5\x2f\xfd", "unzstd"), (b"\xfd7zXZ\0", "unxz"), (b"BZh", "bunzip2")];
    match tools.iter().find(|(magic, _)| block.starts_with(magic)) {
        Some((_, tool)) => format!("it is compressed; decompress it with {tool} first"),
        None => "it is not a tar archive".into(),
    }
}

/// `path` as told from the folder `from`, without dots; none when it leads out, is no text, or longer than a path can be.
fn resolve(from: &str, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok().filter(|path| path.len() <= MAX_NAME)?;
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn file(build: impl FnOnce(&mut tar::Builder<File>)) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        build(&mut builder);
        let mut file = builder.into_inner().unwrap();
        file.rewind().unwrap();
        file
    }

    fn add(builder: &mut tar::Builder<File>, kind: EntryType, name: &str, text: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        if kind.is_file() {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        } else {
            header.set_size(0);
            builder.append_link(&mut header, name, text).unwrap();
        }
    }

    fn text(file: &File, name: &str) -> Option<String> {
        let (offset, size) = Members::of(file).unwrap().find(name)?;
        let mut text = vec![0; size as usize];
        file.read_exact_at(&mut text, offset).unwrap();
        Some(String::from_utf8(text).unwrap())
    }

    #[test]
    fn members_are_found_through_links_and_long_names() {
        let long = format!("{}/layer.tar", "a".repeat(200));
        let file = file(|builder| {
            add(builder, EntryType::Regular, "./manifest.json", "[]");
            add(builder, EntryType::Regular, &long, "deep");
            add(builder, EntryType::Symlink, "b/layer.tar", &format!("../{long}"));
            add(builder, EntryType::Link, "c/layer.tar", "b/layer.tar");
            add(builder, EntryType::Symlink, "loop", "loop");
            add(builder, EntryType::Symlink, "out", "../../etc/passwd");
            builder.append_pax_extensions([("path", b"by/pax".as_slice()), ("size", b"3")]).unwrap();
            let mut header = Header::new_ustar();
            header.set_size(3);
            header.set_path("short").unwrap();
            header.set_cksum();
            builder.append(&header, &b"pax"[..]).unwrap();
        });
        assert_eq!(text(&file, "manifest.json").unwrap(), "[]");
        for name in [&*long, "b/layer.tar", "c/layer.tar"] {
            assert_eq!(text(&file, name).unwrap(), "deep", "{name}");
        }
        assert_eq!(text(&file, "by/pax").unwrap(), "pax");
        for name in ["loop", "out", "short", "etc/passwd", "nothing"] {
            assert_eq!(text(&file, name), None, "{name}");
        }
    }

    #[test]
    fn no_name_is_kept_that_is_longer_than_a_path() {
        let long = "a/".repeat(4000);
        let file = file(|builder| {
            add(builder, EntryType::Regular, &format!("{long}x"), "");
            add(builder, EntryType::Symlink, "link", &format!("{long}x"));
            add(builder, EntryType::Regular, &format!("{}x", &long[..4095]), "");
        });
        assert_eq!(Members::of(&file).unwrap().0.len(), 1);
    }

    #[test]
    fn what_is_no_whole_archive_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            Members::of(&file).unwrap_err()
        };
        assert!(refused(b"").contains("ends in the middle"));
        assert!(refused(&[1; 1024]).contains("not a tar archive"));
        assert!(refused(&[&b"\x1f\x8b\x08"[..], &[0; 1024]].concat()).contains("gunzip"));
        let mut huge = Header::new_gnu();
        huge.set_path("a").unwrap();
        huge.set_size(1 << 40);
        huge.set_cksum();
        assert!(refused(huge.as_bytes()).contains("ends in the middle"));
        huge.set_entry_type(EntryType::GNULongName);
        huge.set_size(u64::MAX >> 1);
        huge.set_cksum();
        assert!(refused(huge.as_bytes()).contains("ends in the middle"));
        let mut damaged = Header::new_gnu();
        damaged.set_size(0);
        damaged.set_cksum();
        damaged.set_mode(0o777);
        assert!(refused(damaged.as_bytes()).contains("not a tar archive"));
    }
}
