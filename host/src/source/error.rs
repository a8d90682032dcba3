//! Why an image cannot be had.

use super::credentials::CredentialsError;
use crate::child::ChildError;
use crate::error::{Class, Classify};
use crate::store::StoreError;
use crate::tls::TlsError;
use crate::vm::proxy::UpstreamError;
use crate::workspace::WorkspaceError;
use bytesize::ByteSize;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An image that cannot be fetched or used.
#[derive(Debug, Error)]
#[error("cannot use the image {reference}")]
pub struct SourceError {
    /// The image.
    pub reference: String,
    /// Why.
    #[source]
    pub source: Problem,
}

impl Classify for SourceError {
    fn class(&self) -> Class {
        self.source.class()
    }

    fn advice(&self) -> Option<String> {
        self.source.advice()
    }

    fn details(&self) -> Option<String> {
        self.source.details()
    }
}

/// What is wrong with an image, or with the way to it.
#[derive(Debug, Error)]
pub enum Problem {
    /// Credentials cannot be had.
    #[error("cannot get the credentials for {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialsError,
    },
    /// TLS cannot be set up.
    #[error("cannot reach {registry} over TLS")]
    Tls {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The host's proxy variables are wrong.
    #[error("cannot tell the way to the network")]
    Upstream(#[source] UpstreamError),
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The server's certificate is not to be trusted.
    #[error("the certificate of {registry} is not to be trusted: {reason}")]
    Certificate {
        /// The registry.
        registry: String,
        /// What rustls says.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {registry}: {reason}")]
    Connect {
        /// The registry.
        registry: String,
        /// The cause at the root.
        reason: String,
    },
    /// The connection broke again and again.
    #[error("{registry} did not deliver {what}, tried {attempts} times: {reason}")]
    Broken {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// How often.
        attempts: u32,
        /// Why the last time.
        reason: String,
    },
    /// It wants other credentials than it got, or any.
    #[error("{registry} refuses {what} (401): {}", if *.known { "it does not accept the credentials" } else { "it wants credentials, and there are none for it" })]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Whether there were credentials.
        known: bool,
    },
    /// The credentials are not enough.
    #[error("{registry} refuses {what} (403){}", said(.message))]
    Forbidden {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        message: String,
    },
    /// It is not there.
    #[error("{registry} does not have {what} (404){}", said(.message))]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        message: String,
    },
    /// Another status.
    #[error("{registry} answers {status} to the request for {what}{}", said(.message))]
    Status {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It does not keep to the protocol.
    #[error("{registry} does not answer as a registry does: {reason}")]
    Protocol {
        /// The registry.
        registry: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes are not those that their digest names.
    #[error("{what} has the digest {found}, and not {digest}")]
    Digest {
        /// What.
        what: String,
        /// What it should have.
        digest: String,
        /// What it has.
        found: String,
    },
    /// Not as many bytes as the manifest says.
    #[error("{what} has {found} bytes, and not {expected}")]
    Size {
        /// What.
        what: String,
        /// As the manifest says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Larger than anything that is used.
    #[error("{what} has {}, more than {}", ByteSize(*.size), ByteSize(*.most))]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The most.
        most: u64,
    },
    /// A manifest of the first schema.
    #[error("its manifest is one of schema 1, which docker gave up in 2017")]
    FirstSchema,
    /// Something else than an image.
    #[error("{what} has the type {media_type}, which is none of a container image")]
    MediaType {
        /// What.
        what: String,
        /// The media type.
        media_type: String,
    },
    /// Encrypted layers.
    #[error("{what} is encrypted")]
    Encrypted {
        /// Which layer.
        what: String,
    },
    /// It is not for this architecture.
    #[error("it is not for linux/{wanted}; it is for {}", .found.join(", "))]
    Architecture {
        /// What was wanted.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A document cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// Which.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is more than one image, or none of that name.
    #[error("{place} has {} image{}{}", if .names.is_empty() { "no" } else { "no single" }, .wanted.as_ref().map(|name| format!(" of the name {name}")).unwrap_or_default(), if .names.is_empty() { String::new() } else { format!("; it has {}", .names.join(", ")) })]
    Choice {
        /// The folder or the archive.
        place: String,
        /// The name that was asked for.
        wanted: Option<String>,
        /// Those that there are.
        names: Vec<String>,
    },
    /// An archive or folder cannot be used.
    #[error("{} is no {kind}: {reason}", .path.display())]
    Archive {
        /// The file or the folder.
        path: PathBuf,
        /// What it should be.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A layer cannot be decompressed.
    #[error("{what} cannot be unpacked")]
    Unpack {
        /// Which layer.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A decompression bomb.
    #[error("{what} unpacks to more than {}, from {}", ByteSize(*.most), ByteSize(*.packed))]
    Bomb {
        /// Which layer.
        what: String,
        /// Its size.
        packed: u64,
        /// What it was allowed to have.
        most: u64,
    },
    /// The image is larger than is allowed.
    #[error("its layers unpack to more than {}", ByteSize(*.most))]
    Unpacked {
        /// The most.
        most: u64,
    },
    /// Too little space.
    #[error("it needs {} in {}, where {} are free", ByteSize(*.needed), .path.display(), ByteSize(*.free))]
    Space {
        /// The folder.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A blob went away after it had been fetched.
    #[error("{what} is not in the store any more")]
    Gone {
        /// Which.
        what: String,
    },
    /// podman did not hand the image out.
    #[error("podman does not hand it out")]
    Podman(#[source] ChildError),
    /// docker does not answer.
    #[error("docker does not answer at {address}: {reason}")]
    Docker {
        /// Its socket.
        address: String,
        /// Why.
        reason: String,
    },
    /// docker is somewhere else.
    #[error("DOCKER_HOST is `{value}`, and only unix:// can be used")]
    DockerHost {
        /// The value.
        value: String,
    },
    /// docker has no such image.
    #[error("docker does not hand it out ({status}){}", said(.message))]
    DockerImage {
        /// The status of its answer.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The store cannot be used.
    #[error("cannot keep it in the store of downloads")]
    Store(#[source] StoreError),
    /// There is no place for temporary files.
    #[error("there is no place for temporary files")]
    Workspace(#[source] WorkspaceError),
    /// A file of ours.
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
    /// Nobody waits for the work any more.
    #[error("the work was given up")]
    GivenUp,
    /// The background task broke down.
    #[error("the work broke down")]
    Task(#[source] tokio::task::JoinError),
}

/// The message of a server, after what we say about it.
fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Problem {
    /// For `map_err` on the result of a file operation.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// With the image that it is about.
    pub(super) fn of(self, reference: &super::Reference) -> SourceError {
        SourceError { reference: reference.to_string(), source: self }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
