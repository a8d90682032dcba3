//! Changing a tree.

use super::{Tree, TreeError, cannot, split, through};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;

/// Owner and permissions of something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Attributes {
    /// Permissions `mode`, owned by root.
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// Missing folders on the way to something new.
const FOLDER: Attributes = Attributes::root(0o755);

impl Tree {
    /// Write a file of root's, in place of what is there. Missing folders are made.
    ///
    /// # Errors
    /// When a folder is in its place, or the disk is full.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<(), TreeError> {
        let mut file = self.create(path, Attributes::root(mode))?;
        file.write_all(content.as_ref()).map_err(cannot("write", path))
    }

    /// A new empty file, in place of what is there. A link is replaced and not followed: what a recipe calls
    /// `/etc/resolv.conf` is to be that file. Missing folders are made.
    ///
    /// # Errors
    /// When a folder is in its place.
    pub fn create(&self, path: &str, attributes: Attributes) -> Result<File, TreeError> {
        let (folder, name) = self.folder_of(path)?;
        let create = || {
            remove_entry(&folder, name)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(&folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
            apply(&file, attributes)?;
            Ok::<_, Errno>(File::from(file))
        };
        create().map_err(cannot("write", path))
    }

    /// Make a symbolic link, in place of what is there. Missing folders are made.
    ///
    /// # Errors
    /// When a folder is in its place.
    pub fn symlink(&self, target: &str, path: &str) -> Result<(), TreeError> {
        let (folder, name) = self.folder_of(path)?;
        remove_entry(&folder, name).and_then(|()| symlinkat(target, &folder, name)).map_err(cannot("link", path))
    }

    /// Make sure that there is a folder at `path`. A new one gets `attributes`, missing ones above it belong to root
    /// with mode 0755; one that is there stays as it is.
    ///
    /// # Errors
    /// When something else is in its place.
    pub fn make_folder(&self, path: &str, attributes: Attributes) -> Result<(), TreeError> {
        self.folder(path, attributes).map(drop)
    }

    /// Give what is at `path` (a link itself, not its target) to someone.
    ///
    /// # Errors
    /// When it is missing.
    pub fn give(&self, path: &str, uid: u32, gid: u32) -> Result<(), TreeError> {
        let give = || {
            let (folder, name) = self.parent(path)?;
            fchownat(&folder, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_SYMLINK_NOFOLLOW)
        };
        give().map_err(cannot("change the owner of", path))
    }

    /// Change the permissions of a file, after links.
    ///
    /// # Errors
    /// When it is missing.
    pub fn set_mode(&self, path: &str, mode: u32) -> Result<(), TreeError> {
        let file = self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY);
        file.and_then(|file| fchmod(&file, Mode::from_bits_truncate(mode))).map_err(cannot("change the mode of", path))
    }

    /// Give something another place, where nothing is yet. Missing folders on the way there are made. A link is moved, and
    /// not what it leads to.
    ///
    /// # Errors
    /// When it is missing, or something is in its new place.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), TreeError> {
        let (folder, name) = self.folder_of(to)?;
        let rename = || {
            let (old_folder, old_name) = self.parent(from)?;
            renameat2(&old_folder, old_name, &folder, name, RenameFlags::RENAME_NOREPLACE)
        };
        rename().map_err(cannot("move", from))
    }

    /// Remove a file or a link. It may be missing.
    ///
    /// # Errors
    /// When it is a folder.
    pub fn remove(&self, path: &str) -> Result<(), TreeError> {
        match self.parent(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(error) => Err(cannot("remove", path)(error)),
            Ok((folder, name)) => remove_entry(&folder, name).map_err(cannot("remove", path)),
        }
    }

    /// Remove an empty folder.
    ///
    /// # Errors
    /// When it is missing, or there is something in it.
    pub fn remove_folder(&self, path: &str) -> Result<(), TreeError> {
        let remove = || {
            let (folder, name) = self.parent(path)?;
            unlinkat(&folder, name, UnlinkatFlags::RemoveDir)
        };
        remove().map_err(cannot("remove", path))
    }

    /// Remove everything in a folder but what is to be `kept` by its name, and leave the folder. It may be missing.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn clear(&self, path: &str, kept: impl Fn(&str) -> bool) -> Result<(), TreeError> {
        let folder = match self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => return Ok(()),
            folder => folder.map_err(cannot("clear", path))?,
        };
        let clear = || {
            for entry in fs::read_dir(through(&folder))? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(&kept) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok::<_, std::io::Error>(())
        };
        clear().map_err(cannot("clear", path))
    }

    /// The folder that holds `path`, made when it is missing, and the name in it.
    fn folder_of<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), TreeError> {
        let (folder, name) = split(path).map_err(cannot("write", path))?;
        Ok((self.folder(folder, FOLDER)?, name))
    }

    /// The folder at `path`, made with the missing ones above it.
    fn folder(&self, path: &str, attributes: Attributes) -> Result<OwnedFd, TreeError> {
        let open = || self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        match open() {
            Err(Errno::ENOENT) => {}
            folder => return folder.map_err(cannot("use the folder", path)),
        }
        let (above, name) = split(path).map_err(cannot("make the folder", path))?;
        let above = self.folder(above, FOLDER)?;
        // A link that leads nowhere is in its place, if it exists.
        let made = mkdirat(&above, name, Mode::S_IRWXU).and_then(|()| open());
        let folder = made.map_err(cannot("make the folder", path))?;
        apply(&folder, attributes).map_err(cannot("make the folder", path))?;
        Ok(folder)
    }
}

