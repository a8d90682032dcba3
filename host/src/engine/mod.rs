//! The verbs as library functions: what is done in which order. They emit events and know nothing of terminals.

mod base;
pub mod boot;
mod build;
mod contents;
mod error;
mod explain;
mod host;
mod look;
mod prepare;
mod scratch;
pub mod shell;
mod stages;

pub use build::{Build, Made};
pub use error::{EngineError, Fate};
pub use host::{Host, Sources};
pub use look::look;

pub use prepare::{Input, Options, Prepared, Reuse, default_output, prepare};
pub use stages::explain;
