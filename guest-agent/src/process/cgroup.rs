//! A control group for each command, so that everything it has started can be ended.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where cgroup2 is mounted.
pub const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// How long killed processes may take to end. One in a system call that cannot be interrupted takes a while.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where groups are made.
#[cfg(not(test))]
fn place() -> &'static Path {
    Path::new(MOUNT_POINT)
}

/// Where tests make them: wherever cgroup2 is mounted.
#[cfg(test)]
fn place() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found = mounts.filter(|fields| fields.get(2) == Some(&"cgroup2"));
    found.find_map(|fields| fields.get(1).map(PathBuf::from)).unwrap_or_else(|| MOUNT_POINT.into())
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A group; its processes end with it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new one, without processes.
    ///
    /// # Errors
    /// When cgroup2 is not mounted or the kernel refuses.
    pub fn new() -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = place().join(format!("command-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where a process writes `0` to enter the group.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn entrance(&self) -> io::Result<File> {
        File::options().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Send SIGKILL to every process in it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Kill what is in it and wait for the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when a process does not end.
    pub fn clear(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = File::open(self.path.join("cgroup.events"))?;
        let mut killed = false;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            if !killed {
                self.kill()?;
                killed = true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout)?;
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.clear().and_then(|()| remove(&self.path)) {
            eprintln!("particle-vm agent: {} stays: {error}", self.path.display());
        }
    }
}

/// Remove a group and those that its processes have made in it.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
