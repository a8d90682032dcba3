//! The appliances in the cache: the lock, the index, the list.

use super::definition;
use super::error::ApplianceError;
use super::manifest::{self, Manifest};
use crate::dirs::Dirs;
use crate::event::Events;
use crate::source::digest::is_hex;
use crate::workspace::Workspace;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a process that waits for another one's build looks again. A blocking lock could not be given up.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The lock that whoever changes the cache of appliances holds.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

/// Take the lock; wait for whoever holds it.
///
/// # Errors
/// When the cache cannot be written to.
pub async fn lock(dirs: &Dirs, events: &Events) -> Result<Lock, ApplianceError> {
    let folder = dirs.appliances();
    fs::create_dir_all(&folder).map_err(ApplianceError::io("create", &folder))?;
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ApplianceError::io("open", &path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => {
                // For those who wait. Who holds the lock writes; what was there is of no interest any more.
                let note = file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
                if let Err(error) = note {
                    tracing::debug!("cannot write to {}: {error}", path.display());
                }
                return Ok(Lock(file));
            }
            Err(TryLockError::Error(error)) => return Err(ApplianceError::io("lock", &path)(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            let holder = fs::read_to_string(&path).ok().and_then(|text| text.parse::<u32>().ok());
            let holder = holder.map(|number| format!(" (process {number})")).unwrap_or_default();
            events.warn(format!(
                "another particle-vm{holder} builds, imports or removes an appliance: this one goes on when that has ended"
            ));
            told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The file of the index that tells which appliance was built of the embedded definition: from the mirror that was named
/// or, without one, from any.
fn index_entry(dirs: &Dirs, mirror: Option<&str>) -> PathBuf {
    let mut name = definition::digest();
    if let Some(mirror) = mirror {
        name += "-";
        name += &hex::encode(Sha256::digest(mirror))[..16];
    }
    dirs.appliances().join("index").join(name)
}

/// The digest that the index has.
pub fn indexed(dirs: &Dirs, mirror: Option<&str>) -> Option<String> {
    let digest = fs::read_to_string(index_entry(dirs, mirror)).ok()?;
    is_hex(&digest).then_some(digest)
}

/// Enter the appliance into the index, with the lock held.
///
/// # Errors
/// When the cache cannot be written to.
pub fn enter(dirs: &Dirs, mirror: Option<&str>, digest: &str) -> Result<(), ApplianceError> {
    let write = |path: &PathBuf| -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        // Whoever writes here holds the lock, so that what a killed process left is written over.
        let new = folder.join("new");
        fs::write(&new, digest)?;
        fs::rename(new, path)
    };
    let general = index_entry(dirs, None);
    write(&general).map_err(ApplianceError::io("write", &general))?;
    if mirror.is_some() {
        let path = index_entry(dirs, mirror);
        write(&path).map_err(ApplianceError::io("write", &path))?;
    }
    Ok(())
}

/// Whether the index has the appliance: it was built here, or imported for all builds.
pub fn is_entered(dirs: &Dirs, digest: &str) -> bool {
    let entries = fs::read_dir(dirs.appliances().join("index")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read(entry.path()).ok()).any(|text| text == digest.as_bytes())
}

/// The folder of an appliance.
pub fn folder(dirs: &Dirs, digest: &str) -> PathBuf {
    dirs.appliances().join(digest)
}

/// An appliance in the cache.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its digest.
    pub digest: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether builds use it now.
    pub current: bool,
    /// Bytes on disk.
    pub size: u64,
    /// Its manifest; none for one that this program cannot use (an older or newer format, or damaged).
    pub manifest: Option<Manifest>,
}

/// The appliances in the cache, by digest. Blocking.
///
/// # Errors
/// When the cache cannot be read.
pub fn list(dirs: &Dirs) -> Result<Vec<Listed>, ApplianceError> {
    let parent = dirs.appliances();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ApplianceError::io("read", parent)(error)),
    };
    let current = indexed(dirs, None);
    let mut list = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ApplianceError::io("read", &parent))?;
        let Some(digest) = entry.file_name().to_str().filter(|name| is_hex(name)).map(ToOwned::to_owned) else {
            continue;
        };
        let folder = entry.path();
        let files = fs::read_dir(&folder).map_err(ApplianceError::io("read", &folder))?;
        let size = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
        let current = current.as_ref() == Some(&digest);
        list.push(Listed { manifest: Manifest::read(&folder).ok(), digest, folder, current, size });
    }
    list.sort_by(|a, b| a.digest.cmp(&b.digest));
    Ok(list)
}

/// Least digits that name an appliance: nothing at all would name any.
const LEAST_DIGITS: usize = 4;

