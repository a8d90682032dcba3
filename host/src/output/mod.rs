//! What a build leaves behind: disk images, their checksums, the manifest and the log.

mod format;

pub use format::Format;
