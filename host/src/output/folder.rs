//! The output folder: checked before the work begins, filled at its end.

use super::convert::convert;
use super::digest::Reading;
use super::manifest::{FILE as MANIFEST, Manifest, Output, Owner};
use super::{Format, OutputError, Record};
use crate::clean;
use crate::event::{Event, Events, Unit};
use crate::workspace::Workspace;
use nix::errno::Errno;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CHECKSUMS: &str = "SHA256SUMS";
const LOG: &str = "build.log";

/// What becomes of the manifest, the checksums and the log of another recipe in the same folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Others {
    /// They stay, and the build is refused.
    #[default]
    Stay,
    /// They are replaced.
    Go,
}

/// A folder that outputs will be put into. They are made in a workspace inside it, so that giving them their names is
/// a rename and nothing is left when the build dies.
pub struct OutputFolder {
    dir: PathBuf,
    name: String,
    formats: Vec<Format>,
    others: Others,
    workspace: Workspace,
    // After what lies in them.
    _created: Created,
}

/// Folders that were made for the outputs, the innermost first; those that are still empty go when this is dropped.
struct Created(Vec<PathBuf>);

impl Created {
    /// Those of `dir` and the folders above it that are not there yet.
    fn of(dir: &Path) -> Self {
        let missing = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        Self(missing.map(Path::to_owned).collect())
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        // One with something in it cannot be removed, and neither can those above it.
        let _ = self.0.iter().try_for_each(std::fs::remove_dir);
    }
}

impl OutputFolder {
    /// Make sure that outputs called `name` can be put into `dir`, which is created if need be.
    ///
    /// # Errors
    /// When the folder cannot be written to, a folder or a special file has the name of an output, or another recipe's
    /// outputs are there and are to stay.
    pub fn prepare(dir: &Path, name: &str, formats: &[Format], others: Others) -> Result<Self, OutputError> {
        let _created = Created::of(dir);
        let workspace = Workspace::new(dir).map_err(|source| OutputError::Folder { dir: dir.to_owned(), source })?;
        let mut formats = formats.to_vec();
        formats.sort_unstable();
        formats.dedup();
        let folder = Self { dir: dir.to_owned(), name: name.to_owned(), formats, others, workspace, _created };
        let images = folder.formats.iter().map(|format| folder.file_name(*format));
        for file in images.chain([MANIFEST, CHECKSUMS, LOG].map(String::from)) {
            not_in_the_way(&folder.dir.join(file))?;
        }
        folder.not_of_another()?;
        Ok(folder)
    }

    /// Where the VM's target disk has to be. It is the raw image that everything is made from; it lies in the output
    /// folder, so that a raw output is never copied.
    pub fn target(&self) -> PathBuf {
        self.made(&self.file_name(Format::Raw))
    }

    /// Make all outputs from the target disk, and put them in their places when all of them are complete. `record`
    /// has listened to the build, and `events` is the sender that it gave.
    ///
    /// Each file is replaced by a rename: a reader sees the old one or the new one. Images of an earlier build of this
    /// recipe in formats that are not made any more go then: nothing would tell that they are old. `SHA256SUMS` comes
    /// last, so that `sha256sum -c` tells if the machine went down in between.
    ///
    /// # Errors
    /// When an output cannot be made: what was in the folder stays as it was. When one cannot be given its name: those
    /// before it have theirs, and `SHA256SUMS` is the old one, to which they do not fit.
    pub async fn publish(
        self,
        mut manifest: Manifest,
        record: &mut Record,
        events: &Events,
    ) -> Result<Manifest, OutputError> {
        manifest.outputs = self.make_images(events).await?;
        manifest.timings = record.finish(&self.made(LOG))?;
        manifest.created = jiff::Timestamp::now();
        let mut text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| OutputError::Write { path: self.made(MANIFEST), source: error.into() })?;
        text.push(b'\n');
        self.write(MANIFEST, &text)?;

        let mut sums = String::new();
        for output in &manifest.outputs {
            sums.push_str(&format!("{}  {}\n", output.sha256, output.file));
        }
        for file in [MANIFEST, LOG] {
            let digest = Reading::start(&self.made(file)).finish().await?;
            sums.push_str(&format!("{}  {file}\n", digest.sha256));
        }
        self.write(CHECKSUMS, sums.as_bytes())?;
        self.put_in_place(&manifest.outputs).await?;
        record.succeed();