/// The digest in the cache that begins with `start`.
///
/// # Errors
/// When there is none, or more than one, or `start` is too short to name one.
pub fn find(dirs: &Dirs, start: &str) -> Result<String, ApplianceError> {
    if start.len() < LEAST_DIGITS {
        return Err(ApplianceError::TooShort { digest: start.to_owned(), least: LEAST_DIGITS });
    }
    let mut found = list(dirs)?.into_iter().map(|listed| listed.digest).filter(|digest| digest.starts_with(start));
    match (found.next(), found.next()) {
        (Some(digest), None) => Ok(digest),
        (None, _) => Err(ApplianceError::Unknown { digest: start.to_owned() }),
        (Some(_), Some(_)) => Err(ApplianceError::Ambiguous { digest: start.to_owned() }),
    }
}

/// That somebody uses the appliance in a folder.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl InUse {
    /// Say that the appliance in `folder` is used until the handle goes.
    ///
    /// # Errors
    /// When there is none, or it is being removed.
    pub fn mark(folder: &Path) -> Result<Self, ApplianceError> {
        let path = folder.join(manifest::FILE);
        let file = File::open(&path).map_err(ApplianceError::io("open", &path))?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(ApplianceError::io("open", path)(io::ErrorKind::NotFound.into())),
            // A file system that has no locks has no other use for them either.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self(file)),
        }
    }
}

/// Remove an appliance that nobody uses.
///
/// # Errors
/// When a VM is being started with it, or it cannot be removed.
pub fn remove(dirs: &Dirs, digest: &str) -> Result<(), ApplianceError> {
    let path = folder(dirs, digest).join(manifest::FILE);
    // One without a manifest can be used by nobody.
    let file = File::options().write(true).open(&path);
    if file.as_ref().is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
        return Err(ApplianceError::InUse { digest: digest.to_owned() });
    }
    bury(dirs, digest)
}

/// Remove an appliance whether it is used or not. It goes under another name first, so that a build never sees half of
/// it.
///
/// # Errors
/// When it cannot be removed.
pub fn bury(dirs: &Dirs, digest: &str) -> Result<(), ApplianceError> {
    let folder = folder(dirs, digest);
    let grave = Workspace::new(&dirs.appliances()).map_err(ApplianceError::Workspace)?;
    fs::rename(&folder, grave.path().join("removed")).map_err(ApplianceError::io("remove", &folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_knows_the_mirror_that_was_named() {
        let cache = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(cache.path());
        assert_eq!(indexed(&dirs, None), None);
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        enter(&dirs, None, &one).unwrap();
        assert_eq!(indexed(&dirs, None), Some(one));
        assert_eq!(indexed(&dirs, Some("http://m")), None);
        enter(&dirs, Some("http://m"), &two).unwrap();
        assert_eq!(indexed(&dirs, Some("http://m")), Some(two.clone()));
        assert_eq!(indexed(&dirs, None), Some(two));
        fs::write(index_entry(&dirs, None), "../../x").unwrap();
        assert_eq!(indexed(&dirs, None), None);
    }

    #[test]
    fn appliances_are_found_by_the_beginning_of_their_digest() {
        let cache = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(cache.path());
        assert!(list(&dirs).unwrap().is_empty());
        let other = format!("aaaab{}", "0".repeat(59));
        for digest in ["a".repeat(64), other.clone()] {
            fs::create_dir_all(folder(&dirs, &digest)).unwrap();
        }
        fs::create_dir_all(dirs.appliances().join(".particle-vm-x")).unwrap();
        assert_eq!(list(&dirs).unwrap().len(), 2);
        assert_eq!(find(&dirs, "aaaab").unwrap(), other);
        assert!(matches!(find(&dirs, "aaaa"), Err(ApplianceError::Ambiguous { .. })));
        assert!(matches!(find(&dirs, "cccc"), Err(ApplianceError::Unknown { .. })));
        for short in ["", "aaa"] {
            assert!(matches!(find(&dirs, short), Err(ApplianceError::TooShort { .. })), "{short}");
        }
        remove(&dirs, &"a".repeat(64)).unwrap();
        assert_eq!(list(&dirs).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_lock_is_waited_for() {
        let cache = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(cache.path());
        let (events, mut heard) = Events::channel();
        let held = lock(&dirs, &events).await.unwrap();
        let second = lock(&dirs, &events);
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
        let Ok(crate::event::Event::Warning { message }) = heard.try_recv() else { panic!("no warning") };
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        drop(held);
        second.await.unwrap();
        assert!(heard.try_recv().is_err());
    }
}
