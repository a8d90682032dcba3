//! Failures as the host gets them.

use crate::paths;
use crate::process::ProcessError;
use nix::sys::statvfs::statvfs;
use particle_vm_protocol::{Failure, FailureKind};
use std::error::Error;
use std::io;

/// Below this many free bytes a file system counts as full.
const NEARLY_FULL: u64 = 1 << 20;

/// A failure that tells of `error` and its sources, one line for each.
///
/// When the reason is a full disk, the kind says so, whatever `kind` is.
pub fn failure(kind: FailureKind, error: &(dyn Error + 'static)) -> Failure {
    let levels = || std::iter::successors(Some(error), |error| (*error).source());
    let no_space = levels().any(|error| {
        error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::ENOSPC)
            || error.downcast_ref::<nix::Error>() == Some(&nix::Error::ENOSPC)
    });
    let kind = if no_space { full_disk(true).unwrap_or(kind) } else { kind };
    let message = levels().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Failure { kind, stage: None, message, output: Vec::new() }
}

/// Makes failures of errors, with a line about what was being done.
pub trait Explain<T> {
    /// `what` goes before the error's own lines, for instance `cannot write /etc/fstab`.
    ///
    /// # Errors
    /// The failure, when this is an error.
    fn explain<W: Into<String>>(self, kind: FailureKind, what: impl FnOnce() -> W) -> Result<T, Failure>;
}

impl<T, E: Error + 'static> Explain<T> for Result<T, E> {
    fn explain<W: Into<String>>(self, kind: FailureKind, what: impl FnOnce() -> W) -> Result<T, Failure> {
        self.map_err(|error| {
            let failure = failure(kind, &error);
            Failure { message: format!("{}\n{}", what().into(), failure.message), ..failure }
        })
    }
}

/// Say on the console what nobody else will hear of.
pub fn complain(error: &(dyn Error + 'static)) {
    eprintln!("particle-vm agent: {}", failure(FailureKind::Agent, error).message.replace('\n', ": "));
}

/// A failure without an error below it.
pub fn plain(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, stage: None, message: message.into(), output: Vec::new() }
}

/// What a command's end means. `output` are its last lines.
pub(crate) fn of_command(error: &ProcessError, output: Vec<String>) -> Failure {
    let kind = match error {
        // A full disk may show as a killed process, want of memory hardly as a full disk.
        ProcessError::Failed { out_of_memory: 1.., .. } => FailureKind::OutOfMemory,
        ProcessError::Failed { .. } => full_disk(tells_of_full_disk(&output)).unwrap_or(FailureKind::Command),
        ProcessError::Deadline { .. } => FailureKind::Deadline,
        ProcessError::Cancelled { .. } => FailureKind::Cancelled,
        ProcessError::Spawn { source, .. } => match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => FailureKind::Command,
            _ => FailureKind::Agent,
        },
        ProcessError::Wait { .. } => FailureKind::Agent,
    };
    Failure { output, ..failure(kind, error) }
}

/// Whether a command complained about a full disk; its messages are in the C locale.
fn tells_of_full_disk(output: &[String]) -> bool {
    let complaints = ["No space left on device", "enough free space in"];
    output.iter().any(|line| complaints.iter().any(|complaint| line.contains(complaint)))
}

/// Which disk is full, if one is. With `complained`, something has said that one is, and then the one in use is it even
/// if there is room again: programs remove what they could not write to its end.
fn full_disk(complained: bool) -> Option<FailureKind> {
    let target = target_mounts();
    if nearly_full(paths::SCRATCH) {
        Some(FailureKind::ScratchFull)
    } else if target.iter().any(|mount| nearly_full(mount)) {
        Some(FailureKind::TargetFull)
    } else if complained {
        Some(if target.is_empty() { FailureKind::ScratchFull } else { FailureKind::TargetFull })
    } else {
        None
    }
}

/// Where file systems of the target disk are mounted.
fn target_mounts() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = format!("{}/", paths::TARGET);
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    // What a chroot mounts below (/proc, /sys, /dev) is as good as never full, or says 0 of 0.
    points.filter(|point| point == paths::TARGET || point.starts_with(&below)).collect()
}

/// Whether a file system has next to no space or no file left. Root may use what is reserved for it.
fn nearly_full(mount: &str) -> bool {
    let Ok(state) = statvfs(mount) else { return false };
    // /proc and the like have no blocks, Btrfs and FAT count no files.
    let bytes = state.blocks() > 0 && state.blocks_free() * state.fragment_size() < NEARLY_FULL;
    let files = state.files() > 0 && state.files_free() == 0;
    bytes || files
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("cannot do it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn each_level_is_a_line_outermost_first() {
        let error: Result<(), _> = Err(Outer(io::Error::from(io::ErrorKind::NotFound)));
        let failure = error.explain(FailureKind::Input, || "cannot copy x").unwrap_err();
        assert_eq!(failure.message, "cannot copy x\ncannot do it\nentity not found");
        assert_eq!(failure.kind, FailureKind::Input);
    }

    #[test]
    fn want_of_space_is_told_from_other_errors() {
        let error = Outer(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(failure(FailureKind::Agent, &error).kind, FailureKind::ScratchFull);
        let error = Outer(io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(failure(FailureKind::Agent, &error).kind, FailureKind::Agent);
    }

    #[test]
    fn a_complaint_of_a_tool_is_understood() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(tells_of_full_disk(&lines("x\ncp: error writing 'a': No space left on device\ny")));
        assert!(tells_of_full_disk(&lines("E: You don't have enough free space in /var/cache/apt/archives/.")));
        assert!(!tells_of_full_disk(&lines("E: Unable to locate package space")));
    }
}
