//! Why a verb failed for a reason that no other layer can tell.

use crate::apt::Reason;
use crate::boot::BootError;
use crate::child::ChildError;
use crate::error::{Class, Classify};
use crate::inspect::{Engine, Finding, Report, Severity};
use crate::recipe::Size;
use crate::vm::VmError;
use particle_vm_protocol::stage::Firmware;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a verb failed for a reason that no other layer can tell.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A stage failed after downloads had failed.
    #[error("downloads failed")]
    Network {
        /// What the proxy saw, one sentence for each URL.
        failures: Vec<String>,
        /// What the stage said.
        #[source]
        source: VmError,
    },
    /// A stage failed because its package manager does not trust what the mirror sent.
    #[error("{}", untrusted(*.reason))]
    Untrusted {
        /// What is wrong with it: the signature, a digest, the date.
        reason: Reason,
        /// What the stage said.
        #[source]
        source: VmError,
    },
    /// A stage failed after it had asked for hosts that it may not reach.
    #[error("the build asked for what its recipe does not allow")]
    Refused {
        /// What to add to the recipe.
        advice: String,
        /// What the stage said.
        #[source]
        source: VmError,
    },
    /// The image does not do what its recipe says.
    #[error("the image did not pass its tests on {firmware}{}", .fate.clause())]
    Tests {
        /// What it was booted with.
        firmware: Firmware,
        /// What becomes of it.
        fate: Fate,
        /// What was wrong.
        #[source]
        source: BootError,
    },
    /// No disk can be made of the container image as it is.
    #[error("no engine makes a disk of {} as it is: {}", .0.reference, .0.engine.reason)]
    Unfit(Box<Report>),
    /// What the image says of its disk cannot be made.
    #[error("{message}")]
    ImageDisk {
        /// What it says, and where.
        message: String,
        /// What to do.
        help: &'static str,
    },
    /// The image says more of itself than a plan has room for.
    #[error("the manifest and the configuration of the image together are longer than {}", Size(*.most))]
    Documents {
        /// Most bytes.
        most: u64,
    },
    /// The image says more of itself than a commit has room for.
    #[error("the {document} of the image has {size} bytes, and ostree takes no more than {most}")]
    Document {
        /// Its manifest or its configuration.
        document: &'static str,
        /// How many there are.
        size: usize,
        /// Most bytes.
        most: usize,
    },
    /// The image has more content than any disk has room for, or says so.
    #[error("the files of the image have {content} bytes, and no disk for more than {} is made", Size(*.most))]
    Absurd {
        /// How many there are.
        content: u64,
        /// Most bytes.
        most: u64,
    },
    /// `SOURCE_DATE_EPOCH` is no date.
    #[error("SOURCE_DATE_EPOCH is `{value}`, and no number of seconds since 1970")]
    SourceDate {
        /// What it is.
        value: String,
    },
    /// The guest says that it has written an archive where none can be.
    #[error("the VM has not written the archives that it was asked for")]
    Archives,
    /// The guest says that it has deployed what has no such checksum.
    #[error("the VM has deployed {checksum:?}, which is no checksum of a commit or of its content")]
    Deployed {
        /// How what it says begins.
        checksum: String,
    },
    /// A file for the layers of the scratch disk cannot be made.
    #[error("cannot make the layers of the scratch disk")]
    Layer(#[source] ChildError),
    /// The command line names a stage that there is not.
    #[error("the recipe has no stage `{name}`, or more than one")]
    NoStage {
        /// What it names.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file of this machine cannot be used.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What becomes of an image that does not pass its tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays where it was.
    Stays,
    /// It is put into its place all the same.
    Published,
    /// It is thrown away; the outputs of an earlier build stay.
    Discarded,
}

impl Fate {
    fn clause(self) -> &'static str {
        match self {
            Self::Stays => "",
            Self::Published => "; it was kept all the same",
            Self::Discarded => "; it was not kept",
        }
    }
}

fn untrusted(reason: Reason) -> &'static str {
    match reason {
        Reason::Signature => "a mirror's index is not signed by a key that the recipe trusts",
        reason => reason.sentence(),
    }
}

