//! From the first instruction of PID 1 to a machine that can run jobs.

mod disks;
mod modules;
mod mounts;
mod root;

pub use disks::{DiskError, Disks};
pub use modules::ModuleError;
pub use mounts::MountError;
pub use root::RootError;

use crate::process::accounting::Accounting;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Name of the appliance on its own console and in its own logs.
const HOSTNAME: &str = "particle-vm";

/// Where the kernel keeps its records of the processes that have ended; in memory.
const ACCOUNTING: &str = "/run/particle-vm-accounting";

/// What this machine has.
#[derive(Debug, Default)]
pub struct Machine {
    /// The disk that becomes the image.
    pub target: Option<PathBuf>,
    /// The disk that takes archives.
    pub archive: Option<PathBuf>,
    /// What the kernel writes about each process that ends, if it does.
    pub accounting: Option<Accounting>,
}

/// Why the machine cannot be brought up.
#[derive(Debug, Error)]
pub enum InitError {
    /// A file system cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A kernel module cannot be loaded.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The disks do not appear.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The root file system cannot be put together.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The loopback interface cannot be brought up.
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] io::Error),
}

/// Mount what everything else needs, and load the modules. After this the virtio-serial ports can be used.
///
/// # Errors
/// When a mount or a module fails.
pub fn early() -> Result<(), InitError> {
    mounts::mount_all(mounts::EARLY)?;
    modules::load()?;
    Ok(())
}

/// Put the root file system together, move into it and finish the machine.
///
/// # Errors
/// When a disk is missing or a step fails.
pub fn finish() -> Result<Machine, InitError> {
    let disks = disks::find()?;
    root::enter(&disks)?;
    mounts::mount_all(mounts::LATE)?;
    mounts::mount_shares()?;
    settings();
    let accounting = warn("process accounting", Accounting::start(Path::new(ACCOUNTING)));
    loopback_up().map_err(InitError::Loopback)?;
    Ok(Machine { target: disks.target, archive: disks.archive, accounting })
}

/// Say that something is missing which is no reason to fail.
fn warn<T>(what: &str, result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| eprintln!("particle-vm agent: cannot set {what}: {error}")).ok()
}

/// What is good to have and no reason to fail.
fn settings() {
    warn("the host name", nix::unistd::sethostname(HOSTNAME).map_err(io::Error::from));
    // A kernel panic restarts the machine at once, which ends QEMU.
    warn("kernel.panic", fs::write("/proc/sys/kernel/panic", "-1"));
    // Without swap, a kernel that is short of memory drops the programs' own pages and reads them again, for minutes,
    // before it kills anything. This has it kill when it cannot keep what was used in the last second (in ms).
    warn("lru_gen/min_ttl_ms", fs::write("/sys/kernel/mm/lru_gen/min_ttl_ms", "1000"));
    warn("the clock", set_clock());
}

/// A clock from before the appliance was made is wrong, and signatures and certificates would seem to be from the
/// future. The host's clock comes in through the emulated one, so this is for hosts and machines without a good one.
fn set_clock() -> io::Result<()> {
    let made = fs::metadata("/etc/debian_version").map_or(0, |file| file.mtime());
    if clock_gettime(ClockId::CLOCK_REALTIME)?.tv_sec() < made {
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(made, 0))?;
    }
    Ok(())
}

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);
}

/// The kernel gives the loopback interface its addresses when it comes up.
fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    // Both flags are small.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is what SIOCSIFFLAGS reads, and outlives the call.
    unsafe { ioctl::set_interface_flags(socket.as_raw_fd(), &raw const request) }.map(drop).map_err(Errno::into)
}
