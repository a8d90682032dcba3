//! The merged tree of an image: its layers, one laid over the other (image-spec, layer.md, "Applying Changesets").

use super::error::Fault;
use super::keep::Content;
use super::limits;
use super::name::{self, show};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Most symlinks on the way to a file, as the kernel has it (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symlink and where it points to.
    Link(Vec<u8>),
    Device,
    Fifo,
}

/// A file of the image.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) content: Content,
    /// The layer that it comes from, or for a folder the last that had something in it.
    layer: usize,
    /// Of a folder: the last layer that took away what those below have in it.
    emptied: usize,
}

impl Node {
    pub(super) fn new(kind: Kind, mode: u32, size: u64, content: Content) -> Self {
        Self { kind, mode, size, content, layer: 0, emptied: 0 }
    }

    /// What it adds to the bytes of all names.
    fn names(&self) -> usize {
        if let Kind::Link(target) = &self.kind { target.len() } else { 0 }
    }

    /// Whether it is a program, or a link to something that may be one.
    pub(super) fn is_program(&self) -> bool {
        self.kind == Kind::File && self.mode & 0o111 != 0
    }
}

/// The merged tree. Paths are as [`name::normal`] makes them; the root itself is not in it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Bytes of all paths and of the targets of all symlinks.
    names: usize,
    /// The layer that is being applied.
    layer: usize,
    /// As that of a folder, for the root.
    emptied: usize,
}

impl Tree {
    /// What comes now belongs to the next layer: whiteouts concern what was there before.
    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Add a file. One of another kind is replaced, a folder with all that is in it; two folders become one.
    pub(super) fn insert(&mut self, path: &[u8], mut node: Node) -> Result<(), Fault> {
        node.layer = self.layer;
        let Some((folder, _)) = name::split(path) else {
            // The root: its mode is no matter here.
            return match node.kind {
                Kind::Folder => Ok(()),
                _ => Err(Fault::refused("the root is no folder")),
            };
        };
        self.enter(folder, path)?;
        if let Some(old) = self.nodes.get(path).filter(|old| old.kind == Kind::Folder) {
            if node.kind == Kind::Folder {
                node.emptied = old.emptied;
            } else {
                self.remove_within(path, |_| true);
            }
        }
        self.put(path, node)
    }

