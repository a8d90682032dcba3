//! Is there room for a build? Reckoned before the VM starts, for each file system that the build writes to.

use crate::error::{Class, Classify};
use bytesize::ByteSize;
use nix::sys::statvfs::statvfs;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Something that will take room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is, for people: `scratch disk`, `qcow2 image`.
    pub what: String,
    /// The folder it will be in; it need not exist yet.
    pub dir: PathBuf,
    /// The most that it will take, in bytes.
    pub bytes: u64,
    /// The flag that puts it elsewhere.
    pub flag: &'static str,
}

/// The needs of a build: the scratch disk and the unpacked layers of a container image in `work_dir`, the target disk, the
/// archives and what is made of them in `output`, and what it may fetch in `store`.
pub fn needs(
    work_dir: &Path,
    output: &Path,
    store: &Path,
    estimate: &Estimate,
    formats: &[super::Format],
) -> Vec<Need> {
    let need = |what: &str, dir: &Path, bytes, flag| Need { what: what.into(), dir: dir.to_owned(), bytes, flag };
    let mut needs = vec![
        need("scratch disk", work_dir, estimate.scratch, "--work-dir"),
        need("layers", work_dir, estimate.layers, "--work-dir"),
    ];
    if formats.is_empty() || formats.iter().any(|format| format.is_disk()) {
        needs.push(need("target disk", output, estimate.image, "--output"));
    }
    if formats.iter().any(|format| !format.is_disk()) {
        needs.push(need("archive", output, estimate.image, "--output"));
    }
    needs.push(need("packages", store, estimate.store, "XDG_CACHE_HOME"));
    // The other two are outputs themselves.
    for format in formats.iter().filter(|format| !matches!(format, super::Format::Raw | super::Format::Tar)) {
        needs.push(need(&format!("{format} image"), output, estimate.image, "--output"));
    }
    needs
}

/// How much a build will take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// On the scratch disk.
    pub scratch: u64,
    /// Of the layers of a container image, as the guest reads them.
    pub layers: u64,
    /// In each image.
    pub image: u64,
    /// In the store of what was fetched.
    pub store: u64,
}

impl From<&crate::plan::Needs> for Estimate {
    fn from(needs: &crate::plan::Needs) -> Self {
        Self {
            // The tree, and about as much again of packages and of what scripts leave for a while.
            scratch: needs.content_bytes.saturating_mul(2).min(needs.scratch_bytes),
            layers: needs.layer_bytes,
            image: needs.content_bytes,
            // A package is a third to a quarter of what it holds.
            store: needs.content_bytes / 3,
        }
    }
}

/// Why the room could not be reckoned, or is not enough.
#[derive(Debug, Error)]
pub enum SpaceError {
    /// A file system cannot be asked.
    #[error("cannot tell how much space is free for {}", .dir.display())]
    Ask {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is too little room on at least one file system.
    #[error("there is not enough disk space: {}", join(.0))]
    Shortage(Vec<Shortage>),
}

/// A file system with too little room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// What is free for an ordinary user, in bytes.
    pub free: u64,
    /// What shall lie there.
    pub needs: Vec<Need>,
}

impl Shortage {
    fn needed(&self) -> u64 {
        total(&self.needs)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.needs.first().map(|need| need.dir.display().to_string()).unwrap_or_default();
        write!(f, "{} free at {dir}, {} needed (", ByteSize(self.free), ByteSize(self.needed()))?;
        for (index, need) in self.needs.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", need.what, ByteSize(need.bytes))?;
        }
        f.write_str(")")
    }
}

fn join(shortages: &[Shortage]) -> String {
    shortages.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Classify for SpaceError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        let Self::Shortage(shortages) = self else { return None };
        let mut flags: Vec<_> = shortages.iter().flat_map(|shortage| &shortage.needs).map(|need| need.flag).collect();
        flags.sort_unstable();
        flags.dedup();
        Some(format!("free some space, or name a folder on another file system with {}", flags.join(" or ")))
    }
}

