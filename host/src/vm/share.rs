//! How much a guest has put into a folder that it may write to.
//!
//! A file there has a largest size, which the file server keeps ([`super::virtiofs::MAX_FILE`]). That there are not too
//! many of them is watched from outside: whoever has taken the guest over would fill the host's disk otherwise.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Most bytes that all files together take on the disk.
pub const MAX_BYTES: u64 = 256 << 20;

/// Most files and folders, open ones included. What is looked at has an end, too.
pub const MAX_ENTRIES: usize = 16 << 10;

/// Folders are not nested deeper: beyond some depth no path is long enough to look at them.
const MAX_DEPTH: usize = 32;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Watch `folder`, which the process `server` serves; ready when its files take more than `most` bytes, or are too many.
pub(super) async fn overfull(folder: PathBuf, server: Option<u32>, most: u64) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let folder = folder.clone();
        // It may have to wait for a slow disk.
        let look = tokio::task::spawn_blocking(move || Look::new(most).finds_too_much(&folder, server));
        if look.await.unwrap_or(true) {
            return;
        }
    }
}

/// What was seen.
struct Look {
    most: u64,
    entries: usize,
    bytes: u64,
    /// Device and number of what is counted: a file has many names, and is open many times.
    counted: HashSet<(u64, u64)>,
}

impl Look {
    fn new(most: u64) -> Self {
        Self { most, entries: 0, bytes: 0, counted: HashSet::new() }
    }

    fn finds_too_much(mut self, folder: &Path, server: Option<u32>) -> bool {
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // It is being removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // What does not let itself be looked at may hold anything.
                Err(_) => return true,
            };
            for entry in entries {
                // Not that of what a link points at.
                let seen = entry.and_then(|entry| Ok((entry.metadata()?, entry.path())));
                match seen {
                    Ok((data, _)) if self.count(&data) => return true,
                    Ok((data, _)) if data.is_dir() && depth == MAX_DEPTH => return true,
                    Ok((data, path)) if data.is_dir() => folders.push((path, depth + 1)),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(_) => return true,
                }
            }
        }
        server.is_some_and(|server| self.open_is_too_much(server))
    }

    /// The same with the files that have no name any more and are still open.
    fn open_is_too_much(&mut self, server: u32) -> bool {
        // It has ended, which is seen elsewhere.
        let Ok(open) = fs::read_dir(format!("/proc/{server}/fd")) else { return false };
        let mut files = open.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
        files.any(|data| data.is_file() && data.nlink() == 0 && self.count(&data))
    }

    /// Count a file or folder; tells whether it is one too many.
    fn count(&mut self, data: &Metadata) -> bool {
        self.entries += 1;
        if self.counted.insert((data.dev(), data.ino())) {
            // stat(2) counts in units of 512 bytes, whatever the blocks of the file system are.
            self.bytes = self.bytes.saturating_add(data.blocks().saturating_mul(512));
        }
        self.entries > MAX_ENTRIES || self.bytes > self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FallocateFlags, fallocate};
    use std::fs::File;
    use std::os::unix::fs::symlink;

    /// Small, because the folder for temporary files may be.
    const MOST: u64 = 1 << 20;

    fn is_too_much(folder: &Path) -> bool {
        Look::new(MOST).finds_too_much(folder, Some(std::process::id()))
    }

    /// A file that takes `bytes` on the disk.
    fn file(path: &Path, bytes: u64) -> File {
        let file = File::create(path).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, bytes.try_into().unwrap()).unwrap();
        file
    }

    #[test]
    fn many_files_are_too_much_together() {
        let dir = tempfile::tempdir().unwrap();
        let within = dir.path().join("a/b");
        fs::create_dir_all(&within).unwrap();
        file(&dir.path().join("one"), MOST / 2);
        // The same file, a link to more elsewhere, and a file that takes nothing.
        fs::hard_link(dir.path().join("one"), within.join("again")).unwrap();
        symlink("/usr", within.join("link")).unwrap();
        File::create(dir.path().join("sparse")).unwrap().set_len(MOST * 2).unwrap();
        assert!(!is_too_much(dir.path()));
        // There are file systems on which folders and links take no room.
        file(&within.join("two"), MOST / 2 + 4096);
        assert!(is_too_much(dir.path()));
    }

    #[test]
    fn files_without_names_count_while_they_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let open = file(&dir.path().join("gone"), MOST + 4096);
        fs::remove_file(dir.path().join("gone")).unwrap();
        assert!(is_too_much(dir.path()));
        drop(open);
        assert!(!is_too_much(dir.path()));
    }

    #[test]
    fn what_cannot_be_looked_at_to_its_end_is_too_much() {
        let (many, deep) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        File::create(many.path().join("0")).unwrap();
        for number in 1..MAX_ENTRIES {
            // Another name of the same file takes no room, and is looked at all the same.
            fs::hard_link(many.path().join("0"), many.path().join(number.to_string())).unwrap();
        }
        assert!(!is_too_much(many.path()));
        File::create(many.path().join("more")).unwrap();
        assert!(is_too_much(many.path()));
        let mut path = deep.path().to_owned();
        for _ in 0..MAX_DEPTH {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        assert!(!is_too_much(deep.path()));
        fs::create_dir(path.join("d")).unwrap();
        assert!(is_too_much(deep.path()));
    }

    #[tokio::test]
    async fn a_folder_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let watch = overfull(dir.path().to_owned(), None, MOST);
        let fill = async {
            tokio::time::sleep(2 * EVERY).await;
            file(&dir.path().join("much"), MOST + 4096);
            std::future::pending::<()>().await;
        };
        let watched = async {
            tokio::select! {
                () = watch => {}
                () = fill => {}
            }
        };
        tokio::time::timeout(60 * EVERY, watched).await.unwrap();
    }
}
