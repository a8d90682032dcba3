//! What the layers' errors have in common: a class that decides the exit code, and advice.

use std::error::Error as StdError;
use std::fmt;

/// Classes of failure. The exit codes are documented and stable (`particle-vm --help`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The build failed: a stage, the guest, the image.
    Build,
    /// The command line or the recipe is wrong.
    Usage,
    /// The host lacks something: QEMU, acceleration, space, memory, a permission.
    Host,
    /// A mirror, a registry or a package could not be fetched or not be trusted.
    Network,
    /// A defect of particle-vm itself.
    Internal,
    /// A signal asked for the end.
    Interrupted,
}

impl Class {
    /// The exit code of a process that ends with an error of this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Build => 1,
            Self::Usage => 2,
            Self::Host => 3,
            Self::Network => 4,
            Self::Internal => 5,
            Self::Interrupted => 130,
        }
    }

    /// The name in JSON output and error reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Usage => "usage",
            Self::Host => "host",
            Self::Network => "network",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An error of one layer that knows its class and what the user can do.
pub trait Classify: StdError + Send + Sync + 'static {
    /// The class of the failure.
    fn class(&self) -> Class;

    /// What to do about it, in one or two sentences; a command or a flag where there is one.
    fn advice(&self) -> Option<String> {
        None
    }

    /// Text that belongs to the error and has lines of its own: the last output of a stage, a tool's standard error,
    /// the guest's console.
    fn details(&self) -> Option<String> {
        None
    }
}

/// Any layer's error on its way to the user.
#[derive(Debug)]
pub struct Error(Box<dyn Classify>);

/// A result with that error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error itself, to look at its class, its advice and its sources.
    pub fn get(&self) -> &dyn Classify {
        self.0.as_ref()
    }

    /// The error and its sources, outermost first.
    pub fn chain(&self) -> impl Iterator<Item = String> {
        let first: &(dyn StdError + 'static) = self.0.as_ref();
        std::iter::successors(Some(first), |error| (*error).source()).map(ToString::to_string)
    }
}

impl<E: Classify> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain: Vec<_> = self.chain().collect();
        f.write_str(&chain.join(": "))
    }
}
