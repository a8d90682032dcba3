//! `copy`: copy files or folders of the recipe's folder.

use super::{Site, accounts, work, wrong};
use crate::context::Context;
use crate::report::Explain;
use crate::tree::{Attributes, Tree};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use particle_vm_protocol::stage::{Copy, MAX_DEPTH};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes that are copied between two looks at the deadline.
const STEP: usize = 1 << 20;

/// What is the same for all that is copied.
struct Copier<'a> {
    context: &'a Context,
    tree: &'a Tree,
    uid: u32,
    gid: u32,
    /// Permissions of files, when they are not those of the source.
    mode: Option<u32>,
    /// The paths of the files and links that were written.
    written: Vec<String>,
    /// The folders that were made and hold nothing.
    empty: Vec<String>,
}

/// Copy the source.
pub(super) fn perform(site: &mut Site<'_>, options: &Copy) -> Result<(), Failure> {
    let tree = site.tree()?;
    let (uid, gid) = accounts::owner(tree, &options.owner, &options.group)?;
    let mode = options.mode.as_deref().map(accounts::mode).transpose()?;
    let mut copier = Copier { context: site.context, tree, uid, gid, mode, written: Vec::new(), empty: Vec::new() };
    let source = work::open(&options.source, OFlag::O_RDONLY)?;
    let destination = &options.destination;
    match kind(&source)? {
        SFlag::S_IFDIR => copier.folder(source, destination.trim_end_matches('/'), 0)?,
        SFlag::S_IFREG => {
            let name = options.source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let into = destination.ends_with('/') || tree.is_folder(destination);
            let destination =
                if into { format!("{}/{name}", destination.trim_end_matches('/')) } else { destination.clone() };
            copier.file(source, &destination)?;
        }
        _ => return Err(wrong(format!("`{}` is neither a file nor a folder", options.source))),
    }
    let Copier { written, empty, .. } = copier;
    site.context.output(format!("{} files", written.len()));
    site.left.own.extend(written.into_iter().chain(empty));
    Ok(())
}

impl Copier<'_> {
    /// Copy what a folder contains.
    fn folder(&mut self, source: OwnedFd, destination: &str, depth: usize) -> Result<(), Failure> {
        if depth == MAX_DEPTH {
            return Err(wrong(format!("`{destination}` lies more than {MAX_DEPTH} folders deep")));
        }
        let explain = || format!("cannot read the folder that becomes `{destination}`");
        if !destination.is_empty() {
            let mode = fstat(&source).explain(FailureKind::Input, explain)?.st_mode & 0o7777;
            self.tree.make_folder(destination, Attributes { mode, uid: self.uid, gid: self.gid })?;
        }
        let mut folder = Dir::from_fd(source).explain(FailureKind::Input, explain)?;
        let entries: Result<Vec<_>, Errno> = folder.iter().collect();
        let mut entries = entries.explain(FailureKind::Input, explain)?;
        entries.sort_by(|left, right| left.file_name().cmp(right.file_name()));
        // With its `.` and `..`.
        if entries.len() <= 2 {
            self.empty.push(destination.to_owned());
        }
        for entry in entries {
            self.context.check()?;
            let Ok(name) = entry.file_name().to_str() else {
                return Err(wrong(format!("a name in the folder that becomes `{destination}` is not UTF-8")));
            };
            if !matches!(name, "." | "..") {
                self.entry(&folder, name, entry.file_type(), &format!("{destination}/{name}"), depth)?;
            }
        }
        Ok(())
    }

    /// Copy one entry of a folder; links are copied as links, wherever they lead.
    fn entry(
        &mut self,
        folder: &Dir,
        name: &str,
        kind: Option<Type>,
        destination: &str,
        depth: usize,
    ) -> Result<(), Failure> {
        let explain = || format!("cannot read the source of `{destination}`");
        let open = |flags: OFlag| {
            let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            openat(folder.as_fd(), name, flags, Mode::empty()).explain(FailureKind::Input, explain)
        };
        // A file system need not tell the type.
        let kind = match kind {
            Some(kind) => kind,
            None => {
                let stat = fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW);
                type_of(stat.explain(FailureKind::Input, explain)?.st_mode)
            }
        };
        match kind {
            Type::Directory => self.folder(open(OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, destination, depth + 1),
            Type::File => self.file(open(OFlag::O_RDONLY)?, destination),
            Type::Symlink => {
                let target = readlinkat(folder.as_fd(), name).explain(FailureKind::Input, explain)?;
                let Some(target) = target.to_str() else {
                    return Err(wrong(format!("the target of the link `{destination}` is not UTF-8")));
                };
                self.tree.symlink(target, destination)?;
                self.tree.give(destination, self.uid, self.gid)?;
                self.written.push(destination.to_owned());
                Ok(())
            }
            _ => Err(wrong(format!("the source of `{destination}` is neither a file, a folder nor a link"))),
        }
    }

    fn file(&mut self, source: OwnedFd, destination: &str) -> Result<(), Failure> {
        let mut source = File::from(source);
        let explain = || format!("cannot copy to `{destination}` in the image");
        let stat = fstat(&source).explain(FailureKind::Input, explain)?;
        // What a folder tells of its entries may have changed.
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(wrong(format!("the source of `{destination}` is neither a file, a folder nor a link")));
        }
        let mode = self.mode.unwrap_or(stat.st_mode & 0o7777);
        let mut file = self.tree.create(destination, Attributes { mode, uid: self.uid, gid: self.gid })?;
        let mut buffer = vec![0; STEP];
        while step(&mut source, &mut file, &mut buffer).explain(FailureKind::Input, explain)? {
            self.context.check()?;
        }
        self.written.push(destination.to_owned());
        Ok(())
    }
}

