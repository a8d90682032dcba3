//! What is kept of the contents of files while the layers pass by: of a few, and each only up to a limit.

use super::dpkg::{self, Packages};
use super::error::Fault;
use super::initramfs::{self, Initramfs};
use super::limits;
use super::uki::{self, Uki};
use std::io::{self, Read};
use std::sync::Arc;

/// What is known of the content of a file.
#[derive(Debug, Clone, Default)]
pub(super) enum Content {
    /// Nothing, because nobody asks.
    #[default]
    None,
    /// Nothing, because it is larger than such a file may be, or sparse.
    Unread,
    /// All of it.
    Text(Arc<[u8]>),
    /// What is in it, for the kernel's first root.
    Initramfs(Arc<Initramfs>),
    /// What is in a kernel with everything (UKI).
    Uki(Arc<Uki>),
    /// What is installed.
    Packages(Arc<Packages>),
    /// Of a program of OSTree: whether it says that composefs is not compiled in.
    WithoutComposefs(bool),
}

/// What is to be known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Text(u64),
    Initramfs,
    Uki,
    Packages,
    Ostree,
}

/// With this ostree refuses what `prepare-root.conf` asks for (ostree, `src/switchroot/ostree-mount-util.c`).
pub(super) const NO_COMPOSEFS: &[u8] = b"composefs: enabled at runtime, but support is not compiled in";

const KIB: u64 = 1 << 10;

/// Everything is read beneath /usr or /etc, since the others are links to there in every Debian since 12.
fn wanted(path: &[u8]) -> Option<Wanted> {
    let path = std::str::from_utf8(path).ok()?;
    let (folder, name) = path.rsplit_once('/')?;
    let is = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
    // A tree that was made ready for OSTree has its /etc in /usr/etc.
    if let Some(path) = path.strip_prefix("usr/etc/").or_else(|| path.strip_prefix("etc/")) {
        return match path {
            "os-release" | "machine-id" | "ostree/prepare-root.conf" => Some(Wanted::Text(64 * KIB)),
            "passwd" | "shadow" => Some(Wanted::Text(1024 * KIB)),
            _ if path.starts_with("tmpfiles.d/") && is(".conf") => Some(Wanted::Text(256 * KIB)),
            _ if path.starts_with("bootc/install/") && is(".toml") => Some(Wanted::Text(64 * KIB)),
            _ => None,
        };
    }
    match folder {
        "usr/lib/ostree" if name == "prepare-root.conf" => Some(Wanted::Text(64 * KIB)),
        "usr/lib/ostree" if name == "ostree-prepare-root" => Some(Wanted::Ostree),
        "usr/lib" if name == "os-release" => Some(Wanted::Text(64 * KIB)),
        "usr/lib" if matches!(name, "passwd" | "shadow") => Some(Wanted::Text(1024 * KIB)),
        "usr/lib/tmpfiles.d" if is(".conf") => Some(Wanted::Text(256 * KIB)),
        "usr/lib/systemd/system" if name == "sshd-keygen.service" => Some(Wanted::Text(64 * KIB)),
        "usr/lib/systemd/system/sshd-keygen.service.d" if is(".conf") => Some(Wanted::Text(64 * KIB)),
        "usr/lib/bootc/install" | "usr/local/lib/bootc/install" | "usr/lib/bootc/kargs.d" if is(".toml") => {
            Some(Wanted::Text(64 * KIB))
        }
        "usr/lib/bootupd/updates" if is(".json") => Some(Wanted::Text(1024 * KIB)),
        "usr/lib/image-builder/bootc" | "usr/lib/bootc-image-builder" => Some(Wanted::Text(256 * KIB)),
        "var/lib/dpkg" | "usr/lib/sysimage/dpkg" if name == "status" => Some(Wanted::Packages),
        "var/lib/dbus" if name == "machine-id" => Some(Wanted::Text(64 * KIB)),
        "boot" if name.starts_with("initrd") || name.starts_with("initramfs") => Some(Wanted::Initramfs),
        "boot/EFI/Linux" if is(".efi") => Some(Wanted::Uki),
        _ => match folder.strip_prefix("usr/lib/")?.split_once('/') {
            Some(("modules", version)) if !version.contains('/') => match name {
                "initramfs.img" | "initramfs" => Some(Wanted::Initramfs),
                "modules.builtin" => Some(Wanted::Text(1024 * KIB)),
                _ if is(".efi") => Some(Wanted::Uki),
                _ => None,
            },
            // /usr/lib/x86_64-linux-gnu
            None if name.starts_with("libostree-1.so.") => Some(Wanted::Ostree),
            _ => None,
        },
    }
}

