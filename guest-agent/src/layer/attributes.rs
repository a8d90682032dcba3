//! What an entry of a layer says of the file that it becomes.

use super::{Entry, Kind};
use crate::tree::Place;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Owner, permissions, extended attributes and time, in this order: a change of owner takes capabilities and setuid away.
///
/// # Errors
/// When the file system does not take one of them.
pub fn apply(place: &Place<'_>, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(&place.folder, place.name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        let mode = Mode::from_bits_truncate(entry.mode);
        fchmodat(&place.folder, place.name, mode, FchmodatFlags::FollowSymlink)?;
    }
    for (name, value) in &entry.xattrs {
        match xattr::set(place.path(), OsStr::from_bytes(name), value) {
            // user.* is for files and folders only, and a layer may have been made where it was not (xattr(7)).
            Err(error) if error.raw_os_error() == Some(libc::EPERM) && !has_user_attributes(&entry.kind) => {}
            result => result?,
        }
    }
    set_time(place, entry.mtime)
}

fn has_user_attributes(kind: &Kind) -> bool {
    matches!(kind, Kind::File | Kind::Folder | Kind::Link(_))
}

/// Set the time of the last change: seconds since the Unix epoch and nanoseconds.
///
/// # Errors
/// When there is nothing.
pub fn set_time(place: &Place<'_>, (seconds, nanoseconds): (i64, u32)) -> io::Result<()> {
    let time = TimeSpec::new(seconds, nanoseconds.into());
    Ok(utimensat(&place.folder, place.name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}
