//! What of a recipe could not be read. That has been told; the checks of values see a stand-in for it, and what they
//! find about that one is nobody's mistake.

use super::path::Path;
use std::collections::BTreeSet;

/// The places of a recipe that could not be read.
#[derive(Debug, Default)]
pub struct Unread {
    values: BTreeSet<Path>,
    // Where something right below is missing or unknown.
    around: BTreeSet<Path>,
}

impl Unread {
    /// The value at `path` is missing or cannot be read.
    pub fn value(&mut self, path: Path) {
        if let Some((above, _)) = path.split_last() {
            self.around.insert(above);
        }
        self.values.insert(path);
    }

    /// The mapping at `path` has a key that nobody knows; perhaps it stands for one that seems to be missing.
    pub fn unknown_key(&mut self, path: &Path) {
        self.around.insert(path.clone());
    }

    /// Whether a finding about the value at `path` would be one about a stand-in.
    pub fn covers(&self, path: &Path) -> bool {
        self.around.contains(path) || path.prefixes().any(|above| self.values.contains(&above))
    }

    /// Whether the value at `path` was read with everything in it.
    pub fn spares(&self, path: &Path) -> bool {
        // Paths are in order, so that what lies below one comes right behind it.
        let below = |all: &BTreeSet<Path>| all.range(path..).next().is_some_and(|first| first.starts_with(path));
        !self.covers(path) && !below(&self.values) && !below(&self.around)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unread_covers_what_depends_on_it() {
        let top = Path::root();
        let (disk, size) = (top.key("disk"), top.key("disk").key("size"));
        let mut unread = Unread::default();
        assert!(unread.spares(&top) && !unread.covers(&size));
        unread.value(size.clone());
        assert!(unread.covers(&size) && unread.covers(&disk) && unread.covers(&size.index(0)));
        assert!(!unread.covers(&disk.key("filesystem")) && !unread.covers(&top));
        assert!(!unread.spares(&disk) && !unread.spares(&top));
        assert!(unread.spares(&disk.key("filesystem")) && unread.spares(&top.key("output")));
        unread.unknown_key(&top.key("output"));
        assert!(unread.covers(&top.key("output")) && !unread.covers(&top.key("output").key("formats")));
    }
}