/// How much may still be taken in, of all layers.
#[derive(Debug)]
pub(super) struct Budget {
    kept: u64,
    initramfs: u64,
    /// Files with an initramfs.
    kernels: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { kept: limits::KEPT, initramfs: limits::INITRAMFS, kernels: limits::KERNELS }
    }
}

impl Budget {
    /// What is to be known of the file `path`, whose content of `size` bytes `reader` gives.
    pub(super) fn keep(&mut self, path: &[u8], size: u64, reader: &mut impl Read) -> Result<Content, Fault> {
        let wanted = wanted(path);
        if let Some(Wanted::Initramfs | Wanted::Uki) = wanted {
            let Some(left) = self.kernels.checked_sub(1) else { return Ok(Content::Unread) };
            self.kernels = left;
        }
        Ok(match wanted {
            None => Content::None,
            Some(Wanted::Text(most)) if size > most || size > self.kept => Content::Unread,
            Some(Wanted::Text(_)) => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                self.kept -= size.min(self.kept);
                Content::Text(bytes.into())
            }
            Some(Wanted::Initramfs) => Content::Initramfs(Arc::new(initramfs::read(reader, size, &mut self.initramfs))),
            Some(Wanted::Uki) => match uki::read(reader, size, &mut self.initramfs)? {
                Some(uki) => Content::Uki(Arc::new(uki)),
                None => Content::Unread,
            },
            Some(Wanted::Packages) if size > limits::STATUS => Content::Unread,
            Some(Wanted::Packages) => Content::Packages(Arc::new(dpkg::read(reader)?)),
            Some(Wanted::Ostree) if size > limits::PROGRAM => Content::Unread,
            Some(Wanted::Ostree) => Content::WithoutComposefs(contains(reader, NO_COMPOSEFS)?),
        })
    }
}

/// Whether `text` comes in what `reader` gives.
pub(super) fn contains(reader: &mut (impl Read + ?Sized), text: &[u8]) -> io::Result<bool> {
    let mut window = Vec::new();
    let mut found = false;
    loop {
        let read = reader.take(64 * KIB).read_to_end(&mut window)?;
        if read == 0 || found {
            return Ok(found);
        }
        found = window.windows(text.len()).any(|part| part == text);
        // What may be the beginning of it.
        window.drain(..window.len().saturating_sub(text.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_the_pieces_that_are_read() {
        for at in [0, 10, 65_500, 65_536, 131_060] {
            let mut bytes = vec![b'x'; at];
            bytes.extend_from_slice(NO_COMPOSEFS);
            bytes.extend_from_slice(&[b'y'; 70_000]);
            assert!(contains(&mut &bytes[..], NO_COMPOSEFS).unwrap(), "{at}");
            assert!(!contains(&mut &bytes[..at + 20], NO_COMPOSEFS).unwrap(), "{at}");
        }
    }

    #[test]
    fn few_files_are_kept() {
        for path in ["usr/lib/os-release", "usr/etc/passwd", "usr/lib/bootc/kargs.d/10.toml", "etc/tmpfiles.d/a.conf"] {
            assert!(matches!(wanted(path.as_bytes()), Some(Wanted::Text(_))), "{path}");
        }
        assert_eq!(wanted(b"usr/lib/modules/6.12/initramfs.img"), Some(Wanted::Initramfs));
        assert_eq!(wanted(b"boot/initrd.img-6.12"), Some(Wanted::Initramfs));
        assert_eq!(wanted(b"usr/lib/modules/6.12/6.12.efi"), Some(Wanted::Uki));
        assert_eq!(wanted(b"usr/lib/x86_64-linux-gnu/libostree-1.so.1.0.0"), Some(Wanted::Ostree));
        for path in ["home/x/etc/passwd", "usr/lib/modules/6.12/kernel/initramfs.img", "os-release", "usr/bin/ls"] {
            assert_eq!(wanted(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn what_is_larger_than_its_kind_may_be_is_not_read() {
        let mut budget = Budget::default();
        let content = budget.keep(b"etc/passwd", 1 << 30, &mut io::empty()).unwrap();
        assert!(matches!(content, Content::Unread));
        budget.kept = 3;
        let mut keep = |text: &'static [u8]| budget.keep(b"etc/os-release", text.len() as u64, &mut &*text).unwrap();
        assert!(matches!(keep(b"abc"), Content::Text(_)));
        assert!(matches!(keep(b"abc"), Content::Unread));
    }
}
