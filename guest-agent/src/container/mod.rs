//! The finished tree for the host, as archives that containers and OSTree repositories are made of.

mod repository;
mod sparse;
mod tar;
mod walk;

pub use repository::REPOSITORY;

use crate::context::Context;
use crate::report;
use crate::tree::Tree;
use nix::errno::Errno;
use particle_vm_protocol::archive::ALIGNMENT;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::{Archive, ArchiveKind, Failure, FailureKind, Plan};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// How much is written to the disk at a time.
const BUFFER: usize = 1 << 20;

/// Why an archive cannot be made.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Something in the tree cannot be read.
    #[error("cannot read `/{}` in the image", .path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive of the image")]
    Write(#[source] io::Error),
    /// A name that stands for the removal of another file.
    #[error("`/{}` cannot be in a container: names that begin with `.wh.` stand for files that a layer removes", .path.display())]
    Whiteout {
        /// Its path.
        path: PathBuf,
    },
    /// An extended attribute whose name no record can have.
    #[error("`/{}` has an extended attribute that no archive can hold, {}", .path.display(), .name.display())]
    Attribute {
        /// The path of the file.
        path: PathBuf,
        /// The name of the attribute.
        name: OsString,
    },
    /// The job ends.
    #[error("{}", .0.message)]
    Stopped(Failure),
}

impl ArchiveError {
    fn read<E: Into<io::Error>>(inside: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::Read { path: inside.to_owned(), source: error.into() }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Stopped(failure) => failure,
            // It has come through a reader.
            ArchiveError::Write(error) if error.get_ref().is_some_and(|inner| inner.is::<ArchiveError>()) => {
                match error.into_inner().map(|inner| inner.downcast::<ArchiveError>()) {
                    Some(Ok(inner)) => (*inner).into(),
                    _ => report::plain(FailureKind::Agent, "cannot write the archive of the image"),
                }
            }
            ArchiveError::Write(error) if error.raw_os_error() == Some(Errno::ENOSPC as i32) => {
                report::plain(FailureKind::ArchiveFull, "the image does not fit on the disk for its archives")
            }
            ArchiveError::Whiteout { .. } | ArchiveError::Attribute { .. } => {
                report::failure(FailureKind::Input, &error)
            }
            error => report::failure(FailureKind::Agent, &error),
        }
    }
}

/// Archives in the making.
#[derive(Debug)]
pub struct Archives<'a> {
    context: &'a Context,
    plan: &'a Plan,
    tree: Tree,
    /// None where no archive is made, and nothing but a commit.
    disk: Option<File>,
    /// Seconds since the Unix epoch.
    source_date: u64,
    /// The commit of the tree, by its ref and its checksum.
    commit: Option<(String, String)>,
    made: Vec<Archive>,
}

impl<'a> Archives<'a> {
    /// Of `tree`, whose build began at `begin`.
    ///
    /// # Errors
    /// When the disk for them or the tree cannot be read.
    pub fn new(context: &'a Context, plan: &'a Plan, tree: Tree, begin: SystemTime) -> Result<Self, Failure> {
        let disk = context.machine().archive.as_ref().map(|path| File::options().write(true).open(path));
        let disk = disk.transpose().map_err(ArchiveError::Write)?;
        let source_date = match plan.source_date {
            Some(time) => time,
            None => {
                let begin = begin.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
                walk::newest_before(tree.root(), begin, &|| check(context))?
            }
        };
        Ok(Self { context, plan, tree, disk, source_date, commit: None, made: Vec::new() })
    }

    /// Commit the tree to the repository of the build, once.
    ///
    /// # Errors
    /// When the tree cannot be committed.
    pub fn commit(&mut self) -> Result<(), Failure> {
        if self.commit.is_none() {
            self.commit = Some(repository::commit(self.context, self.plan, &self.tree, self.source_date)?);
        }
        Ok(())
    }

    /// Write the archive of `kind`.
    ///
    /// # Errors
    /// When the tree has something that it cannot hold, or the disk is full or missing.
    pub fn write(&mut self, kind: ArchiveKind) -> Result<(), Failure> {
        let root = match kind {
            ArchiveKind::Tree => self.tree.root(),
            ArchiveKind::Repository => {
                self.commit()?;
                Path::new(REPOSITORY)
            }
        };
        let disk = self.disk.as_mut();
        let disk = disk.ok_or_else(|| report::plain(FailureKind::Agent, "the machine has no disk for archives"))?;
        let offset = self.made.last().map_or(0, |last| (last.offset + last.length).next_multiple_of(ALIGNMENT));
        disk.seek(SeekFrom::Start(offset)).map_err(ArchiveError::Write)?;
        let context = self.context;
        let mut output = BufWriter::with_capacity(BUFFER, &*disk);
        tar::write(root, self.source_date, &mut output, &|| check(context))?;
        output.flush().map_err(ArchiveError::Write)?;
        drop(output);
        disk.sync_all().map_err(ArchiveError::Write)?;
        let end = disk.stream_position().map_err(ArchiveError::Write)?;
        self.context.output(format!("{} MiB", (end - offset).div_ceil(1 << 20)));
        self.made.push(Archive { kind, offset, length: end - offset });
        Ok(())
    }

    /// Tell what was made.
    pub fn finish(self, built: &mut Built) {
        built.source_date = Some(self.source_date);
        built.commit = self.commit;
        built.archives = self.made;
    }
}

fn check(context: &Context) -> Result<(), ArchiveError> {
    context.check().map_err(ArchiveError::Stopped)
}
