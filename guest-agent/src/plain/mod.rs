//! Container images as plain trees: the layers one above the other, as a container engine unpacks them (OCI image
//! specification, "Applying Changesets").

use crate::context::Context;
use crate::layer::{self, Entry, Kind, Layer, LayerError, OPAQUE, WHITEOUT, shown};
use crate::paths;
use crate::report::{self, Explain};
use crate::tree::{Place, Tree};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, linkat, symlinkat};
use particle_vm_protocol::{Base, Failure, FailureKind};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Bytes of a file that are moved at a time.
const STEP: usize = 1 << 20;

/// How the names of the AUFS file system's own files begin, which old layers have in them.
const AUFS: &[u8] = b".wh..wh.";

/// Unpack the layers of `base` into a new folder at `root`.
///
/// # Errors
/// When a layer is broken or leads out of the tree, and when the disk is full.
pub fn unpack(context: &Context, base: &Base, root: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(0o755)
        .create(root)
        .explain(FailureKind::Agent, || format!("cannot make {}", root.display()))?;
    let tree = Tree::open(root).explain(FailureKind::Agent, || "cannot open the tree")?;
    for (index, layer) in base.layers.iter().enumerate() {
        context.output(format!("layer {} of {}: {}", index + 1, base.layers.len(), layer.digest));
        let path = Path::new(paths::BASE).join(&layer.file);
        let archive = File::open(&path).explain(FailureKind::Agent, || format!("cannot open {}", path.display()))?;
        let archive = Layer::new(BufReader::with_capacity(STEP, archive));
        apply(context, &tree, archive).map_err(|failure| Failure {
            message: format!("layer {}\n{}", layer.digest, failure.message),
            ..failure
        })?;
    }
    Ok(())
}

/// One layer on top of what is in `tree`.
fn apply<R: Read>(context: &Context, tree: &Tree, layer: Layer<R>) -> Result<(), Failure> {
    let mut unpacker = Unpacker { tree, layer, own: BTreeSet::new(), times: Vec::new(), buffer: vec![0; STEP] };
    while let Some(entry) =
        unpacker.layer.next_entry().map_err(|error: LayerError| report::failure(FailureKind::Input, &error))?
    {
        context.check()?;
        let name = shown(&entry.path);
        unpacker.add(entry).explain(FailureKind::Input, || format!("cannot unpack `{name}`"))?;
    }
    // Each new name in a folder changes its time.
    for (path, time) in unpacker.times.iter().rev() {
        let set = tree.place(path).and_then(|place| layer::set_time(&place, *time));
        set.explain(FailureKind::Agent, || format!("cannot set the time of `{}`", shown(path)))?;
    }
    Ok(())
}

struct Unpacker<'a, R> {
    tree: &'a Tree,
    layer: Layer<R>,
    /// What this layer has in it: its whiteouts are for what lower ones have.
    own: BTreeSet<Vec<u8>>,
    /// The folders of this layer and their times.
    times: Vec<(Vec<u8>, (i64, u32))>,
    buffer: Vec<u8>,
}

impl<R: Read> Unpacker<'_, R> {
    fn add(&mut self, entry: Entry) -> io::Result<()> {
        let (folder, name) = entry.split();
        if name == OPAQUE {
            return self.clear(folder);
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let path = if folder.is_empty() { hidden.to_vec() } else { [folder, hidden].join(&b'/') };
            return if self.has(&path) || hidden.is_empty() { Ok(()) } else { self.tree.place(&path)?.clear() };
        }
        if entry.path.is_empty() {
            return self.root(&entry);
        }
        let place = self.tree.place(&entry.path)?;
        let there = place.stat()?.map(|stat| SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT));
        // A folder goes on with what is in it; anything else takes the place of what is there.
        if !(entry.kind == Kind::Folder && there == Some(SFlag::S_IFDIR)) {
            if there.is_some() {
                place.clear()?;
            }
            self.make(&place, &entry)?;
        }
        if !matches!(entry.kind, Kind::Link(_)) {
            layer::apply(&place, &entry)?;
        }
        if entry.kind == Kind::Folder {
            self.times.push((entry.path.clone(), entry.mtime));
        }
        self.own.insert(entry.path);
        Ok(())
    }

    /// Owner and permissions of the root.
    fn root(&self, entry: &Entry) -> io::Result<()> {
        let root = self.tree.folder_raw(b"")?;
        nix::unistd::fchown(root.as_fd(), Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        Ok(nix::sys::stat::fchmod(root.as_fd(), Mode::from_bits_truncate(entry.mode))?)
    }

    /// Whether this layer has something at `path` or beneath it.
    fn has(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        self.own.contains(path) || self.own.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
    }

    /// Remove what lower layers have in a folder. The folder may be missing.
    fn clear(&self, folder: &[u8]) -> io::Result<()> {
        let open = self.tree.folder_raw(folder)?;
        for entry in fs::read_dir(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)))? {
            let name = entry?.file_name();
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str());
            let path = if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') };
            let place = self.tree.place(&path)?;
            if !self.has(&path) {
                place.clear()?;
            } else if place.stat()?.is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR) {
                self.clear(&path)?;
            }
        }
        Ok(())
    }

    fn make(&mut self, place: &Place<'_>, entry: &Entry) -> io::Result<()> {
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let node = |kind, device| mknodat(&place.folder, place.name, kind, private, device);
        match &entry.kind {
            Kind::Folder => mkdirat(&place.folder, place.name, private | Mode::S_IXUSR)?,
            Kind::File => self.file(place)?,
            Kind::Symlink(target) => symlinkat(target.as_slice(), &place.folder, place.name)?,
            Kind::Link(target) => {
                let from = self.tree.place(target)?;
                linkat(&from.folder, from.name, &place.folder, place.name, AtFlags::empty())?;
            }
            Kind::Character(major, minor) => node(SFlag::S_IFCHR, makedev((*major).into(), (*minor).into()))?,
            Kind::Block(major, minor) => node(SFlag::S_IFBLK, makedev((*major).into(), (*minor).into()))?,
            Kind::Fifo => node(SFlag::S_IFIFO, 0)?,
        }
        Ok(())
    }

    /// A file with the holes that the layer says it has.
    fn file(&mut self, place: &Place<'_>) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&place.folder, place.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let size = self.layer.size();
        let mut content = self.layer.content();
        while let Some((offset, mut left)) = content.piece() {
            file.seek(SeekFrom::Start(offset))?;
            while left > 0 {
                let read = content.read_piece(&mut self.buffer, left)?;
                file.write_all(&self.buffer[..read])?;
                left -= read as u64;
            }
        }
        file.set_len(size)
    }
}

#[cfg(test)]
mod tests;
