//! Descriptors that a child process inherits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use tokio::net::UnixStream;
use tokio::process::Command;

/// A connected pair: our end, and the other one for a child process.
///
/// # Errors
/// When the process or the system has no descriptors left.
pub fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Let `command`'s process have `descriptors` under the numbers that they have here.
pub fn inherit(command: &mut Command, descriptors: &[&OwnedFd]) {
    let numbers: Vec<RawFd> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    // SAFETY: between fork and exec only fcntl(2) is called, which is async-signal-safe; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            for &number in &numbers {
                // In the parent they are close-on-exec and stay so: other children must not get them.
                if libc::fcntl(number, libc::F_SETFD, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
