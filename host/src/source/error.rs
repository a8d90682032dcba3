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

impl Classify for Problem {
    fn class(&self) -> Class {
        match self {
            Self::Credentials { source, .. } => source.class(),
            Self::Tls { source, .. } => source.class(),
            Self::Upstream(source) => source.class(),
            Self::Store(source) => source.class(),
            Self::Workspace(source) => source.class(),
            Self::Archive { .. } | Self::Choice { .. } => Class::Usage,
            Self::Podman(_)
            | Self::Docker { .. }
            | Self::DockerHost { .. }
            | Self::Space { .. }
            | Self::Gone { .. }
            | Self::Io { .. } => Class::Host,
            Self::GivenUp => Class::Interrupted,
            Self::Client(_) | Self::Task(_) => Class::Internal,
            _ => Class::Network,
        }
    }

    fn advice(&self) -> Option<String> {
        let said = match self {
            Self::Credentials { source, .. } => return source.advice(),
            Self::Tls { source, .. } => return source.advice(),
            Self::Upstream(source) => return source.advice(),
            Self::Store(source) => return source.advice(),
            Self::Workspace(source) => return source.advice(),
            Self::Certificate { registry, .. } => {
                return Some(format!(
                    "if it is yours, make its authority known: in the system's certificates, in a file that SSL_CERT_FILE \
                     names, or in /etc/containers/certs.d/{registry}/ca.crt"
                ));
            }
            Self::Connect { .. } => {
                "see that the registry is up and its name is right; a registry without TLS needs --plain-http"
            }
            Self::Broken { .. } | Self::Size { .. } => {
                "try again: what has arrived whole is kept; if it stays so, the registry or the network is at fault"
            }
            Self::Unauthorized { registry, .. } => {
                return Some(format!(
                    "log in with `podman login {registry}`, `skopeo login` or `docker login`, or name a file with \
                     credentials with --authfile; a registry may also say so of an image that is not there"
                ));
            }
            Self::Forbidden { .. } => "log in as a user that may pull it",
            Self::NotFound { .. } => "see that the name and the tag are right: `skopeo list-tags docker://HOST/NAME`",
            Self::Status { status: 429, .. } => "it wants fewer requests: log in, or try again later",
            Self::Status { status: 500.., .. } => "try again later: the registry has a problem of its own",
            Self::Status { .. } | Self::Protocol { .. } => "see that it is the address of a registry",
            Self::Digest { .. } => "do not use it: it was changed on its way or where it is kept; push it again",
            Self::TooLarge { .. } | Self::Unpacked { .. } => {
                "if the image is meant to be so large, say so with --max-image-size"
            }
            Self::FirstSchema => "push it again with a tool of this decade: `skopeo copy --format v2s2`",
            Self::MediaType { .. } => "name a container image: artifacts, charts and signatures are none",
            Self::Encrypted { .. } => "decrypt it first: `skopeo copy --decryption-key`",
            Self::Architecture { .. } => "name an image that is built for this architecture too",
            Self::Malformed { .. } | Self::Unpack { .. } => "build or push the image anew",
            Self::Choice { names, .. } if names.is_empty() => "name another folder or archive",
            Self::Choice { .. } => "name one of them, after the path and a colon",
            Self::Archive { .. } => "write it anew, for instance with `skopeo copy`",
            Self::Bomb { .. } => {
                "no system looks like that; if this one does, push its layers uncompressed: `skopeo copy \
                 --dest-decompress`"
            }
            Self::Space { .. } => "make room there, or point XDG_CACHE_HOME at a larger file system",
            Self::Gone { .. } => "try again, and leave `particle-vm cache prune` for afterwards",
            Self::Podman(ChildError::Spawn { .. }) => {
                "install podman, or save the image where it is and name the archive: `podman save --format oci-archive`"
            }
            Self::Podman(ChildError::Deadline { .. }) => "see whether `podman save` works for it at all",
            Self::Podman(_) => "see that `podman images` lists it for this user",
            Self::Docker { .. } => {
                "start docker, be in the group of its socket, or set DOCKER_HOST=unix://PATH; or save the image and name \
                 the archive: `docker save`"
            }
            Self::DockerHost { .. } => "save the image where it is and name the archive: `docker save`",
            Self::DockerImage { .. } => "see that `docker images` lists it",
            Self::Io { source, .. } if crate::source::is_full(source) => {
                "make room there, or point XDG_CACHE_HOME at a larger file system"
            }
            _ => return None,
        };
        Some(said.into())
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Podman(source) => source.details(),
            Self::Credentials { source, .. } => source.details(),
            _ => None,
        }
    }
}