/// Compare the needs with what is free, adding up what comes to lie on the same file system.
///
/// # Errors
/// When a file system cannot be asked or has too little room.
pub fn check(needs: &[Need]) -> Result<(), SpaceError> {
    let mut filesystems: Vec<(u64, Shortage)> = Vec::new();
    for need in needs.iter().filter(|need| need.bytes > 0) {
        let failed = |source| SpaceError::Ask { dir: need.dir.clone(), source };
        let dir = existing(&need.dir);
        let device = std::fs::metadata(dir).map_err(failed)?.dev();
        if let Some((_, there)) = filesystems.iter_mut().find(|(known, _)| *known == device) {
            there.needs.push(need.clone());
        } else {
            let free = free(dir).map_err(failed)?;
            filesystems.push((device, Shortage { free, needs: vec![need.clone()] }));
        }
    }
    let short: Vec<_> = filesystems.into_iter().map(|(_, all)| all).filter(|all| all.needed() > all.free).collect();
    if short.is_empty() { Ok(()) } else { Err(SpaceError::Shortage(short)) }
}

/// What is free for an ordinary user on the file system of `dir`, in bytes.
///
/// # Errors
/// When there is no such folder or its file system cannot be asked.
pub fn free(dir: &Path) -> io::Result<u64> {
    let stat = statvfs(dir)?;
    // The types of these fields differ between architectures.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}

fn total(needs: &[Need]) -> u64 {
    needs.iter().fold(0, |sum, need| sum.saturating_add(need.bytes))
}

/// The nearest folder above `dir` that exists.
pub fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn needs_on_one_file_system_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let free = free(dir.path()).unwrap();
        let estimate = Estimate { scratch: free / 2, layers: 0, image: free / 2, store: 0 };
        let of = |formats: &[Format]| needs(&dir.path().join("not/yet"), dir.path(), dir.path(), &estimate, formats);
        // Other processes write there too: half and half may be just too much, a quarter more is for certain.
        let error = check(&of(&[Format::Raw, Format::Qcow2])).unwrap_err();
        let SpaceError::Shortage(short) = &error else { panic!("{error}") };
        assert_eq!(short.len(), 1);
        assert_eq!(short[0].needs.len(), 3, "{short:?}");
        assert!(error.to_string().contains("qcow2 image"), "{error}");
        assert_eq!(
            error.advice().unwrap(),
            "free some space, or name a folder on another file system with --output or --work-dir"
        );
    }

    #[test]
    fn layers_take_their_room_in_the_work_folder() {
        let dir = tempfile::tempdir().unwrap();
        let layers = free(dir.path()).unwrap().saturating_mul(2);
        let estimate = Estimate { scratch: 0, layers, image: 0, store: 0 };
        let error = check(&needs(dir.path(), dir.path(), dir.path(), &estimate, &[])).unwrap_err();
        assert!(error.to_string().contains("(layers "), "{error}");
        assert!(error.advice().unwrap().ends_with("with --work-dir"));
    }

    #[test]
    fn enough_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let estimate = Estimate { scratch: 4096, layers: 4096, image: 4096, store: 4096 };
        check(&needs(dir.path(), dir.path(), dir.path(), &estimate, &[Format::Raw])).unwrap();
    }

    #[test]
    fn a_size_that_no_number_holds_is_a_shortage() {
        let dir = tempfile::tempdir().unwrap();
        let estimate = Estimate { scratch: u64::MAX, layers: 0, image: u64::MAX, store: 0 };
        assert!(check(&needs(dir.path(), dir.path(), dir.path(), &estimate, &[])).is_err());
    }

    #[test]
    fn a_shortage_is_told_with_figures() {
        let need = |what: &str, bytes| Need { what: what.into(), dir: "/work".into(), bytes, flag: "--work-dir" };
        let needs = vec![need("scratch disk", 3 << 30), need("qcow2 image", 1 << 30)];
        let error = SpaceError::Shortage(vec![Shortage { free: 5 << 29, needs }]);
        assert_eq!(
            error.to_string(),
            "there is not enough disk space: 2.5 GiB free at /work, 4.0 GiB needed (scratch disk 3.0 GiB, qcow2 image 1.0 \
             GiB)"
        );
    }

    #[test]
    fn a_relative_folder_that_does_not_exist_is_here() {
        assert_eq!(existing(Path::new("no-such-folder/x")), Path::new("."));
    }
}