/// Copy as much as `buffer` holds, zeros as a hole. False at the end.
fn step(from: &mut File, to: &mut File, buffer: &mut [u8]) -> io::Result<bool> {
    let read = match from.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        read => read?,
    };
    let bytes = &buffer[..read];
    if read == 0 {
        // The file may end in a hole.
        let end = to.stream_position()?;
        to.set_len(end)?;
    } else if bytes.iter().all(|byte| *byte == 0) {
        to.seek(SeekFrom::Current(i64::try_from(read).map_err(io::Error::other)?))?;
    } else {
        to.write_all(bytes)?;
    }
    Ok(read > 0)
}

fn kind(fd: &OwnedFd) -> Result<SFlag, Failure> {
    let stat = fstat(fd).explain(FailureKind::Input, || "cannot read the source")?;
    Ok(SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT))
}

fn type_of(mode: libc::mode_t) -> Type {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => Type::Directory,
        libc::S_IFREG => Type::File,
        libc::S_IFLNK => Type::Symlink,
        // Whatever it is, it is not copied.
        _ => Type::Fifo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    #[test]
    fn a_folder_without_anything_is_the_recipes_too() {
        let place = std::env::temp_dir().join(format!("particle-vm-copy-{}-folders", std::process::id()));
        for folder in ["tree", "source/var/tmp/empty", "source/var/tmp/full"] {
            std::fs::create_dir_all(place.join(folder)).unwrap();
        }
        std::fs::write(place.join("source/var/tmp/full/file"), "x").unwrap();
        let tree = Tree::open(&place.join("tree")).unwrap();
        let context = Context::new(Arc::default(), Arc::new(Cancel::new().unwrap()), Arc::default());
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let (written, empty) = (Vec::new(), Vec::new());
        let mut copier = Copier { context: &context, tree: &tree, uid, gid, mode: None, written, empty };
        copier.folder(File::open(place.join("source")).unwrap().into(), "", 0).unwrap();
        assert_eq!((copier.written, copier.empty), (vec!["/var/tmp/full/file".into()], vec!["/var/tmp/empty".into()]));
        std::fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn holes_stay_holes() {
        let path = |name: &str| std::env::temp_dir().join(format!("particle-vm-copy-{}-{name}", std::process::id()));
        let mut content = vec![0; 8 * STEP];
        content[3 * STEP] = 1;
        std::fs::write(path("from"), &content).unwrap();
        let (mut from, mut to) = (File::open(path("from")).unwrap(), File::create(path("to")).unwrap());
        let mut buffer = vec![0; STEP];
        while step(&mut from, &mut to, &mut buffer).unwrap() {}
        assert!(std::fs::read(path("to")).unwrap() == content);
        assert!(to.metadata().unwrap().blocks() * 512 <= 2 * STEP as u64);
        std::fs::remove_file(path("from")).unwrap();
        std::fs::remove_file(path("to")).unwrap();
    }
}
