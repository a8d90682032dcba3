//! The recipe's folder, which the host shares read-only.

use super::wrong;
use crate::paths;
use crate::report::Explain;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use particle_vm_protocol::stage::MAX_READ;
use particle_vm_protocol::{Failure, FailureKind};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

/// Open a file or folder of the recipe's folder. Links may lead elsewhere in that folder, but not out of it.
///
/// # Errors
/// When it is missing or lies outside.
pub(super) fn open(path: &str, flags: OFlag) -> Result<OwnedFd, Failure> {
    let folder = nix::fcntl::open(paths::WORK, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .explain(FailureKind::Agent, || "cannot open the recipe's folder")?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&folder, path, how) {
        Err(Errno::EXDEV) => Err(wrong(format!("`{path}` lies outside of the recipe's folder"))),
        result => result.explain(FailureKind::Input, || format!("cannot open `{path}` in the recipe's folder")),
    }
}

/// What a small file of the recipe's folder contains.
///
/// # Errors
/// When it is missing, no regular file, or has more than 16 MiB.
pub(super) fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let file = File::from(open(path, OFlag::O_RDONLY)?);
    let mut content = Vec::new();
    let length = file
        .take(MAX_READ + 1)
        .read_to_end(&mut content)
        .explain(FailureKind::Input, || format!("cannot read `{path}` in the recipe's folder"))?;
    if length as u64 > MAX_READ {
        return Err(wrong(format!("`{path}` in the recipe's folder has more than {} MiB", MAX_READ >> 20)));
    }
    Ok(content)
}
