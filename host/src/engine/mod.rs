//! The verbs as library functions: what is done in which order. They emit events and know nothing of terminals.

mod host;
mod prepare;

pub use host::Sources;
pub use prepare::{Options, Prepared, default_output, prepare};
