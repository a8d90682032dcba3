//! The verbs as library functions: what is done in which order. They emit events and know nothing of terminals.

mod base;
pub mod boot;
mod build;
mod contents;
mod error;
mod explain;
mod files;
mod host;
mod look;
mod prepare;
pub mod shell;

pub use build::{Build, Made};
pub use error::{EngineError, Fate};
pub use host::{Host, Sources};
pub use look::look;
pub use prepare::{Input, Options, Prepared, default_output, prepare};
