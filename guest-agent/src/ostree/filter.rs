//! What of a layer goes into its commit, as the importer of bootc decides it (ostree-rs-ext, "tar/write.rs"): `/etc` is
//! the default configuration and becomes `/usr/etc`; what lies in folders that exist in a running system only is left out.

use crate::context::Context;
use crate::layer::{Entry, Kind, Layer, LayerError, MOUNTED_OVER, Xattr, shown};
use crate::report::{self, Explain};
use crate::tree::Tree;
use nix::sys::stat::fstat;
use particle_vm_protocol::{Failure, FailureKind};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use xattr::FileExt;

/// Copies a layer.
pub struct Filter<'a> {
    context: &'a Context,
    /// What the layers below it have, as far as there are some.
    below: Option<&'a Tree>,
    /// Largest file, in bytes: a disk holds no larger one, and holes cost nothing in the layer.
    largest: u64,
    /// The files and links of the layer so far.
    files: BTreeSet<Vec<u8>>,
    /// Its folders so far.
    folders: Vec<Entry>,
    etc: Option<Configuration>,
}

/// Where a layer has the default configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Configuration {
    Etc,
    UsrEtc,
}

impl<'a> Filter<'a> {
    /// For one layer.
    pub fn new(context: &'a Context, below: Option<&'a Tree>, largest: u64) -> Self {
        Self { context, below, largest, files: BTreeSet::new(), folders: Vec::new(), etc: None }
    }

    /// Write the archive in `input` to `output`, as ostree-commit(1) is to have it. Gives the folders in it: of one that
    /// lower layers have too, ostree-checkout(1) would keep theirs, and it puts none in the place of something else.
    ///
    /// # Errors
    /// When the layer is broken or holds what must not be in a commit, and when `output` takes no more.
    pub fn copy(mut self, input: impl Read, output: &mut dyn Write) -> Result<Vec<Entry>, Failure> {
        let mut layer = Layer::new(input);
        let mut archive = tar::Builder::new(output);
        // A layer may be empty, and a commit has a root.
        let root = Entry {
            path: Vec::new(),
            kind: Kind::Folder,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            size: 0,
        };
        append(&mut archive, &root, io::empty()).explain(FailureKind::Agent, || "cannot write the layer")?;
        while let Some(entry) = layer.next_entry().map_err(refused)? {
            let Some(entry) = self.take(entry)? else { continue };
            let name = shown(&entry.path);
            let explain = || format!("cannot take `{name}` of the layer");
            match &entry.kind {
                Kind::Link(target) if !self.files.contains(target) => {
                    self.take_from_below(&mut archive, &entry, target)?;
                }
                _ => append(&mut archive, &entry, layer.content()).explain(FailureKind::Input, explain)?,
            }
            match entry.kind {
                Kind::Folder => self.folders.push(entry),
                _ => drop(self.files.insert(entry.path)),
            }
        }
        archive.finish().explain(FailureKind::Agent, || "cannot write the layer")?;
        Ok(self.folders)
    }

    /// The entry with its name in the commit; none when it does not belong there.
    fn take(&mut self, entry: Entry) -> Result<Option<Entry>, Failure> {
        let name = shown(&entry.path);
        if let Some((top, _)) = split_first(&entry.path)
            && MOUNTED_OVER.iter().any(|folder| folder.as_bytes() == top)
        {
            return Ok(None);
        }
        if entry.size > self.largest {
            let message = format!("`{name}` in the layer has {} bytes, which is more than the disk", entry.size);
            return Err(report::plain(FailureKind::Input, message));
        }
        check_text(&entry)?;
        self.check_etc(&entry)?;
        let kind = match entry.kind {
            Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {
                self.context.output(format!("`{name}` is left out: OSTree keeps no devices and no pipes"));
                return Ok(None);
            }
            Kind::Link(target) => Kind::Link(commit_path(target)),
            kind => kind,
        };
        Ok(Some(Entry { path: commit_path(entry.path), kind, ..entry }))
    }

    /// Both places in one layer: nobody could tell which one is meant.
    fn check_etc(&mut self, entry: &Entry) -> Result<(), Failure> {
        let here = match entry.path.as_slice() {
            path if path.starts_with(b"etc/") => Configuration::Etc,
            path if path.starts_with(b"usr/etc/") => Configuration::UsrEtc,
            _ => return Ok(()),
        };
        if self.etc.is_some_and(|before| before != here) {
            let message = "a layer of the image has both /etc and /usr/etc; keep the configuration in /etc only";
            return Err(report::plain(FailureKind::Input, message));
        }
        self.etc = Some(here);
        Ok(())
    }

    /// A hard link to a file or a symbolic link of a lower layer: ostree-commit(1) sees this layer only, so that it gets
    /// what is there itself.
    fn take_from_below(
        &self,
        archive: &mut tar::Builder<&mut dyn Write>,
        entry: &Entry,
        target: &[u8],
    ) -> Result<(), Failure> {
        let explain = || format!("`{}` in the layer is a hard link to `{}`", shown(&entry.path), shown(target));
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the image has no such file");
        let tree = self.below.ok_or_else(missing).explain(FailureKind::Input, explain)?;
        if let Some(leads_to) = tree.link_target_raw(target) {
            let entry = Entry { kind: Kind::Symlink(leads_to), ..entry.clone() };
            return append(archive, &entry, io::empty()).explain(FailureKind::Input, explain);
        }
        let file = tree.open_raw(target).map(File::from).explain(FailureKind::Input, explain)?;
        let stat = fstat(&file).explain(FailureKind::Input, explain)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(missing()).explain(FailureKind::Input, explain);
        }
        let entry = Entry {
            path: entry.path.clone(),
            kind: Kind::File,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: entry.mtime,
            xattrs: attributes(&file).explain(FailureKind::Input, explain)?,
            size: u64::try_from(stat.st_size).unwrap_or(0),
        };
        append(archive, &entry, file).explain(FailureKind::Input, explain)
    }
}