    /// Add another name of a file that is there.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Fault> {
        let refused = |why| Fault::refused(format!("{} is a hard link to {}, {why}", show(path), show(target)));
        let Some(node) = self.nodes.get(target) else { return Err(refused("which is not there")) };
        if node.kind == Kind::Folder {
            return Err(refused("which is a folder"));
        }
        let node = node.clone();
        // Two names of one file: nothing to do, and not to be removed either.
        if path == target { Ok(()) } else { self.insert(path, node) }
    }

    /// Take away what the layers below have at `path`. Whiteouts do not hide what their own layer has.
    pub(super) fn white_out(&mut self, path: &[u8]) -> Result<(), Fault> {
        if let Some((folder, _)) = name::split(path) {
            self.expect_folders(folder, path)?;
        }
        self.empty(path);
        if self.nodes.get(path).is_some_and(|node| node.layer < self.layer) {
            self.remove(path);
        }
        Ok(())
    }

    /// Take away what the layers below have in the folder `path`.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.enter(path, path)?;
        self.empty(path);
        Ok(())
    }

    /// Take away what the layers below have beneath `path`; what comes after that is of this layer, so that once is enough.
    fn empty(&mut self, path: &[u8]) {
        let layer = self.layer;
        let emptied = match path {
            b"" => Some(&mut self.emptied),
            _ => self.nodes.get_mut(path).map(|node| &mut node.emptied),
        };
        if emptied.is_some_and(|emptied| std::mem::replace(emptied, layer) < layer) {
            self.remove_within(path, |node| node.layer < layer);
        }
    }

    /// Make the folders down to `folder` where they are missing; they belong to this layer now.
    fn enter(&mut self, folder: &[u8], path: &[u8]) -> Result<(), Fault> {
        let layer = self.layer;
        if self.nodes.get(folder).is_some_and(|node| node.kind == Kind::Folder && node.layer == layer) {
            return Ok(());
        }
        self.expect_folders(folder, path)?;
        for folder in prefixes(folder) {
            match self.nodes.get_mut(folder) {
                Some(node) => node.layer = layer,
                None => self.put(folder, Node { layer, ..Node::new(Kind::Folder, 0o755, 0, Content::None) })?,
            }
        }
        Ok(())
    }

    /// An entry below something that is no folder would be written wherever a symlink leads, or nowhere.
    fn expect_folders(&self, folder: &[u8], path: &[u8]) -> Result<(), Fault> {
        for above in prefixes(folder) {
            let what = match self.nodes.get(above).map(|node| &node.kind) {
                None => return Ok(()),
                Some(Kind::Folder) => continue,
                Some(Kind::Link(_)) => "a symlink",
                Some(_) => "no folder",
            };
            return Err(Fault::refused(format!("{} is to lie beneath {}, which is {what}", show(path), show(above))));
        }
        Ok(())
    }

    fn put(&mut self, path: &[u8], node: Node) -> Result<(), Fault> {
        self.names += path.len() + node.names();
        if let Some(old) = self.nodes.insert(path.to_owned(), node) {
            self.names -= path.len() + old.names();
        }
        if self.names > limits::NAMES {
            return Err(Fault::refused("the names of its files take too much memory"));
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(old) = self.nodes.remove(path) {
            self.names -= path.len() + old.names();
        }
    }

    /// Remove those beneath `path` that `which` says.
    fn remove_within(&mut self, path: &[u8], which: impl Fn(&Node) -> bool) {
        let within = self.within(path).filter(|(_, node)| which(node)).map(|(path, _)| path.to_owned());
        for path in within.collect::<Vec<_>>() {
            self.remove(&path);
        }
    }

    /// All that is there, folders before what is in them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// All that is beneath the folder `path`, at any depth.
    pub(super) fn within<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a Node)> + use<'a> {
        let (mut from, mut to) = (path.to_owned(), path.to_owned());
        // In the order of bytes `0` follows the slash, and nothing that does not begin with `path/` lies between them.
        from.push(b'/');
        to.push(b'0');
        let bounds = match path {
            b"" => (Bound::Unbounded, Bound::Unbounded),
            _ => (Bound::Excluded(from), Bound::Excluded(to)),
        };
        self.nodes.range(bounds).map(|(path, node)| (path.as_slice(), node))
    }

    /// The names in the folder at `path`, through symlinks, with their nodes.
    pub(super) fn list(&self, path: &str) -> Vec<(String, &Node)> {
        let Some(folder) = self.resolve(path.as_bytes()) else { return Vec::new() };
        let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let names = self.within(&folder).filter_map(|(path, node)| Some((path.get(skip..)?, node)));
        let children = names.filter(|(name, _)| !name.contains(&b'/'));
        children.map(|(name, node)| (String::from_utf8_lossy(name).into_owned(), node)).collect()
    }

    /// The file at `path` itself, where every folder above it is one.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.as_bytes())
    }

    /// The file at `path`, through symlinks.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.resolve(path.as_bytes())?)
    }

    /// Whether there is something at `path`, through symlinks.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The text of the file at `path`, through symlinks, if it is among those that are kept.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        match &self.find(path)?.content {
            Content::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    /// Where `path` leads to: symlinks are followed as if the image were the root, none leads out of it. None where it
    /// ends nowhere.
    pub(super) fn resolve(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut rest: Vec<Vec<u8>> = parts(path).rev().map(ToOwned::to_owned).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(part) = rest.pop() {
            if part == b".." {
                let above = name::split(&at).map(|(folder, _)| folder.to_owned());
                at = above.unwrap_or_default();
                continue;
            }
            let mut next = at.clone();
            if !next.is_empty() {
                next.push(b'/');
            }
            next.extend_from_slice(&part);
            match &self.nodes.get(&next)?.kind {
                Kind::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    rest.extend(parts(target).rev().map(ToOwned::to_owned));
                }
                Kind::Folder => at = next,
                _ if rest.is_empty() => at = next,
                _ => return None,
            }
        }
        Some(at)
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
    let ends = slashes.chain((!path.is_empty()).then_some(path.len()));
    ends.map(|end| &path[..end])
}
