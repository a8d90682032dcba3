//! Why there is no appliance.

use super::deb::DebError;
use super::kernel::KernelError;
use crate::apt::AptError;
use crate::error::{Class, Classify};
use crate::vm::VmError;
use crate::workspace::WorkspaceError;
use bytesize::ByteSize;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no appliance, or why a verb of `particle-vm appliance` did not do its work.
#[derive(Debug, Error)]
pub enum ApplianceError {
    /// The definition that is embedded in the binary cannot be read.
    #[error("the embedded definition of the appliance is not valid")]
    Definition(#[source] serde_yaml::Error),
    /// Resolving or downloading the packages failed.
    #[error("cannot fetch the packages of the appliance")]
    Fetch(#[source] AptError),
    /// A downloaded package is not the one of the index, or cannot be unpacked.
    #[error("cannot unpack {package}")]
    Package {
        /// File name of the package.
        package: String,
        /// Why.
        #[source]
        source: DebError,
    },
    /// A package does not have what is needed of it.
    #[error("{package} has no {path}")]
    Missing {
        /// The package.
        package: String,
        /// The path in it.
        path: String,
    },
    /// The finishing run did not work.
    #[error("cannot finish the appliance in its VM")]
    Finish(#[source] VmError),
    /// What the finishing run left is not what it should be.
    #[error("what the VM of the appliance left cannot be used")]
    Finished(#[source] DebError),
    /// The kernel cannot be used.
    #[error("the kernel of the appliance cannot be used")]
    Kernel(#[source] KernelError),
    /// The root file system cannot be written.
    #[error("cannot write the root file system of the appliance")]
    Image(#[source] backhand::BackhandError),
    /// Reading or writing in the cache failed.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What was tried, a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system of the cache is too full.
    #[error("the appliance needs {} in {}, where {} are free", ByteSize(*.needed), .path.display(), ByteSize(*.free))]
    Space {
        /// The folder.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no place to build it.
    #[error("cannot prepare the build of the appliance")]
    Workspace(#[source] WorkspaceError),
    /// An appliance is not whole.
    #[error("the appliance in {} is damaged: {reason}", .path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was given as an appliance is none that this program can use.
    #[error("{} is no appliance for this program: {reason}", .path.display())]
    Unusable {
        /// The folder or the archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cache has none that builds would use.
    #[error("there is no appliance yet")]
    NoneYet,
    /// There is no appliance of that digest.
    #[error("there is no appliance {digest}")]
    Unknown {
        /// What was asked for.
        digest: String,
    },
    /// What was asked for is too short to name an appliance.
    #[error("`{digest}` names no appliance: give at least {least} digits of its digest")]
    TooShort {
        /// What was asked for.
        digest: String,
        /// Fewest digits.
        least: usize,
    },
    /// Several appliances have a digest that begins so.
    #[error("{digest} could be any of several appliances")]
    Ambiguous {
        /// What was asked for.
        digest: String,
    },
    /// An appliance cannot be removed now.
    #[error("the appliance {digest} is in use")]
    InUse {
        /// Its digest.
        digest: String,
    },
    /// The work was given up because its caller has gone.
    #[error("the build of the appliance was given up")]
    GivenUp,
    /// The background task broke down.
    #[error("the build of the appliance broke down")]
    Task(#[source] tokio::task::JoinError),
}

impl ApplianceError {
    /// For `map_err` on the result of a file operation.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl Classify for ApplianceError {
    fn class(&self) -> Class {
        match self {
            Self::Fetch(error) => error.class(),
            Self::Finish(error) => error.class(),
            Self::Package { source, .. } => source.class(),
            Self::Missing { .. } => Class::Network,
            Self::InUse { .. } | Self::Io { .. } | Self::Space { .. } | Self::Workspace(_) | Self::Damaged { .. } => {
                Class::Host
            }
            Self::Image(error) if storage_is_full(error) => Class::Host,
            Self::Unusable { .. }
            | Self::NoneYet
            | Self::Unknown { .. }
            | Self::TooShort { .. }
            | Self::Ambiguous { .. } => Class::Usage,
            Self::GivenUp => Class::Interrupted,
            Self::Definition(_) | Self::Finished(_) | Self::Kernel(_) | Self::Image(_) | Self::Task(_) => {
                Class::Internal
            }
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.advice(),
            Self::Finish(error) => error.advice(),
            Self::Workspace(error) => error.advice(),
            Self::Package { .. } | Self::Missing { .. } => Some("name another mirror with `--mirror`".into()),
            Self::Space { .. } => Some(MAKE_ROOM.into()),
            Self::Io { source, .. } if is_full(source) => Some(MAKE_ROOM.into()),
            Self::Image(error) if storage_is_full(error) => Some(MAKE_ROOM.into()),
            Self::Damaged { .. } => Some("build it anew with `particle-vm appliance build --force`".into()),
            Self::Unusable { .. } => {
                Some("export one with this version of particle-vm: `particle-vm appliance export FILE`".into())
            }
            Self::NoneYet => Some("build one with `particle-vm appliance build`".into()),
            Self::InUse { .. } => Some("wait until the build, shell or boot that uses it has ended".into()),
            Self::Unknown { .. } | Self::TooShort { .. } | Self::Ambiguous { .. } => {
                Some("`particle-vm appliance list` shows those that there are".into())
            }
            _ => None,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.details(),
            Self::Finish(error) => error.details(),
            _ => None,
        }
    }
}

const MAKE_ROOM: &str = "make room there, or point XDG_CACHE_HOME at a larger file system";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn storage_is_full(error: &backhand::BackhandError) -> bool {
    matches!(error, backhand::BackhandError::StdIo(error) if is_full(error))
}
