//! Reaping, as PID 1 has to.
//!
//! Orphans of all commands become children of the agent. One thread reaps whatever ends; the status of a process that
//! the agent has started itself is kept for whoever waits for it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

static STATE: Mutex<Option<State>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static THREAD: Once = Once::new();

#[derive(Debug, Default)]
struct State {
    /// Processes that somebody will wait for, and how they ended.
    own: HashMap<u32, Option<ExitStatus>>,
    /// How many processes were started so far.
    started: u64,
}

fn lock() -> MutexGuard<'static, Option<State>> {
    // The map is whole between any two statements that hold the lock.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Start `command`; [`wait`] has to be called for its process. The descriptor is readable when the process has ended.
pub fn spawn(command: &mut Command) -> io::Result<(u32, OwnedFd)> {
    THREAD.call_once(|| {
        thread::spawn(reap);
    });
    // The lock is held until the process is registered, so that it cannot be reaped before.
    let mut guard = lock();
    let state = guard.get_or_insert_default();
    let pid = command.spawn()?.id();
    state.own.insert(pid, None);
    state.started += 1;
    CHANGED.notify_all();
    match open_pidfd(pid) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(error) => {
            // Nobody will wait for it; what kills it is its control group's end.
            state.own.remove(&pid);
            Err(error)
        }
    }
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Wait for the end of a process started by [`spawn`].
pub fn wait(pid: u32) -> io::Result<ExitStatus> {
    let mut guard = lock();
    loop {
        let state = guard.get_or_insert_default();
        match state.own.get(&pid) {
            None => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
            Some(Some(status)) => {
                let status = *status;
                state.own.remove(&pid);
                return Ok(status);
            }
            Some(None) => guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

fn reap() {
    loop {
        let started = lock().get_or_insert_default().started;
        match peek() {
            Ok(pid) => {
                let mut guard = lock();
                let state = guard.get_or_insert_default();
                let status = collect(pid);
                if let (Some(status), Some(slot)) = (status, state.own.get_mut(&pid.unsigned_abs())) {
                    *slot = Some(status);
                    CHANGED.notify_all();
                }
            }
            // No child at all: there is none to wait for until one is started.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                let same = |state: &mut Option<State>| state.get_or_insert_default().started == started;
                drop(CHANGED.wait_while(lock(), same));
            }
            Err(_) => {}
        }
    }
}

/// The next process that has ended; it stays unreaped.
fn peek() -> io::Result<libc::pid_t> {
    // nix decodes the status too and fails for signals it does not know, so that such a process would never be reaped.
    // SAFETY: an all-zero siginfo_t is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call and is of the type that waitid(2) fills.
    if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid(2) has filled in the fields of a SIGCHLD.
    Ok(unsafe { info.si_pid() })
}

/// Reap a process that has ended; none when it has been reaped meanwhile (a failed exec is, by the standard library).
fn collect(pid: libc::pid_t) -> Option<ExitStatus> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    (reaped == pid).then(|| ExitStatus::from_raw(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waiter_gets_the_status_of_its_own_process() {
        let waiters: Vec<_> = (0..16)
            .map(|code| {
                thread::spawn(move || {
                    let (pid, _) = spawn(Command::new("/bin/sh").args(["-c", &format!("exit {code}")])).unwrap();
                    assert_eq!(wait(pid).unwrap().code(), Some(code));
                })
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }

    #[test]
    fn a_real_time_signal_is_a_status_too() {
        let (pid, _) = spawn(Command::new("/bin/sh").args(["-c", "kill -s RTMIN $$"])).unwrap();
        assert_eq!(wait(pid).unwrap().signal(), Some(libc::SIGRTMIN()));
    }

    #[test]
    fn a_program_that_does_not_exist_leaves_nothing_to_wait_for() {
        assert_eq!(spawn(&mut Command::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let (pid, _) = spawn(&mut Command::new("/bin/true")).unwrap();
        assert!(wait(pid).unwrap().success());
        assert!(wait(pid).is_err());
    }
}
