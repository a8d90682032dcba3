//! Why the outputs could not be made.

use super::Format;
use crate::child::ChildError;
use crate::error::{Class, Classify};
use crate::workspace::WorkspaceError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why the outputs could not be made.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The output folder cannot be created or written to.
    #[error("the output folder {} cannot be used", .dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: WorkspaceError,
    },
    /// There is no place for the log.
    #[error("there is no place for the log of the build")]
    Log(#[source] WorkspaceError),
    /// Something that is not a file has the name of an output.
    #[error("{} is in the way: it is not a regular file", .path.display())]
    InTheWay {
        /// The name.
        path: PathBuf,
    },
    /// The folder holds the outputs of another recipe.
    #[error("the output folder {} holds what the recipe `{name}` has made", .dir.display())]
    OfAnother {
        /// The folder.
        dir: PathBuf,
        /// Name of that recipe.
        name: String,
    },
    /// A file that no build has made has the name of the manifest.
    #[error("{} is in the way: no build has made it", .path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
    },
    /// A file in the making cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `qemu-img` did not convert the image.
    #[error("cannot make the {format} image")]
    Convert {
        /// The format.
        format: Format,
        /// Why.
        #[source]
        source: ChildError,
    },
    /// An image cannot be read back for its checksum.
    #[error("cannot read {} for its checksum", .path.display())]
    Digest {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output folder cannot be locked.
    #[error("cannot lock the output folder {}", .dir.display())]
    Lock {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image of an earlier build, which the new manifest would not tell of, cannot be removed.
    #[error("cannot remove {} of an earlier build", .path.display())]
    Stale {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A complete output cannot be given its name.
    #[error("cannot put {} in its place", .path.display())]
    Publish {
        /// The name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for OutputError {
    fn class(&self) -> Class {
        match self {
            // Nothing is wrong with the host: the user has named a folder that is in use.
            Self::OfAnother { .. } | Self::Stranger { .. } => Class::Usage,
            _ => Class::Host,
        }
    }

    fn advice(&self) -> Option<String> {
        let full = "free some space there, or name a folder on another file system with --output";
        match self {
            Self::Folder { .. } => Some("name a folder that you can write to with --output".into()),
            Self::Log(source) => source.advice(),
            Self::OfAnother { .. } => Some(
                "name a folder of its own with --output; or replace the manifest, the checksums and the log there with \
                 --replace"
                    .into(),
            ),
            Self::Stranger { .. } => {
                Some("name another folder with --output, or replace that file with --replace".into())
            }
            Self::InTheWay { .. } => Some("move it away, or name another folder with --output".into()),
            Self::Convert { source: ChildError::Spawn { source, .. }, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("install the Debian package qemu-utils".into())
            }
            Self::Convert { source: ChildError::Failed { stderr, .. }, .. }
                if stderr.contains("No space left on device") =>
            {
                Some(full.into())
            }
            Self::Write { source, .. } | Self::Publish { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Some(full.into())
            }
            _ => None,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Convert { source, .. } => source.details(),
            _ => None,
        }
    }
}
