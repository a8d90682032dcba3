//! The host's wish that the job ends, as something that can be polled.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once for a job; its descriptor is readable from then on.
#[derive(Debug)]
pub struct Cancel {
    set: AtomicBool,
    event: EventFd,
}

impl Cancel {
    /// One that is not set.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { set: AtomicBool::new(false), event })
    }

    /// End the running job.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        // Only fails when the counter is at its limit, and then the descriptor is readable already.
        let _ = self.event.write(1);
    }

    /// Forget a cancel that came for the job before.
    pub fn clear(&self) {
        self.set.store(false, Ordering::SeqCst);
        // Fails when the counter is zero already.
        let _ = self.event.read();
    }

    /// Whether the job is to end.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn the_descriptor_tells_what_the_flag_tells() {
        let cancel = Cancel::new().unwrap();
        let ready = || poll(&mut [PollFd::new(cancel.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1;
        assert!(!ready() && !cancel.is_set());
        cancel.set();
        cancel.set();
        assert!(ready() && cancel.is_set());
        cancel.clear();
        assert!(!ready() && !cancel.is_set());
    }
}
