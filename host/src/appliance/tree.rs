//! A file tree in memory, as it will be written into a read-only image. File contents lie in spool files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Top-level folders that are links into `/usr` (the merged layout of Debian since bookworm).
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Why an entry cannot be in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The path leaves the tree, or is none.
    #[error("the path {0:?} is not allowed")]
    Path(String),
    /// The path leads through something that is no folder.
    #[error("{0:?} lies beneath something that is no folder")]
    Beneath(String),
    /// A hard link to something that is no file.
    #[error("{0:?} is a hard link to {1:?}, which is no file")]
    Link(String, String),
}

/// Owner, mode and time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
}

impl Meta {
    /// A folder or file of root's, from 1970.
    pub const fn of_root(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 0 }
    }
}

/// The bytes of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A part of a spool file.
    Spooled {
        /// The spool file.
        file: Arc<File>,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

impl Content {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Spooled { length, .. } => *length,
        }
    }

    /// A reader from the beginning.
    pub fn reader(&self) -> ContentReader {
        ContentReader { content: self.clone(), position: 0 }
    }

    /// All of it.
    ///
    /// # Errors
    /// When the spool file cannot be read.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.length() as usize);
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a [`Content`].
#[derive(Debug)]
pub struct ContentReader {
    content: Content,
    position: u64,
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.length() - self.position;
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match &self.content {
            Content::Bytes(bytes) => {
                let start = self.position as usize;
                buffer[..wanted].copy_from_slice(&bytes[start..start + wanted]);
                wanted
            }
            Content::Spooled { file, offset, .. } => file.read_at(&mut buffer[..wanted], offset + self.position)?,
        };
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File(Content),
    /// A symbolic link and what it points to.
    Link(PathBuf),
    /// The mark of an overlay that the file is removed: a character device of number 0.
    Whiteout,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Node {
    /// Owner, mode and time.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// The tree: paths without a leading slash, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    /// Add an entry. A folder that is there stays as it is; anything else is replaced. Folders above it that are missing
    /// are made.
    ///
    /// # Errors
    /// When the path leads through something that is no folder.
    pub fn insert(&mut self, path: &Path, node: Node) -> Result<(), TreeError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.make_parents(path)?;
        let is_folder = |node: &Node| matches!(node.kind, Kind::Folder);
        match self.0.get(path) {
            Some(there) if is_folder(there) && is_folder(&node) => {}
            // Packages that were built before /usr was merged bring these as folders.
            Some(there) if matches!(there.kind, Kind::Link(_)) && is_folder(&node) && is_merged(path) => {}
            Some(there) if is_folder(there) => return Err(TreeError::Beneath(path.display().to_string())),
            _ => {
                self.0.insert(path.to_owned(), node);
            }
        }
        Ok(())
    }

    /// Add a hard link to a file that is there.
    ///
    /// # Errors
    /// When there is no such file, or the path leads through something that is no folder.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<(), TreeError> {
        match self.0.get(target) {
            Some(node) if matches!(node.kind, Kind::File(_)) => self.insert(path, node.clone()),
            _ => Err(TreeError::Link(path.display().to_string(), target.display().to_string())),
        }
    }

    fn make_parents(&mut self, path: &Path) -> Result<(), TreeError> {
        let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        let mut missing = Vec::new();
        for above in above {
            match self.0.get(above).map(|node| &node.kind) {
                Some(Kind::Folder) => break,
                Some(_) => return Err(TreeError::Beneath(path.display().to_string())),
                None => missing.push(above.to_owned()),
            }
        }
        let folder = Node { meta: Meta::of_root(0o755), kind: Kind::Folder };
        self.0.extend(missing.into_iter().map(|path| (path, folder.clone())));
        Ok(())
    }

    /// The entry of a path.
    #[cfg(test)]
    pub fn get(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.0.get(path.as_ref())
    }

    /// All entries; a folder comes before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let length = |node: &Node| if let Kind::File(content) = &node.kind { content.length() } else { 0 };
        self.0.values().map(length).sum()
    }
}

fn is_merged(path: &Path) -> bool {
    path.to_str().is_some_and(|path| MERGED.contains(&path))
}

/// A path of an archive as one of the tree: without leading `./` and `/`, with the merged folders resolved.
///
/// # Errors
/// When it has a `..`, or is longer than Linux takes.
pub fn inside(path: &Path) -> Result<PathBuf, TreeError> {
    let refused = || TreeError::Path(path.display().to_string());
    if path.as_os_str().len() > nix::libc::PATH_MAX as usize {
        return Err(refused());
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > 255 => return Err(refused()),
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    let mut components = clean.components();
    let first = components.next();
    let rest = components.as_path();
    match first {
        Some(Component::Normal(name)) if !rest.as_os_str().is_empty() && is_merged(Path::new(name)) => {
            Ok(Path::new("usr").join(name).join(rest))
        }
        _ => Ok(clean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Node {
        Node { meta: Meta::of_root(0o644), kind: Kind::File(Content::Bytes(text.as_bytes().into())) }
    }

    fn link(target: &str) -> Node {
        Node { meta: Meta::of_root(0o777), kind: Kind::Link(target.into()) }
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside(Path::new("./usr/bin/ls")).unwrap(), Path::new("usr/bin/ls"));
        assert_eq!(inside(Path::new("/etc/passwd")).unwrap(), Path::new("etc/passwd"));
        assert_eq!(inside(Path::new("./")).unwrap(), Path::new(""));
        assert_eq!(inside(Path::new("./lib64/ld.so")).unwrap(), Path::new("usr/lib64/ld.so"));
        assert_eq!(inside(Path::new("./bin")).unwrap(), Path::new("bin"));
        for bad in ["../x", "usr/../../x", &"x/".repeat(3000), &"x".repeat(256)] {
            assert!(matches!(inside(Path::new(bad)), Err(TreeError::Path(_))), "{bad}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let mut tree = Tree::default();
        tree.insert(Path::new("bin"), link("usr/bin")).unwrap();
        tree.insert(Path::new("evil"), link("/etc")).unwrap();
        assert!(matches!(tree.insert(Path::new("evil/passwd"), file("x")), Err(TreeError::Beneath(_))));
        assert!(matches!(tree.link(Path::new("a"), Path::new("evil")), Err(TreeError::Link(..))));
        let folder = Node { meta: Meta::of_root(0o755), kind: Kind::Folder };
        tree.insert(Path::new("bin"), folder).unwrap();
        assert!(matches!(tree.get("bin").unwrap().kind, Kind::Link(_)));
    }

    #[test]
    fn folders_above_are_made_and_keep_their_mode() {
        let mut tree = Tree::default();
        tree.insert(Path::new("a/b/c"), file("x")).unwrap();
        let folder = |mode| Node { meta: Meta::of_root(mode), kind: Kind::Folder };
        tree.insert(Path::new("a/t"), folder(0o1777)).unwrap();
        tree.insert(Path::new("a/t"), folder(0o755)).unwrap();
        assert_eq!(tree.get("a/t").unwrap().meta.mode, 0o1777);
        tree.link(Path::new("a/d"), Path::new("a/b/c")).unwrap();
        assert_eq!(tree.bytes(), 2);
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/d", "a/t"]);
    }

    #[test]
    fn a_spooled_content_is_read_from_its_place() {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"onetwothree").unwrap();
        let content = Content::Spooled { file: Arc::new(file), offset: 3, length: 3 };
        assert_eq!(content.read().unwrap(), b"two");
        let Content::Spooled { file, .. } = content else { unreachable!() };
        let beyond = Content::Spooled { file, offset: 9, length: 9 };
        assert_eq!(beyond.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
