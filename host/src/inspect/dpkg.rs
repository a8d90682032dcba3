//! dpkg's status: what is installed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

/// The packages whose versions tell something about how an image boots and updates.
const TELLING: [&str; 14] = [
    "bootc",
    "bootupd",
    "dracut",
    "grub-common",
    "initramfs-tools",
    "initramfs-tools-core",
    "libcomposefs1",
    "libostree-1-1",
    "openssh-server",
    "ostree",
    "ostree-boot",
    "shim-signed",
    "systemd",
    "systemd-boot-efi",
];

/// Most bytes of a line that are looked at.
const MAX_LINE: u64 = 4096;

/// What is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Packages {
    /// How many packages.
    pub(super) count: u64,
    /// The versions of some.
    pub(super) versions: BTreeMap<String, String>,
}

/// Read a status file: stanzas of `Field: value`, an empty line between them (dpkg(1), deb822(5)). It is not kept: that of
/// a desktop has 10 MB.
pub(super) fn read(reader: impl Read) -> io::Result<Packages> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let (mut packages, mut stanza, mut line) = (Packages::default(), Stanza::default(), Vec::new());
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read as u64 == MAX_LINE && !line.ends_with(b"\n") {
            skip_line(&mut reader)?;
        }
        let text = String::from_utf8_lossy(&line);
        match text.trim_end().split_once(": ") {
            _ if read == 0 || text.trim_end().is_empty() => std::mem::take(&mut stanza).end(&mut packages),
            Some(("Package", name)) => stanza.name = name.to_owned(),
            Some(("Version", version)) => stanza.version = version.to_owned(),
            Some(("Status", status)) => stanza.installed = status.ends_with(" installed"),
            _ => {}
        }
        if read == 0 {
            return Ok(packages);
        }
    }
}

/// Pass over the rest of a line.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (length, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(newline) => (newline + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(length);
        if ends {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Stanza {
    name: String,
    version: String,
    installed: bool,
}

impl Stanza {
    fn end(self, packages: &mut Packages) {
        if self.installed && !self.name.is_empty() {
            packages.count += 1;
            if TELLING.contains(&self.name.as_str()) {
                packages.versions.insert(self.name, self.version);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_are_counted_and_removed_ones_are_not() {
        let long = "x".repeat(10_000);
        let status = format!(
            "Package: ostree\nStatus: install ok installed\nDescription: {long}Version: 9\nVersion: 2026.4-1\n\n\
             Package: ostree-boot\nStatus: deinstall ok config-files\nVersion: 1\n\n\n\
             Package: other\nStatus: hold ok installed\nVersion: 2\nDescription: d\n Package: no\n"
        );
        let packages = read(status.as_bytes()).unwrap();
        assert_eq!(packages.count, 2);
        assert_eq!(packages.versions, BTreeMap::from([("ostree".into(), "2026.4-1".into())]));
    }
}
