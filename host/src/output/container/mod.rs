//! Containers, repositories and archives, made of the archives that the guest has written.
//!
//! What the guest wrote is read as bytes: compressed, hashed and copied. The one exception is the archive of an OSTree
//! repository ([`repository`]), which may hold nothing but files whose names follow a grammar.
//!
//! The formats: OCI image format specification 1.1 (image layout, manifest, configuration, layer), and for
//! `docker-archive` Docker's image specification v1.2.

mod archive;
mod image;
mod layer;
mod repository;
mod signature;
mod tree;
mod work;

pub(super) use tree::{File, listing};

use super::{Format, OutputError};
use crate::event::{Events, Unit};
use crate::recipe::Container as Settings;
use crate::signing::SigningKey;
use oci_spec::image::Config;
use particle_vm_protocol::{Archive, ArchiveKind};
use std::fs::File as Handle;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use work::Work;

/// What the guest has written, and what the recipe says of it.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The archives on the disk for them.
    pub archives: Vec<Archive>,
    /// The time that nothing in them is newer than, in seconds since the Unix epoch.
    pub source_date: u64,
    /// The commit in the repository: its ref and its checksum.
    pub commit: Option<(String, String)>,
    /// What the commit is signed with.
    pub key: Option<Arc<SigningKey>>,
    /// What the container says of itself.
    pub container: Settings,
    /// The configuration of the image that the build started from, for what no recipe says: user, folder, signal, ports and
    /// volumes.
    pub inherited: Config,
    /// Its name.
    pub reference: String,
    /// Debian's name of its architecture, which is Go's too.
    pub architecture: String,
}

impl Contents {
    /// Whether the archives are those of `wanted`, and lie on a disk of `size` bytes one behind the other.
    pub fn is_sound(&self, wanted: &[ArchiveKind], size: u64) -> bool {
        let mut end = 0;
        let there = self.archives.iter().all(|archive| {
            let fits = archive.lies_within(end, size);
            end = archive.offset.saturating_add(archive.length);
            fits
        });
        there
            && self.archives.iter().map(|archive| archive.kind).eq(wanted.iter().copied())
            // It becomes a file by being cut off behind it.
            && self.archives.first().is_none_or(|first| first.offset == 0)
    }
}

/// What is known of a container that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Digest of its manifest, `sha256:` and hexadecimal digits.
    pub(super) digest: String,
}

/// Makes outputs in a folder.
pub(super) struct Maker<'a> {
    /// The disk that the guest has written to.
    pub(super) disk: PathBuf,
    /// A folder for what is needed for a while.
    pub(super) scratch: PathBuf,
    pub(super) contents: &'a Contents,
    pub(super) events: &'a Events,
    /// The OCI layout, when it has been made.
    layout: Option<(PathBuf, Made)>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(disk: PathBuf, scratch: PathBuf, contents: &'a Contents, events: &'a Events) -> Self {
        Self { disk, scratch, contents, events, layout: None }
    }

    /// Make `format` at `path`. The formats come in their order, [`Format::Tar`] last: it takes the disk away.
    pub(super) async fn make(&mut self, format: Format, path: &Path) -> Result<Option<Made>, OutputError> {
        match format {
            Format::OciArchive | Format::Oci => {
                let place = self.scratch.join("layout");
                let (layout, made) = match self.layout.clone() {
                    Some(layout) => layout,
                    None => self.layout.insert((place.clone(), self.layout(&place).await?)).clone(),
                };
                if format == Format::Oci {
                    // Nobody comes after it who would miss it, see the order of the formats.
                    std::fs::rename(&layout, path).map_err(failed(path))?;
                    self.layout = None;
                } else {
                    self.pack(layout, path).await?;
                }
                Ok(Some(made))
            }
            Format::DockerArchive => self.docker(path).await.map(Some),
            Format::OstreeRepo => self.repository(path).await.map(|()| None),
            _ => self.tar(path).map(|()| None),
        }
    }

    /// The archive of `kind`; the engine has seen that it is there.
    fn archive(&self, kind: ArchiveKind) -> Archive {
        let found = self.contents.archives.iter().find(|archive| archive.kind == kind);
        found.copied().unwrap_or(Archive { kind, offset: 0, length: 0 })
    }

    async fn layout(&self, folder: &Path) -> Result<Made, OutputError> {
        let step = self.events.step("compress container", Some(self.archive(ArchiveKind::Tree).length), Unit::Bytes);
        let (disk, archive, contents) = (self.disk.clone(), self.archive(ArchiveKind::Tree), self.contents.clone());
        let place = folder.to_owned();
        let work = Work::start(move |watch| {
            let blobs = place.join("blobs/sha256");
            std::fs::create_dir_all(&blobs)?;
            let source = layer::Source::new(Handle::open(disk)?, archive, watch);
            let layer = layer::compress(source, contents.container.compression, &blobs)?;
            image::write(&place, &contents, &layer)
        });
        let digest = work.finish(folder, &step).await?;
        step.finish();
        Ok(Made { digest })
    }

    async fn pack(&self, layout: PathBuf, path: &Path) -> Result<(), OutputError> {
        let step = self.events.step("pack container", None, Unit::Bytes);
        let (target, date) = (path.to_owned(), self.contents.source_date);
        let work = Work::start(move |watch| archive::pack(&layout, &target, date, &watch));
        work.finish(path, &step).await?;
        step.finish();
        Ok(())
    }

    async fn docker(&self, path: &Path) -> Result<Made, OutputError> {
        let archive = self.archive(ArchiveKind::Tree);
        let step = self.events.step("write docker archive", Some(archive.length), Unit::Bytes);
        let (disk, contents, target) = (self.disk.clone(), self.contents.clone(), path.to_owned());
        let work = Work::start(move |watch| {
            let source = layer::Source::new(Handle::open(disk)?, archive, watch);
            archive::docker(source, &contents, &target)
        });
        let digest = work.finish(path, &step).await?;
        step.finish();
        Ok(Made { digest })
    }

    async fn repository(&self, path: &Path) -> Result<(), OutputError> {
        let archive = self.archive(ArchiveKind::Repository);
        let step = self.events.step("write repository", Some(archive.length), Unit::Bytes);
        let (disk, contents, target) = (self.disk.clone(), self.contents.clone(), path.to_owned());
        let work = Work::start(move |watch| {
            let source = layer::Source::new(Handle::open(disk)?, archive, watch);
            repository::unpack(source, &target)?;
            contents.key.as_ref().map_or(Ok(()), |key| signature::sign(&target, contents.commit.as_ref(), key))
        });
        work.finish(path, &step).await?;
        step.finish();
        Ok(())
    }

    /// The archive of the tree comes first on the disk: cut off behind it, the disk is the output.
    fn tar(&self, path: &Path) -> Result<(), OutputError> {
        let cut = || {
            Handle::options().write(true).open(&self.disk)?.set_len(self.archive(ArchiveKind::Tree).length)?;
            std::fs::rename(&self.disk, path)
        };
        cut().map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> OutputError {
    move |source| OutputError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
