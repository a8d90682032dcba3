//! The folders that builds write to.

use super::{Check, Request};
use crate::output::space;
use bytesize::ByteSize;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use std::path::Path;

/// The appliance, what its making takes, and the packages of one image.
const CACHE: u64 = 3 << 30;

/// The scratch disk of a build of a small server.
const WORK: u64 = 3 << 30;

/// The disk image of a small server and one conversion of it.
const OUTPUT: u64 = 3 << 30;

/// One check for each folder.
pub(super) fn checks(request: &Request) -> Vec<Check> {
    let work = request.work_dir.clone().unwrap_or_else(|| request.dirs.work());
    vec![
        folder("cache", &request.dirs.store(), CACHE, "set XDG_CACHE_HOME to a folder on another file system"),
        folder("work folder", &work, WORK, "name a folder on another file system with --work-dir"),
        folder("output folder", &request.output, OUTPUT, "name a folder on another file system with --output"),
    ]
}

fn folder(name: &'static str, path: &Path, wanted: u64, elsewhere: &str) -> Check {
    let there = space::existing(path);
    let shown = there.display();
    // Permissions alone do not tell: the file system may be read-only, or over its quota. The file has no name.
    if let Err(error) = tempfile::tempfile_in(there) {
        let mend = format!("make {shown} a folder that you can write to, or {elsewhere}");
        return Check::problem(name, format!("{shown} cannot be written to: {error}"), mend);
    }
    let free = match space::free(there) {
        Ok(free) => free,
        Err(error) => {
            return Check::problem(name, format!("{shown} cannot be asked for its space: {error}"), elsewhere);
        }
    };
    let finding = format!("{} free at {shown}", ByteSize(free).display().iec());
    if free < wanted {
        let wanted = ByteSize(wanted).display().iec();
        let finding = format!("{finding}; a small build wants {wanted}");
        return Check::warning(name, finding, format!("free some, or {elsewhere}"));
    }
    if statfs(there).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC) {
        return Check::warning(name, format!("{finding}, which is memory (tmpfs)"), elsewhere);
    }
    Check::ok(name, finding)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_without_room_is_told_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let check = folder("cache", &dir.path().join("not/yet"), u64::MAX, "go elsewhere");
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.finding.contains("free at"), "{}", check.finding);
        assert_eq!(check.mend.unwrap(), "free some, or go elsewhere");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_a_problem() {
        // Not even root writes to it.
        let check = folder("output folder", Path::new("/proc/1/x"), 0, "go elsewhere");
        assert_eq!(check.verdict, Verdict::Problem);
        assert!(check.finding.contains("cannot be written to"), "{}", check.finding);
    }
}
