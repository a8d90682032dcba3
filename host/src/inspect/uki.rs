//! Unified kernel images: one program for UEFI with the kernel, its initramfs and its command line in sections
//! (Unified Kernel Image specification of the UAPI group).

use super::initramfs::{self, Initramfs};
use object::LittleEndian;
use object::pe::{ImageDosHeader, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader};
use serde::Serialize;
use std::io::{self, Read};

/// The headers lie in the first bytes of the file.
const HEAD: u64 = 64 << 10;

/// Most bytes of a section that holds a text.
const MAX_TEXT: u64 = 64 << 10;

/// What is in a unified kernel image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Uki {
    /// Its size in bytes.
    pub size: u64,
    /// The version of its kernel.
    pub version: Option<String>,
    /// The command line of its kernel.
    pub cmdline: Option<String>,
    /// Whether it is signed for Secure Boot.
    pub signed: bool,
    /// Its initramfs.
    pub initramfs: Option<Initramfs>,
}

/// Look into the file of `size` bytes that `reader` gives; none if it is no such image. `budget` as for an initramfs.
pub(super) fn read(reader: &mut dyn Read, size: u64, budget: &mut u64) -> io::Result<Option<Uki>> {
    let mut head = Vec::new();
    reader.take(HEAD).read_to_end(&mut head)?;
    let Some((mut sections, signed)) = sections(&head) else { return Ok(None) };
    if !sections.iter().any(|section| section.name == ".linux") {
        return Ok(None);
    }
    let mut uki = Uki { size, signed, ..Uki::default() };
    sections.sort_by_key(|section| section.start);
    let mut stream = io::Cursor::new(&head).chain(reader);
    let mut at = 0;
    for section in sections {
        // Sections that overlap are read up to the first; no tool makes such files.
        let Some(gap) = section.start.checked_sub(at) else { continue };
        at += io::copy(&mut (&mut stream).take(gap), &mut io::sink())?;
        let mut content = (&mut stream).take(section.length);
        match section.name.as_str() {
            ".uname" => uki.version = Some(text(&mut content)?),
            ".cmdline" => uki.cmdline = Some(text(&mut content)?),
            ".initrd" => uki.initramfs = Some(initramfs::read(&mut content, section.length, budget)),
            _ => {}
        }
        io::copy(&mut content, &mut io::sink())?;
        at += section.length - content.limit();
    }
    Ok(Some(uki))
}

struct Section {
    name: String,
    start: u64,
    length: u64,
}

/// The sections, and whether there is a signature.
fn sections(head: &[u8]) -> Option<(Vec<Section>, bool)> {
    let mut offset = ImageDosHeader::parse(head).ok()?.nt_headers_offset().into();
    let (headers, directories) = ImageNtHeaders64::parse(head, &mut offset).ok()?;
    let sections = headers.sections(head, offset).ok()?;
    // Some linkers write no table of directories at all.
    let security = directories.get(object::pe::IMAGE_DIRECTORY_ENTRY_SECURITY);
    let signed = headers.optional_header().number_of_rva_and_sizes() > 4
        && security.is_some_and(|entry| entry.size.get(LittleEndian) > 0);
    let sections = sections.iter().map(|section| {
        let (start, stored) = section.pe_file_range();
        let used = section.virtual_size.get(LittleEndian);
        let name = String::from_utf8_lossy(section.raw_name()).into_owned();
        // What is stored is padded to the alignment of the file.
        Section { name, start: start.into(), length: stored.min(used).into() }
    });
    Some((sections.collect(), signed))
}

fn text(content: &mut dyn Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    content.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n', ' ']).to_owned())
}
