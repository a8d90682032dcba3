//! The end of the machine.

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::panic;
use std::thread;
use std::time::Duration;

/// Kill everything and power off, at once.
///
/// Nothing is synced or unmounted: what a job has to leave on the target disk or in the staging share is there when it
/// says that it is done, and everything else is thrown away.
pub fn off() -> ! {
    // Fails when there is no other process.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    match reboot(RebootMode::RB_POWER_OFF) {
        Err(error) => eprintln!("particle-vm agent: cannot power off: {error}"),
        Ok(never) => match never {},
    }
    // A restart ends QEMU as well (-no-reboot).
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        // The end of PID 1 would be a kernel panic, with a message that leads astray.
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Make a panic of any thread end in a message on the console and a power-off. Without this, it would end PID 1 and with
/// it the kernel, whose own panic would hide the reason.
pub fn off_on_panic() {
    panic::set_hook(Box::new(|panic| {
        eprintln!("particle-vm agent: {panic}");
        off();
    }));
}