fn apply(fd: &OwnedFd, attributes: Attributes) -> Result<(), Errno> {
    // The owner first: a change of owner takes the setuid bit off.
    fchown(fd, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    fchmod(fd, Mode::from_bits_truncate(attributes.mode))
}

/// Remove `name`, which may be missing.
fn remove_entry(folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// A folder with a tree and something beside it that must stay as it is.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> (Self, Tree) {
            let path = std::env::temp_dir().join(format!("particle-vm-tree-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("tree")).unwrap();
            fs::create_dir(path.join("outside")).unwrap();
            fs::write(path.join("outside/secret"), "secret").unwrap();
            let tree = Tree::open(&path.join("tree")).unwrap();
            (Self(path), tree)
        }

        fn secret(&self) -> String {
            fs::read_to_string(self.0.join("outside/secret")).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mine(mode: u32) -> Attributes {
        Attributes { mode, uid: Uid::current().as_raw(), gid: Gid::current().as_raw() }
    }

    fn write(tree: &Tree, path: &str, content: &str) -> Result<(), TreeError> {
        if let Ok((folder, _)) = split(path) {
            // As whoever runs the tests, who need not be root.
            let mut made = String::new();
            for part in folder.split('/').filter(|part| !part.is_empty()) {
                made = format!("{made}/{part}");
                tree.make_folder(&made, mine(0o755))?;
            }
        }
        tree.create(path, mine(0o640))?.write_all(content.as_bytes()).map_err(cannot("write", path))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (place, tree) = Place::new("roundtrip");
        write(&tree, "/etc/a/b", "text").unwrap();
        assert_eq!(tree.read_text("/etc/a/b").unwrap(), "text");
        assert_eq!(tree.read_text("/etc/a/missing").unwrap(), "");
        let mode = fs::metadata(place.0.join("tree/etc/a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(tree.names("/etc").unwrap(), ["a"]);
        assert!(tree.is_folder("/etc/a") && !tree.is_file("/etc/a") && tree.is_file("etc/a/b"));
    }

    #[test]
    fn a_folder_that_is_a_link_out_of_the_tree_stays_inside() {
        let (place, tree) = Place::new("folder");
        symlink(place.0.join("outside"), place.0.join("tree/etc")).unwrap();
        let error = write(&tree, "/etc/secret", "changed").unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::EEXIST), "{error}: {}", error.source);
        symlink("../../../../outside", place.0.join("tree/up")).unwrap();
        assert!(tree.read("/up/secret").is_err());
        assert!(tree.clear("/up", |_| false).is_ok());
        assert_eq!(place.secret(), "secret");
    }

    #[test]
    fn a_file_that_is_a_link_is_replaced() {
        let (place, tree) = Place::new("file");
        symlink(place.0.join("outside/secret"), place.0.join("tree/file")).unwrap();
        assert!(tree.exists("/file") && !tree.is_file("/file"));
        write(&tree, "/file", "new").unwrap();
        assert_eq!(tree.read_text("/file").unwrap(), "new");
        assert_eq!(place.secret(), "secret");
    }

    #[test]
    fn clearing_follows_no_link() {
        let (place, tree) = Place::new("clear");
        write(&tree, "/tmp/a/b", "x").unwrap();
        write(&tree, "/tmp/kept/b", "x").unwrap();
        symlink(place.0.join("outside"), place.0.join("tree/tmp/out")).unwrap();
        tree.clear("/tmp", |name| name == "kept").unwrap();
        assert_eq!(tree.names("/tmp").unwrap(), ["kept"]);
        assert_eq!(place.secret(), "secret");
        tree.clear("/missing", |_| false).unwrap();
        tree.remove("/missing/file").unwrap();
    }

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        let (_place, tree) = Place::new("names");
        for path in ["/", "/a/..", "."] {
            assert!(tree.write(path, "", 0o644).is_err(), "{path}");
        }
    }
}
