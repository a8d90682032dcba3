//! The archives that the guest hands to the host: what containers and OSTree repositories are made of.
//!
//! They lie on a disk of their own ([`crate::serial::ARCHIVE`]), one behind the other, without a file system: the guest
//! writes them as one stream, and the host neither mounts anything nor believes what is in them.

use serde::{Deserialize, Serialize};

/// Each archive begins at a multiple of this many bytes, so that no two share a block of a file.
pub const ALIGNMENT: u64 = 1 << 20;

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveKind {
    /// The finished tree, as a tar archive in the pax format (POSIX.1-2024, pax, "pax Interchange Format").
    Tree,
    /// The OSTree repository of the build, as a tar archive of regular files and folders.
    Repository,
}

impl ArchiveKind {
    /// What the step is called that writes it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tree => "archive",
            Self::Repository => "commit",
        }
    }
}

/// An archive that has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// What it holds.
    pub kind: ArchiveKind,
    /// Where it begins on the disk, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl Archive {
    /// Whether it lies on a disk of `size` bytes, behind what ends at `after`. The guest says where it is; the host looks
    /// there only when this holds.
    pub fn lies_within(&self, after: u64, size: u64) -> bool {
        self.offset >= after && self.offset.checked_add(self.length).is_some_and(|end| end <= size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_leaves_its_disk_is_found_out() {
        let archive = |offset, length| Archive { kind: ArchiveKind::Tree, offset, length };
        assert!(archive(0, 10).lies_within(0, 10) && archive(4, 6).lies_within(4, 10));
        for (offset, length) in [(0, 11), (3, 1), (10, 1), (u64::MAX, 2)] {
            assert!(!archive(offset, length).lies_within(4, 10), "{offset} {length}");
        }
    }
}
