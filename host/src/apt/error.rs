//! What goes wrong with apt, told apart by its messages.

use crate::child::ChildError;
use crate::error::{Class, Classify};
use crate::workspace::WorkspaceError;
use std::io;
use thiserror::Error;

/// Why apt did not do its work.
#[derive(Debug, Error)]
pub enum AptError {
    /// There is no apt on this host.
    #[error("this host has no apt-get")]
    Missing,
    /// A mirror that was named cannot be one.
    #[error("{uri:?} is no mirror: {reason}")]
    BadMirror {
        /// What was named.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host's apt sources name no mirror of Debian.
    #[error("the apt sources of this host name no http or https mirror of Debian")]
    NoMirror,
    /// apt-get refused or could not do something.
    #[error("{}", .reason.sentence())]
    Refused {
        /// What kind of failure it is.
        reason: Reason,
        /// Everything it wrote to stderr.
        stderr: String,
    },
    /// The tool could not be run, did not end, or could not read its configuration.
    #[error("apt does not run")]
    Tool(#[source] ChildError),
    /// There is no place for what apt fetches.
    #[error("no place for what apt fetches")]
    Workspace(#[source] WorkspaceError),
    /// What a tool printed is not what is expected of it.
    #[error("{tool} printed something unexpected: {line:?}")]
    Output {
        /// The tool.
        tool: &'static str,
        /// The line.
        line: String,
    },
}

/// Kinds of failure that apt's messages tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The signature of an index is missing, bad, or by a key that is not trusted.
    Signature,
    /// A file is not the one that the signed index names.
    Hash,
    /// The index is too old, or from the future.
    Date,
    /// The index is signed, and that of another suite.
    Suite,
    /// A server does not answer, or does not have the file.
    Unreachable,
    /// The mirror lacks a package, or one that it depends on.
    Packages,
    /// No space is left.
    Full,
    /// Anything else.
    Other,
}

/// Messages of apt 2.6 and 3.0 (apt-pkg/acquire-item.cc, methods/, apt-pkg/contrib/error.cc), in the order in which
/// they decide: a wrong signature is also reported as a failure to fetch.
const MESSAGES: [(Reason, &[&str]); 7] = [
    (Reason::Full, &["No space left on device", "Disk quota exceeded", "don't have enough free space"]),
    (
        Reason::Signature,
        &[
            "GPG error",
            "OpenPGP signature verification failed",
            "is not signed",
            "no longer signed",
            "NO_PUBKEY",
            "BADSIG",
            "signatures were invalid",
            "signatures couldn't be verified",
            "Missing key",
            "Clearsigned file isn't valid",
            "Splitting up",
        ],
    ),
    // The agent's; apt itself goes on, with a warning.
    (Reason::Suite, &["is the index of another suite"]),
    (Reason::Date, &["is not valid yet", "is expired", "is not yet valid"]),
    (Reason::Hash, &["Hash Sum mismatch", "has unexpected size", "Hashes of received file", "Writing more data than"]),
    (Reason::Packages, &["Unable to locate package", "unmet dependencies", "has no installation candidate"]),
    (
        Reason::Unreachable,
        &[
            "Failed to fetch",
            "Could not resolve",
            "Temporary failure resolving",
            "Could not connect",
            "Cannot initiate the connection",
            "Unable to connect",
            "Connection failed",
            "Connection timed out",
            "does not have a Release file",
        ],
    ),
];

impl Reason {
    /// What apt's standard error tells.
    pub fn of(stderr: &str) -> Self {
        let told = |(_, messages): &&(Self, &[&str])| messages.iter().any(|message| stderr.contains(message));
        MESSAGES.iter().find(told).map_or(Self::Other, |(reason, _)| *reason)
    }

    /// The failure in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Signature => "the index of the mirror is not signed by Debian's archive keys",
            Self::Hash => "the mirror sends a file that is not the one its signed index names",
            Self::Suite => "the mirror serves another suite in the place of the one that was asked for",
            Self::Date => "the index of the mirror is outside its time of validity",
            Self::Unreachable => "the mirror cannot be reached, or lacks a file",
            Self::Packages => "the mirror lacks a package",
            Self::Full => "no space is left for apt",
            Self::Other => "apt-get failed",
        }
    }
}

