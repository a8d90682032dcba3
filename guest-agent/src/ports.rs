//! Virtio-serial ports by name.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a port may take to appear and the host to be at its other end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks. The kernel announces ports through a queue of its own, some milliseconds after the device.
const PAUSE: Duration = Duration::from_millis(2);

/// Why there is no port.
#[derive(Debug, Error)]
pub enum PortError {
    /// The machine has no such port.
    #[error("the machine has no virtio-serial port `{0}`")]
    Missing(String),
    /// It cannot be opened or used.
    #[error("cannot use the virtio-serial port `{name}`")]
    Open {
        /// The port.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody is at the host's end.
    #[error("the host has not connected to the virtio-serial port `{0}`")]
    Lonely(String),
}

/// Whether the machine has the port, now.
pub fn exists(name: &str) -> bool {
    look_up(name).is_some()
}

fn look_up(name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/virtio-ports").ok()?;
    entries.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim_end() == name).then(|| PathBuf::from("/dev").join(entry.file_name()))
    })
}

/// Open the port and wait for the host to be at its other end. A read of 0 bytes means from then on that the host has
/// gone.
///
/// # Errors
/// When the port does not appear, cannot be opened, or the host does not connect.
pub fn open(name: &str) -> Result<File, PortError> {
    let deadline = Instant::now() + PATIENCE;
    let path = wait(deadline, || look_up(name)).ok_or_else(|| PortError::Missing(name.into()))?;
    let failed = |source| PortError::Open { name: name.into(), source };
    let port = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let connected = wait(deadline, || {
        let mut poll_fd = [PollFd::new(port.as_fd(), PollFlags::empty())];
        match poll(&mut poll_fd, PollTimeout::ZERO) {
            Ok(0) => Some(Ok(())),
            // Without a host at the other end the kernel reports a hang-up, which cannot be waited for.
            Ok(_) => None,
            Err(error) => Some(Err(failed(error.into()))),
        }
    });
    connected.ok_or_else(|| PortError::Lonely(name.into()))??;
    Ok(port)
}

fn wait<T>(deadline: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
