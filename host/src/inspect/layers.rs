//! The layers of an image, applied to a tree.

use super::archive::{Archive, Entry, Kind as EntryKind};
use super::error::{Fault, InspectError};
use super::keep::{Budget, Content};
use super::limits;
use super::name::{self, show};
use super::tree::{Kind, Node, Tree};
use std::io::{self, Read};

/// What a name begins with that takes something away (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// In a folder: nothing of the layers below shows.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The rest of aufs' own files, which Docker and podman pass over.
const AUFS: &[u8] = b".wh..wh.";

/// What passed by of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) entries: u64,
    /// Bytes of the contents of files.
    pub(super) bytes: u64,
    pub(super) whiteouts: u64,
}

/// Apply `layers`, lowest first, whose digests are `digests`.
pub(super) fn apply<R: Read>(
    layers: impl IntoIterator<Item = io::Result<R>>,
    digests: &[&str],
) -> Result<(Tree, Vec<Passed>), InspectError> {
    let (mut tree, mut passed, mut budget, mut entries) = (Tree::default(), Vec::new(), Budget::default(), 0);
    for (index, layer) in layers.into_iter().enumerate() {
        let listed = digests.len();
        let digest = digests.get(index).ok_or(InspectError::Layers { found: index + 1, listed })?;
        let applied = layer.map_err(Fault::Read).and_then(|layer| one(&mut tree, layer, &mut budget, entries));
        let applied = applied.map_err(|fault| fault.of_layer(index + 1, digest))?;
        entries += applied.entries;
        passed.push(applied);
    }
    if passed.len() == digests.len() {
        Ok((tree, passed))
    } else {
        Err(InspectError::Layers { found: passed.len(), listed: digests.len() })
    }
}

fn one(tree: &mut Tree, layer: impl Read, budget: &mut Budget, before: u64) -> Result<Passed, Fault> {
    tree.next_layer();
    let mut archive = Archive::new(layer);
    let mut passed = Passed::default();
    while let Some(entry) = archive.next()? {
        passed.entries += 1;
        if before + passed.entries > limits::ENTRIES {
            return Err(Fault::refused(format!("the image has more than {} entries", limits::ENTRIES)));
        }
        let path = name::normal(&entry.name)?;
        if let Some((folder, name)) = name::split(&path)
            && let Some(hidden) = name.strip_prefix(WHITEOUT)
        {
            passed.whiteouts += 1;
            white_out(tree, folder, name, hidden)?;
            continue;
        }
        if entry.kind == EntryKind::File {
            passed.bytes = passed.bytes.saturating_add(entry.size);
        }
        add(tree, &mut archive, budget, &path, entry)?;
    }
    Ok(passed)
}

fn white_out(tree: &mut Tree, folder: &[u8], name: &[u8], hidden: &[u8]) -> Result<(), Fault> {
    if name == OPAQUE {
        return tree.make_opaque(folder);
    }
    if name.starts_with(AUFS) {
        return Ok(());
    }
    if matches!(hidden, b"" | b"." | b"..") {
        let path = [folder, b"/", name].concat();
        return Err(Fault::refused(format!("{} is a whiteout of nothing", show(&path))));
    }
    let mut path = folder.to_owned();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(hidden);
    tree.white_out(&path)
}

fn add(
    tree: &mut Tree,
    archive: &mut Archive<impl Read>,
    budget: &mut Budget,
    path: &[u8],
    entry: Entry,
) -> Result<(), Fault> {
    let (kind, content) = match entry.kind {
        EntryKind::HardLink => return tree.link(path, &name::normal(&entry.target)?),
        EntryKind::File if entry.sparse => (Kind::File, Content::Unread),
        EntryKind::File => (Kind::File, budget.keep(path, entry.size, archive)?),
        EntryKind::Symlink if entry.target.len() >= limits::PATH => {
            return Err(Fault::refused(format!("the target of {} is longer than 4095 bytes", show(path))));
        }
        EntryKind::Symlink => (Kind::Link(entry.target), Content::None),
        EntryKind::Folder => (Kind::Folder, Content::None),
        EntryKind::Device => (Kind::Device, Content::None),
        EntryKind::Fifo => (Kind::Fifo, Content::None),
    };
    tree.insert(path, Node::new(kind, entry.mode, entry.size, content))
}