        for output in &manifest.outputs {
            let path = self.dir.join(&output.file).display().to_string();
            events.send(Event::Output { path, size: output.size, sha256: output.sha256.clone() });
        }
        Ok(manifest)
    }

    /// Convert the target disk; the checksum of one image is computed while the next is converted.
    async fn make_images(&self, events: &Events) -> Result<Vec<Output>, OutputError> {
        let raw = self.target();
        let virtual_size =
            std::fs::metadata(&raw).map_err(|source| OutputError::Digest { path: raw.clone(), source })?.len();
        let mut readings = Vec::new();
        for format in &self.formats {
            let path = self.made(&self.file_name(*format));
            if *format != Format::Raw {
                convert(&raw, virtual_size, *format, &path, events).await?;
            }
            readings.push((*format, Reading::start(&path)));
        }
        let step = events.step("checksums", Some(readings.len() as u64), Unit::Items);
        let mut outputs = Vec::new();
        for (format, reading) in readings {
            let digest = reading.finish().await?;
            outputs.push(Output {
                file: self.file_name(format),
                format,
                size: digest.size,
                allocated: digest.allocated,
                virtual_size,
                sha256: digest.sha256,
            });
            step.progress(outputs.len() as u64);
        }
        step.finish();
        Ok(outputs)
    }

    /// Give every file its name, under a lock so that two builds do not mix their files.
    async fn put_in_place(&self, outputs: &[Output]) -> Result<(), OutputError> {
        // The images were made by others, the target disk for its owner's eyes only; the manifest's mode is what the
        // user's umask gives a new file.
        let manifest = self.made(MANIFEST);
        let mode =
            std::fs::metadata(&manifest).map_err(|source| OutputError::Write { path: manifest, source })?.permissions();
        for output in outputs {
            let path = self.made(&output.file);
            std::fs::set_permissions(&path, mode.clone()).map_err(|source| OutputError::Write { path, source })?;
        }
        let _lock = self.lock().await?;
        let images = outputs.iter().map(|output| output.file.as_str());
        let images: Vec<_> = images.collect();
        let texts = [LOG, MANIFEST, CHECKSUMS];
        for file in images.iter().chain(&texts) {
            not_in_the_way(&self.dir.join(file))?;
        }
        // Another build may have come first.
        self.not_of_another()?;
        let rename = |file: &str| {
            let path = self.dir.join(file);
            std::fs::rename(self.made(file), &path).map_err(|source| OutputError::Publish { path, source })
        };
        images.iter().try_for_each(|file| rename(file))?;
        // Before the manifest that tells of them is replaced.
        self.remove_stale(&images)?;
        texts.into_iter().try_for_each(rename)?;
        // The renames themselves must survive a power cut.
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| OutputError::Publish { path: self.dir.clone(), source })
    }

    /// One manifest, one list of checksums and one log tell of all that lies in a folder: those of another recipe are not
    /// replaced in silence.
    fn not_of_another(&self) -> Result<(), OutputError> {
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

    /// Remove the images that an earlier build of this recipe has made and this one has not.
    fn remove_stale(&self, made: &[&str]) -> Result<(), OutputError> {
        let Some(earlier) = Manifest::read(&self.dir).filter(|earlier| earlier.recipe.name == self.name) else {
            return Ok(());
        };
        for output in earlier.outputs {
            // No other file of the folder, whatever the manifest says.
            if output.file != self.file_name(output.format) || made.contains(&output.file.as_str()) {
                continue;
            }
            let path = self.dir.join(output.file);
            match std::fs::remove_file(&path) {
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

    /// Write a small file of the workspace and flush it.
    fn write(&self, file: &str, content: &[u8]) -> Result<(), OutputError> {
        let path = self.made(file);
        File::create_new(&path)
            .and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            })
            .map_err(|source| OutputError::Write { path, source })
    }

    /// A file in the workspace.
    fn made(&self, file: &str) -> PathBuf {
        self.workspace.path().join(file)
    }

    fn file_name(&self, format: Format) -> String {
        format!("{}.{format}", self.name)
    }
}

fn not_in_the_way(path: &Path) -> Result<(), OutputError> {
    match std::fs::symlink_metadata(path) {
        Ok(data) if !data.is_file() && !data.is_symlink() => Err(OutputError::InTheWay { path: path.to_owned() }),
        _ => Ok(()),
    }
}

fn no_locks(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

#[cfg(test)]
mod tests;
