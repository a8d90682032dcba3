//! What a build leaves behind: disk images, their checksums, the manifest and the log.

mod container;
mod convert;
mod digest;
mod error;
mod folder;
mod format;
mod layout;
pub mod manifest;
mod record;
pub mod space;

pub use container::Contents;
pub(crate) use digest::digest;
pub use error::OutputError;
pub use folder::{Others, OutputFolder};
pub use format::Format;
pub use layout::Layout;
pub use manifest::Manifest;
pub use record::Record;