impl Classify for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Network { .. } | Self::Untrusted { .. } => Class::Network,
            Self::Refused { .. }
            | Self::Unfit(_)
            | Self::ImageDisk { .. }
            | Self::Documents { .. }
            | Self::Document { .. }
            | Self::Absurd { .. } => Class::Build,
            Self::Tests { source, .. } => source.class(),
            Self::SourceDate { .. } | Self::NoStage { .. } => Class::Usage,
            Self::Layer(error) => error.class(),
            Self::Archives | Self::Deployed { .. } => Class::Internal,
            Self::File { .. } => Class::Host,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Network { .. } => {
                Some(
                    "see whether the mirror can be reached, or name another one with --mirror; if there is a proxy on the way, set http_proxy and https_proxy: one that is set in apt.conf is not used for the VM"
                        .into(),
                )
            }
            Self::Untrusted { reason: Reason::Date, .. } => Some(
                "see whether the clock of this machine is right; `Acquire::Check-Valid-Until` of its apt is in force"
                    .into(),
            ),
            Self::Untrusted { reason: Reason::Signature, .. } => {
                Some("give the key of the archive as `keyring`, or name another mirror".into())
            }
            Self::Untrusted { .. } => {
                Some("build again: what it sent is not kept; if that does not help, name another mirror".into())
            }
            Self::Refused { advice, .. } => Some(advice.clone()),
            Self::Tests { fate: Fate::Discarded, source, .. } if source.class() == Class::Build => Some(
                "build with `--keep-failed` to get the image all the same, and look at it with `particle-vm boot --interactive`"
                    .into(),
            ),
            Self::Tests { source, .. } => source.advice(),
            Self::Unfit(report) if report.engine.candidate == Engine::Bootc => {
                Some(
                    "change the image, or leave `engine: bootc` out where the recipe says so; `particle-vm inspect --engine \
                     bootc` tells all that is in it"
                        .into(),
                )
            }
            Self::Unfit(_) => Some(
                "change the image, or write `engine: native-ostree` or `engine: plain` to go on all the same; \
                 `particle-vm inspect` tells all that is in it"
                    .into(),
            ),
            Self::ImageDisk { help, .. } => Some((*help).into()),
            Self::Documents { .. } => Some("make the image again with fewer labels and a shorter history".into()),
            Self::Document { .. } => Some(
                "make the image again with fewer layers, labels and annotations and a shorter history, or write \
                 `engine: plain` where it need not be a deployment"
                    .into(),
            ),
            Self::Absurd { .. } => {
                Some("see which of its files are as large as that; holes in files count with what they read as".into())
            }
            Self::Layer(ChildError::Spawn { .. }) => Some("install `qemu-utils`".into()),
            Self::Layer(_) => None,
            Self::NoStage { known, .. } => Some(format!("name one of these by its number: {known}")),
            Self::SourceDate { .. } => Some("unset it, or set it to what `date +%s` prints".into()),
            Self::Archives | Self::Deployed { .. } | Self::File { .. } => None,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Network { failures, source } => {
                let mut lines = failures.join("\n");
                if let Some(output) = source.details() {
                    lines.push_str("\n\n");
                    lines.push_str(&output);
                }
                Some(lines)
            }
            Self::Untrusted { source, .. } | Self::Refused { source, .. } => source.details(),
            Self::Tests { source, .. } => source.details(),
            Self::Unfit(report) => Some(unfit(report)),
            Self::Layer(error) => error.details(),
            Self::Documents { .. }
            | Self::Document { .. }
            | Self::ImageDisk { .. }
            | Self::Absurd { .. }
            | Self::SourceDate { .. }
            | Self::NoStage { .. }
            | Self::Archives
            | Self::Deployed { .. }
            | Self::File { .. } => None,
        }
    }
}

/// What keeps an image from becoming a disk, each with what to change.
fn unfit(report: &Report) -> String {
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let told = errors.map(|Finding { code, message, remedy, .. }| format!("{code}: {message}\n    {remedy}"));
    told.collect::<Vec<_>>().join("\n")
}
