//! Why an image cannot be looked into.

use crate::error::{Class, Classify};
use std::io;
use thiserror::Error;

/// Why an image cannot be looked into. Layers are counted from 1, the lowest.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The configuration or the manifest is none.
    #[error("the {what} of the image is not what the OCI image specification says")]
    Document {
        /// Which of the two.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The image has other layers than its manifest lists.
    #[error("the image has {found} layers where its manifest lists {listed}")]
    Layers {
        /// How many came.
        found: usize,
        /// How many are listed.
        listed: usize,
    },
    /// A layer cannot be read.
    #[error("cannot read layer {layer} ({digest})")]
    Read {
        /// Which.
        layer: usize,
        /// Its digest in the manifest.
        digest: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer holds what no image may hold.
    #[error("layer {layer} ({digest}) is refused: {reason}")]
    Refused {
        /// Which.
        layer: usize,
        /// Its digest in the manifest.
        digest: String,
        /// The entry and what is wrong with it.
        reason: String,
    },
}

impl Classify for InspectError {
    fn class(&self) -> Class {
        match self {
            // What was fetched breaks off or does not unpack; what is in it is the image's own fault.
            Self::Read { .. } => Class::Network,
            Self::Document { .. } | Self::Layers { .. } | Self::Refused { .. } => Class::Build,
        }
    }

    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "fetch the image again; if it stays so, push it to its registry again".into(),
            Self::Document { .. } | Self::Layers { .. } => "make the image again with its builder".into(),
            Self::Refused { .. } => "make the image again with a builder that keeps to the OCI image specification, \
                                     and do not boot one from somebody you do not trust"
                .into(),
        })
    }
}

/// What is wrong with one layer, before it is known which one it is.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream itself.
    Read(io::Error),
    /// What the stream says.
    Refused(String),
}

impl Fault {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    pub(super) fn of_layer(self, layer: usize, digest: &str) -> InspectError {
        let digest = digest.to_owned();
        match self {
            Self::Read(source) => InspectError::Read { layer, digest, source },
            Self::Refused(reason) => InspectError::Refused { layer, digest, reason },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}
