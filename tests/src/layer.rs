//! Layers of container images that tests make, entry by entry, with what each entry says of itself.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// What marks the end of an archive: two blocks of zeros.
const END: usize = 1024;

/// A layer in the making. All that is in it belongs to root, unless it is said otherwise.
pub struct Layer {
    builder: Builder<Vec<u8>>,
    owner: u64,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer")
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self::new()
    }
}

impl Layer {
    /// One that is empty.
    pub fn new() -> Self {
        Self { builder: Builder::new(Vec::new()), owner: 0 }
    }

    /// The entries that follow belong to this user, and to the group of the same number.
    #[must_use]
    pub fn owned_by(self, owner: u64) -> Self {
        Self { owner, ..self }
    }

    /// The next entry has these extended attributes.
    #[must_use]
    pub fn with(mut self, attributes: &[(&str, &[u8])]) -> Self {
        let records: Vec<_> = attributes.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
        self.builder.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), *value))).unwrap();
        self
    }

    /// A file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<[u8]>, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(content.as_ref().len() as u64);
        self.builder.append_data(&mut header, at(&path), content.as_ref()).unwrap();
        self
    }

    /// The whiteout of what lower layers have at `path`.
    #[must_use]
    pub fn gone(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        self.file(format!("{folder}/.wh.{name}"), 0o644, "")
    }

    /// The whiteout of all that lower layers have in the folder at `path`.
    #[must_use]
    pub fn opaque(self, path: &str) -> Self {
        self.file(format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.node(path, mode, EntryType::Directory, (0, 0))
    }

    /// A device, with its major and minor number, or another file without content.
    #[must_use]
    pub fn node(mut self, path: impl AsRef<[u8]>, mode: u32, kind: EntryType, (major, minor): (u32, u32)) -> Self {
        let mut header = self.header(kind, mode);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.builder.append_data(&mut header, at(&path), io::empty()).unwrap();
        self
    }

    /// A symbolic link, or a hard one.
    #[must_use]
    pub fn link(mut self, path: impl AsRef<[u8]>, kind: EntryType, target: impl AsRef<[u8]>) -> Self {
        let mut header = self.header(kind, 0o777);
        self.builder.append_link(&mut header, at(&path), at(&target)).unwrap();
        self
    }

    /// The archive.
    pub fn done(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        header
    }
}

/// All that is in `layers`, as one layer.
pub fn in_one(layers: &[Vec<u8>]) -> Vec<u8> {
    let entries = layers.iter().map(|layer| &layer[..layer.len() - END]);
    let end: &[u8] = &[0; END];
    entries.chain([end]).collect::<Vec<_>>().concat()
}

fn at(path: &impl AsRef<[u8]>) -> &Path {
    Path::new(OsStr::from_bytes(path.as_ref()))
}
