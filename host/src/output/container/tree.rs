//! The files of an output that is a folder.

use std::io;
use std::path::{Path, PathBuf};

/// A file of an output that is a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::output) struct File {
    /// Its path beside the manifest.
    pub(in crate::output) path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub(in crate::output) sha256: String,
}

/// The paths of all files in `folder`, relative to it, in their order.
pub(in crate::output) fn listing(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&inside))? {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort_unstable();
    Ok(files)
}