/// OSTree keeps names and the targets of links as text (`ostree-core.h`, `OSTREE_TREE_GVARIANT_FORMAT`).
fn check_text(entry: &Entry) -> Result<(), Failure> {
    let target = match &entry.kind {
        Kind::Symlink(target) => target.as_slice(),
        _ => b"",
    };
    if std::str::from_utf8(&entry.path).is_ok() && std::str::from_utf8(target).is_ok() {
        return Ok(());
    }
    let name = entry.path.escape_ascii();
    let to = if target.is_empty() { String::new() } else { format!(", a link to `{}`,", target.escape_ascii()) };
    let message =
        format!("`{name}`{to} in the layer is no UTF-8, and OSTree keeps no other names; rename it in the image");
    Err(report::plain(FailureKind::Input, message))
}

/// The extended attributes of an open file, xattr(7).
fn attributes(file: &File) -> io::Result<Vec<Xattr>> {
    let value = |name: OsString| {
        let value = file.get_xattr(&name)?.unwrap_or_default();
        Ok((name.into_vec(), value))
    };
    file.list_xattr()?.map(value).collect()
}

/// A failure because of what a layer has in it.
pub fn refused(error: LayerError) -> Failure {
    report::failure(FailureKind::Input, &error)
}

/// Where a path of the image is in a commit.
fn commit_path(path: Vec<u8>) -> Vec<u8> {
    match split_first(&path) {
        Some((b"etc", rest)) => [b"usr/etc/", rest].concat(),
        None if path == b"etc" => b"usr/etc".to_vec(),
        _ => path,
    }
}

/// The first name of a path, and what comes after it, if something does.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().position(|byte| *byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// Add an entry to an archive.
fn append(archive: &mut tar::Builder<&mut dyn Write>, entry: &Entry, content: impl Read) -> io::Result<()> {
    let names: Result<Vec<_>, _> = entry
        .xattrs
        .iter()
        .map(|(name, value)| Ok((format!("SCHILY.xattr.{}", std::str::from_utf8(name)?), value.as_slice())))
        .collect();
    let names =
        names.map_err(|_: std::str::Utf8Error| io::Error::other("the name of an extended attribute is not UTF-8"))?;
    if !names.is_empty() {
        archive.append_pax_extensions(names.iter().map(|(name, value)| (name.as_str(), *value)))?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(u64::try_from(entry.mtime.0).unwrap_or(0));
    header.set_size(0);
    let path = Path::new(OsStr::from_bytes(&entry.path));
    match &entry.kind {
        Kind::File => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(entry.size);
            archive.append_data(&mut header, path, content)
        }
        Kind::Folder if entry.path.is_empty() => {
            header.set_entry_type(tar::EntryType::Directory);
            header.as_old_mut().name[..2].copy_from_slice(b"./");
            header.set_cksum();
            archive.append(&header, io::empty())
        }
        Kind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, path, io::empty())
        }
        Kind::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            append_link(archive, header, &entry.path, target)
        }
        Kind::Link(target) => {
            header.set_entry_type(tar::EntryType::Link);
            append_link(archive, header, &entry.path, target)
        }
        Kind::Character(..) | Kind::Block(..) | Kind::Fifo => Ok(()),
    }
}

/// A link whose target stays as it is written: the crate takes `.` and double slashes out of it.
fn append_link(
    archive: &mut tar::Builder<&mut dyn Write>,
    mut header: tar::Header,
    path: &[u8],
    target: &[u8],
) -> io::Result<()> {
    for (kind, name) in [(tar::EntryType::GNULongLink, target), (tar::EntryType::GNULongName, path)] {
        // With the zero at its end.
        if name.len() >= 100 {
            let mut long = tar::Header::new_gnu();
            long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
            long.set_entry_type(kind);
            long.set_size(name.len() as u64 + 1);
            long.set_cksum();
            archive.append(&long, [name, b"\0"].concat().as_slice())?;
        }
    }
    let old = header.as_old_mut();
    let (name, link) = (path.len().min(100), target.len().min(100));
    old.name[..name].copy_from_slice(&path[..name]);
    old.linkname[..link].copy_from_slice(&target[..link]);
    header.set_cksum();
    archive.append(&header, io::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_becomes_the_default_one() {
        let path = |path: &str| String::from_utf8(commit_path(path.into())).unwrap();
        assert_eq!(path("etc"), "usr/etc");
        assert_eq!(path("etc/a/b"), "usr/etc/a/b");
        assert_eq!(path("etcetera"), "etcetera");
        assert_eq!(path("usr/bin/etc"), "usr/bin/etc");
    }

    #[test]
    fn names_that_ostree_does_not_keep_are_told() {
        let entry = |path: &[u8], kind: Kind| Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            size: 0,
        };
        let link = |target: &[u8]| Kind::Symlink(target.to_vec());
        check_text(&entry("usr/\u{e4}".as_bytes(), Kind::File)).unwrap();
        check_text(&entry(b"usr/a", link("\u{e4}".as_bytes()))).unwrap();
        let message = check_text(&entry(b"usr/\xff", Kind::File)).unwrap_err().message;
        assert!(message.starts_with("`usr/\\xff` in the layer is no UTF-8"), "{message}");
        let message = check_text(&entry(b"usr/a", link(b"\xff"))).unwrap_err().message;
        assert!(message.starts_with("`usr/a`, a link to `\\xff`, in the layer is no UTF-8"), "{message}");
    }
}