impl From<ChildError> for AptError {
    fn from(error: ChildError) -> Self {
        match error {
            ChildError::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => Self::Missing,
            ChildError::Failed { stderr, .. } => Self::Refused { reason: Reason::of(&stderr), stderr },
            error => Self::Tool(error),
        }
    }
}

impl Classify for AptError {
    fn class(&self) -> Class {
        match self {
            Self::BadMirror { .. } => Class::Usage,
            Self::Refused { reason: Reason::Full | Reason::Other, .. } => Class::Host,
            Self::Refused { .. } => Class::Network,
            Self::Missing | Self::NoMirror | Self::Tool(_) | Self::Workspace(_) | Self::Output { .. } => Class::Host,
        }
    }

    fn advice(&self) -> Option<String> {
        let advice = match self {
            Self::Missing => {
                "build the appliance on a machine that has apt with `particle-vm appliance export`, and give it with \
                 `--appliance FILE` or `particle-vm appliance import FILE`"
            }
            Self::BadMirror { .. } => "name one as in apt's sources, for instance `--mirror http://HOST/debian`",
            Self::NoMirror => "name one with `--mirror http://HOST/debian` or PARTICLE_VM_MIRROR",
            Self::Refused { reason, .. } => match reason {
                Reason::Signature => "use another mirror: what this one serves is not Debian's archive, or was altered",
                Reason::Suite => "use another mirror: what this one serves is another release of Debian",
                Reason::Hash => "try again: the mirror may be in the middle of its update; or name another `--mirror`",
                Reason::Date => {
                    "check the clock of this machine; where it is right on purpose, set \
                     `Acquire::Check-Valid-Until \"false\";` in the host's apt configuration"
                }
                Reason::Unreachable => "check the network and its proxy, or name another `--mirror`",
                Reason::Packages => "name another `--mirror`: this one is not a whole one",
                Reason::Full => "make room in the cache folder, or point XDG_CACHE_HOME at a larger file system",
                Reason::Other => return None,
            },
            Self::Tool(ChildError::Failed { .. }) => {
                "mend the configuration of apt on this host, in /etc/apt/apt.conf.d"
            }
            Self::Tool(error) => return error.advice(),
            Self::Workspace(error) => return error.advice(),
            Self::Output { .. } => return None,
        };
        Some(advice.into())
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Refused { stderr, .. } => Some(stderr.clone()),
            Self::Tool(error) => error.details(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_both_versions_of_apt_are_told_apart() {
        let cases = [
            (
                "W: GPG error: http://m trixie InRelease: The following signatures couldn't be verified because the public \
                 key is not available: NO_PUBKEY 1\nE: The repository 'http://m trixie InRelease' is not signed.",
                Reason::Signature,
            ),
            (
                "W: OpenPGP signature verification failed: http://m trixie InRelease: Sub-process /usr/bin/sqv returned an \
                 error code (1), error message is: Missing key 04B5",
                Reason::Signature,
            ),
            ("E: Failed to fetch http://m/x.deb  Hash Sum mismatch\n   Hashes of expected file:", Reason::Hash),
            (
                "E: Failed to fetch http://m/x.deb  File has unexpected size (1 != 2). Mirror sync in progress?",
                Reason::Hash,
            ),
            ("E: Release file for http://m/InRelease is expired (invalid since 3d).", Reason::Date),
            (
                "E: Failed to fetch http://m/x  Could not connect to m:80 (127.0.0.1). - connect (111)",
                Reason::Unreachable,
            ),
            ("E: The repository 'http://m trixie Release' does not have a Release file.", Reason::Unreachable),
            ("E: Unable to locate package nosuch", Reason::Packages),
            ("E: Write error - write (28: No space left on device)\nE: Failed to fetch http://m", Reason::Full),
            ("E: Something new", Reason::Other),
        ];
        for (stderr, reason) in cases {
            assert_eq!(Reason::of(stderr), reason, "{stderr}");
        }
    }
}
