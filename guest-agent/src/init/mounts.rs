//! The file systems of the appliance that do not lie on a disk.

use crate::paths;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use particle_vm_protocol::share;
use std::fs;
use std::io;
use std::path::Path;
use thiserror::Error;

/// Why something is not mounted.
#[derive(Debug, Error)]
#[error("cannot mount {what} at {point}")]
pub struct MountError {
    /// The file system.
    pub what: String,
    /// Where.
    pub point: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// One mount.
pub(super) struct Entry {
    point: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const fn entry(point: &'static str, kind: &'static str, flags: MsFlags, data: &'static str) -> Entry {
    Entry { point, kind, flags, data }
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// In the initramfs; they move into the root file system with what is mounted beneath them. `favordynmods` makes
/// entering a control group cheap: each command does so, and nothing else here forks often.
pub(super) const EARLY: &[Entry] = &[
    entry("/proc", "proc", SAFE, ""),
    entry("/sys", "sysfs", SAFE, ""),
    entry("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
    entry("/sys/fs/cgroup", "cgroup2", SAFE, "favordynmods"),
];

/// In the root file system.
pub(super) const LATE: &[Entry] = &[
    entry("/dev/pts", "devpts", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC), "gid=5,mode=0620,ptmxmode=0666"),
    entry("/dev/shm", "tmpfs", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), "mode=1777"),
    entry("/run", "tmpfs", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), "mode=0755"),
];

/// Mount a table of entries.
pub(super) fn mount_all(entries: &[Entry]) -> Result<(), MountError> {
    entries.iter().try_for_each(|Entry { point, kind, flags, data }| {
        make_and_mount(kind, Path::new(point), Some(kind), *flags, data)
    })
}

/// Mount something, making the folder for it.
pub(super) fn make_and_mount(
    source: &str,
    point: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: &str,
) -> Result<(), MountError> {
    let data = (!data.is_empty()).then_some(data);
    fs::create_dir_all(point)
        .and_then(|()| mount(Some(source), point, kind, flags, data).map_err(Errno::into))
        .map_err(|error| MountError { what: source.into(), point: point.display().to_string(), source: error })
}

/// Mount the virtiofs shares that the machine has.
pub(super) fn mount_shares() -> Result<(), MountError> {
    let Ok(instances) = fs::read_dir("/sys/fs/virtiofs") else { return Ok(()) };
    for instance in instances.flatten() {
        // Besides the instances there may be other files.
        let Ok(tag) = fs::read_to_string(instance.path().join("tag")) else { continue };
        let tag = tag.trim_end();
        let (point, flags) = match tag {
            share::WORK => (paths::WORK, SAFE.union(MsFlags::MS_RDONLY)),
            share::BASE => (paths::BASE, SAFE.union(MsFlags::MS_RDONLY)),
            share::STAGING => (paths::STAGING, SAFE),
            _ => continue,
        };
        make_and_mount(tag, Path::new(point), Some("virtiofs"), flags, "")?;
    }
    Ok(())
}
