//! The class of what is wrong with an image, and what to do about it.

use super::error::Problem;
use crate::child::ChildError;
use crate::error::{Class, Classify};

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
