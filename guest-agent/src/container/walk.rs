//! All that is in a tree, in an order that does not depend on the file system.

use super::ArchiveError;
use crate::layer::MOUNTED_OVER;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Visits what is in the tree at `root`, a folder before what it contains, and names in the order of their bytes. The
/// root itself comes first, as an empty path. Paths are relative to the root, and no link is followed.
///
/// # Errors
/// When a folder cannot be read, and what `visit` fails with.
pub(super) fn walk(
    root: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    enter(root, Path::new(""), visit)
}

fn enter(
    root: &Path,
    inside: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let path = root.join(inside);
    let data = fs::symlink_metadata(&path).map_err(ArchiveError::read(inside))?;
    visit(inside, &data)?;
    if !data.is_dir() || MOUNTED_OVER.iter().any(|empty| inside.as_os_str() == *empty) {
        return Ok(());
    }
    let names: io::Result<Vec<OsString>> =
        fs::read_dir(&path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names = names.map_err(ArchiveError::read(inside))?;
    names.sort_unstable_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    names.iter().try_for_each(|name| enter(root, &inside.join(name), visit))
}

/// The newest time of a file that is older than `begin`, in seconds since the Unix epoch. Packages bring the times of
/// their files along, and what a build writes itself is not older than its begin: what remains is the date of the newest
/// package.
///
/// # Errors
/// When the tree cannot be read.
pub(super) fn newest_before(
    root: &Path,
    begin: u64,
    check: &dyn Fn() -> Result<(), ArchiveError>,
) -> Result<u64, ArchiveError> {
    let mut newest = 0;
    walk(root, &mut |_, data| {
        check()?;
        let time = u64::try_from(data.mtime()).unwrap_or(0);
        if data.is_file() && time < begin {
            newest = newest.max(time);
        }
        Ok(())
    })?;
    Ok(newest)
}
