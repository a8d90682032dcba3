//! The output folder: checked before the work begins, filled at its end.

mod place;

use super::container::{self, Contents, Maker, listing};
use super::convert::convert;
use super::digest::Reading;
use super::layout::{Layout, folders};
use super::manifest::{Commit, Container, FILE as MANIFEST, Manifest, Output};
use super::{Format, OutputError, Record};
use crate::event::{Event, Events, Unit};
use crate::workspace::Workspace;
use place::not_in_the_way;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

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
    layout: Layout,
    workspace: Workspace,
    // After what lies in them, the inner ones first.
    _created: Vec<Created>,
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
    /// Make sure that outputs called `name` can be put into `dir`, which is created if need be, at the places of `layout`.
    ///
    /// # Errors
    /// When the folder cannot be written to, a folder or a special file has the name of an output, or another recipe's
    /// outputs are there and are to stay.
    pub fn prepare(
        dir: &Path,
        name: &str,
        formats: &[Format],
        others: Others,
        layout: Layout,
    ) -> Result<Self, OutputError> {
        let mut formats = formats.to_vec();
        formats.sort_unstable();
        formats.dedup();
        let places: Vec<_> = formats.iter().map(|format| layout.place(*format, name)).collect();
        let inner = folders(dir, places.iter().map(String::as_str));
        let _created = inner.iter().map(PathBuf::as_path).chain([dir]).map(Created::of).collect();
        let workspace = Workspace::new(dir).map_err(|source| OutputError::Folder { dir: dir.to_owned(), source })?;
        let (dir, name) = (dir.to_owned(), name.to_owned());
        let folder = Self { dir, name, formats, others, layout, workspace, _created };
        // The disk is made where its image would lie, also when that is no output.
        let target = folder.file_name(Format::Raw);
        for inner in folders(folder.workspace.path(), places.iter().chain([&target]).map(String::as_str)) {
            std::fs::create_dir_all(&inner).map_err(|source| OutputError::Write { path: inner, source })?;
        }
        if let Some(path) = inner.into_iter().find(|path| path.symlink_metadata().is_ok_and(|data| !data.is_dir())) {
            return Err(OutputError::Write { path, source: std::io::ErrorKind::NotADirectory.into() });
        }
        let images = folder.formats.iter().map(|format| (folder.file_name(*format), Some(*format)));
        for (file, format) in images.chain([MANIFEST, CHECKSUMS, LOG].map(|file| (file.to_owned(), None))) {
            not_in_the_way(&folder.dir.join(file), format)?;
        }
        folder.not_of_another()?;
        Ok(folder)
    }

    /// Where the VM's target disk has to be. It is the raw image that everything is made from; it lies in the output
    /// folder, so that a raw output is never copied.
    pub fn target(&self) -> PathBuf {
        self.made(&self.file_name(Format::Raw))
    }

    /// Where the disk has to be that the guest writes its archives to. It becomes the output of [`Format::Tar`].
    pub fn archive(&self) -> PathBuf {
        self.made(".archive")
    }

    /// Make all outputs from the target disk and from the archives, and put them in their places when all of them are
    /// complete. `record` has listened to the build, and `events` is the sender that it gave.
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
        contents: &Contents,
        record: &mut Record,
        events: &Events,
    ) -> Result<Manifest, OutputError> {
        let (outputs, files) = self.make(contents, events).await?;
        manifest.outputs = outputs;
        manifest.timings = record.finish(&self.made(LOG))?;
        manifest.created = jiff::Timestamp::now();
        let mut text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| OutputError::Write { path: self.made(MANIFEST), source: error.into() })?;
        text.push(b'\n');
        self.write(MANIFEST, &text)?;

        let mut sums = sums(&files);
        for file in [MANIFEST, LOG] {
            for digest in Reading::of(&self.made(file)).finish().await? {
                sums.push_str(&format!("{}  {file}\n", digest.sha256));
            }
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

    /// Make the images; the checksum of one is computed while the next is made. Returns the files that they consist of
    /// too.
    async fn make(
        &self,
        contents: &Contents,
        events: &Events,
    ) -> Result<(Vec<Output>, Vec<container::File>), OutputError> {
        let raw = self.target();
        let virtual_size = match self.formats.iter().any(|format| format.is_disk()) {
            true => Some(std::fs::metadata(&raw).map_err(failed(&raw))?.len()),
            false => None,
        };
        let mut maker = Maker::new(self.archive(), self.workspace.path().to_owned(), contents, events);
        let mut readings = Vec::new();
        for format in &self.formats {
            let path = self.made(&self.file_name(*format));
            let mut made = None;
            match virtual_size {
                Some(_) if *format == Format::Raw => {}
                Some(size) if format.is_disk() => convert(&raw, size, *format, &path, events).await?,
                _ => made = maker.make(*format, &path).await?,
            }
            readings.push((*format, made, Images::start(&path, &self.file_name(*format))?));
        }
        let step = events.step("checksums", Some(readings.len() as u64), Unit::Items);
        let (mut outputs, mut files) = (Vec::new(), Vec::new());
        for (format, made, reading) in readings {
            let (digest, own) = reading.finish().await?;
            let signed_by = contents.key.as_ref().map(|key| key.public());
            let commit = contents.commit.clone().filter(|_| format == Format::OstreeRepo);
            outputs.push(Output {
                file: self.file_name(format),
                format,
                size: digest.size,
                allocated: digest.allocated,
                virtual_size: virtual_size.filter(|_| format.is_disk()),
                sha256: digest.sha256,
                container: made.map(|made| Container { digest: made.digest, reference: contents.reference.clone() }),
                commit: commit.map(|(reference, checksum)| Commit { reference, checksum, signed_by }),
            });
            files.extend(own);
            step.progress(outputs.len() as u64);
        }
        step.finish();
        Ok((outputs, files))
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
        self.layout.place(format, &self.name)
    }
}

/// The checksums of an output in the making: of a file, or of all files in a folder.
struct Images {
    names: Vec<PathBuf>,
    reading: Reading,
    folder: bool,
}

impl Images {
    /// Begin to read what is at `path` and will be called `name`.
    fn start(path: &Path, name: &str) -> Result<Self, OutputError> {
        if !path.is_dir() {
            return Ok(Self { names: vec![name.into()], reading: Reading::of(path), folder: false });
        }
        let files = listing(path).map_err(failed(path))?;
        let reading = Reading::start(path, files.iter().map(|file| path.join(file)).collect());
        Ok(Self { names: files.iter().map(|file| Path::new(name).join(file)).collect(), reading, folder: true })
    }

    /// The checksum of the whole, and those of its files. That of a folder is the one of its lines in `SHA256SUMS`.
    async fn finish(self) -> Result<(super::digest::Digest, Vec<container::File>), OutputError> {
        let Self { names, reading, folder } = self;
        let (mut size, mut allocated, mut files) = (0, 0, Vec::new());
        for (path, digest) in names.into_iter().zip(reading.finish().await?) {
            size += digest.size;
            allocated += digest.allocated;
            files.push(container::File { path, sha256: digest.sha256 });
        }
        let sha256 = match files.as_slice() {
            [file] if !folder => file.sha256.clone(),
            files => hex::encode(Sha256::digest(sums(files))),
        };
        Ok((super::digest::Digest { size, allocated, sha256 }, files))
    }
}

/// Lines of `SHA256SUMS`.
fn sums(files: &[container::File]) -> String {
    files.iter().map(|file| format!("{}  {}\n", file.sha256, file.path.display())).collect()
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> OutputError {
    move |source| OutputError::Digest { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
