//! Giving outputs their names.

use super::{CHECKSUMS, LOG, MANIFEST, Others, OutputFolder};
use crate::clean;
use crate::output::layout::{Layout, folders};
use crate::output::manifest::{Manifest, Output, Owner};
use crate::output::{Format, OutputError};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

impl OutputFolder {
    /// Give every file its name, under a lock so that two builds do not mix their files.
    pub(super) async fn put_in_place(&self, outputs: &[Output]) -> Result<(), OutputError> {
        // The images were made by others, the target disk for its owner's eyes only; the manifest's mode is what the
        // user's umask gives a new file.
        let manifest = self.made(MANIFEST);
        let mode =
            std::fs::metadata(&manifest).map_err(|source| OutputError::Write { path: manifest, source })?.permissions();
        for output in outputs.iter().filter(|output| output.format.folder_mark().is_none()) {
            let path = self.made(&output.file);
            std::fs::set_permissions(&path, mode.clone()).map_err(|source| OutputError::Write { path, source })?;
        }
        let _lock = self.lock().await?;
        let images: Vec<_> = outputs.iter().map(|output| (output.file.as_str(), Some(output.format))).collect();
        let texts = [LOG, MANIFEST, CHECKSUMS].map(|file| (file, None));
        for (file, format) in images.iter().chain(&texts) {
            not_in_the_way(&self.dir.join(file), *format)?;
        }
        // Another build may have come first.
        self.not_of_another()?;
        let inner = folders(&self.dir, images.iter().map(|(file, _)| *file));
        let failed = |path: &Path, source| OutputError::Publish { path: path.to_owned(), source };
        inner.iter().try_for_each(|path| std::fs::create_dir_all(path).map_err(|source| failed(path, source)))?;
        images.iter().try_for_each(|(file, format)| self.rename(file, *format))?;
        // Before the manifest that tells of them is replaced.
        self.remove_stale(&images.iter().map(|(file, _)| *file).collect::<Vec<_>>())?;
        texts.iter().try_for_each(|(file, format)| self.rename(file, *format))?;
        // The renames themselves must survive a power cut.
        inner
            .iter()
            .chain([&self.dir])
            .try_for_each(|path| File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| failed(path, source)))
    }

    /// One manifest, one list of checksums and one log tell of all that lies in a folder: those of another recipe are not
    /// replaced in silence.
    pub(super) fn not_of_another(&self) -> Result<(), OutputError> {
        match (self.others, Manifest::owner(&self.dir)) {
            (Others::Go, _) | (_, Owner::Nobody) => Ok(()),
            (_, Owner::Recipe(name)) if name == self.name => Ok(()),
            (_, Owner::Recipe(name)) => {
                let name = clean::line(&name).into_owned();
                Err(OutputError::OfAnother { dir: self.dir.clone(), name })
            }
            (_, Owner::Stranger) => Err(OutputError::Stranger { path: self.dir.join(MANIFEST) }),
        }
    }

    /// Put one output into its place. A folder changes places with the one of an earlier build, which goes with the
    /// workspace.
    fn rename(&self, file: &str, format: Option<Format>) -> Result<(), OutputError> {
        let (made, path) = (self.made(file), self.dir.join(file));
        let folder = format.is_some_and(|format| format.folder_mark().is_some());
        let renamed = if folder && path.is_dir() { exchange(&made, &path) } else { std::fs::rename(&made, &path) };
        renamed.map_err(|source| OutputError::Publish { path, source })
    }

    /// Remove the images that an earlier build of this recipe has made and this one has not.
    pub(super) fn remove_stale(&self, made: &[&str]) -> Result<(), OutputError> {
        let Some(earlier) = Manifest::read(&self.dir).filter(|earlier| earlier.recipe.name == self.name) else {
            return Ok(());
        };
        for output in earlier.outputs {
            // No other file of the folder, whatever the manifest says.
            let ours = Layout::ALL.iter().any(|layout| output.file == layout.place(output.format, &self.name));
            if !ours || made.contains(&output.file.as_str()) {
                continue;
            }
            let path = self.dir.join(output.file);
            let removed = match output.format.folder_mark() {
                // Into the workspace by one rename, and gone with that.
                Some(mark) if is_marked(&path, mark) => {
                    std::fs::rename(&path, self.made(&format!(".stale-{}", output.format)))
                }
                Some(_) => continue,
                None => std::fs::remove_file(&path),
            };
            match removed {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(OutputError::Stale { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lock the folder itself, which leaves no lock file lying about. Some network file systems cannot lock a folder;
    /// each rename is whole there too, only their order is not kept against another build's.
    async fn lock(&self) -> Result<File, OutputError> {
        let failed = |source| OutputError::Lock { dir: self.dir.clone(), source };
        let dir = File::open(&self.dir).map_err(failed)?;
        loop {
            match dir.try_lock() {
                Ok(()) => return Ok(dir),
                // The holder only renames files: this takes milliseconds. Waiting here rather than in flock(2) can be
                // cancelled.
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(TryLockError::Error(error)) if no_locks(&error) => return Ok(dir),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

/// Let two folders change their names. Where the file system cannot do that at once, the old one goes first.
fn exchange(made: &Path, path: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, made, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            let aside = made.with_extension("old");
            std::fs::rename(path, aside)?;
            std::fs::rename(made, path)
        }
        result => Ok(result?),
    }
}

/// Whether something has the name of an output that an output of `format` cannot replace: a folder, unless an earlier
/// build may have made it.
pub(super) fn not_in_the_way(path: &Path, format: Option<Format>) -> Result<(), OutputError> {
    let mark = format.and_then(Format::folder_mark);
    let fits = match (std::fs::symlink_metadata(path), mark) {
        (Err(_), _) => true,
        (Ok(data), None) => data.is_file() || data.is_symlink(),
        (Ok(data), Some(mark)) => data.is_dir() && is_marked(path, mark),
    };
    if fits { Ok(()) } else { Err(OutputError::InTheWay { path: path.to_owned() }) }
}

/// Whether a folder is empty, or one of the kind that has a file `mark`.
fn is_marked(path: &Path, mark: &str) -> bool {
    path.join(mark).is_file() || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn no_locks(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}
