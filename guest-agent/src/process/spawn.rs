//! Starting a command.

use super::cgroup::Cgroup;
use super::{Command, ProcessError, reaper};
use nix::sched::CloneFlags;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::ExitStatus;

/// The three standard descriptors of a command.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// The standard input is a terminal, which is to be the controlling one.
    pub terminal: bool,
}

/// A running command. When it is dropped, everything it has started is killed.
#[derive(Debug)]
pub struct Spawned {
    line: String,
    pid: u32,
    pidfd: OwnedFd,
    reaped: bool,
    cgroup: Cgroup,
}

/// Start `command`.
///
/// # Errors
/// When it cannot be started: the program is missing, or the kernel refuses.
pub fn spawn(command: &Command, stdio: Stdio) -> Result<Spawned, ProcessError> {
    let line = command.to_string();
    start(command, stdio, line.clone()).map_err(|source| ProcessError::Spawn { command: line, source })
}

fn start(command: &Command, stdio: Stdio, line: String) -> io::Result<Spawned> {
    let cgroup = Cgroup::new()?;
    let entrance = cgroup.entrance()?;
    let root = command.root.as_ref().map(|root| CString::new(root.as_os_str().as_bytes())).transpose()?;
    let terminal = stdio.terminal;
    let mut std_command = std::process::Command::new(command.program());
    std_command
        .args(&command.argv[1..])
        .env_clear()
        .envs(&command.environment)
        .stdin(stdio.stdin)
        .stdout(stdio.stdout)
        .stderr(stdio.stderr);
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        std_command.pre_exec(move || {
            enter(&entrance)?;
            nix::unistd::setsid()?;
            if terminal && libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            if let Some(root) = &root {
                // The agent's mounts are private, so nothing that is mounted from here on is seen outside.
                nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
                nix::unistd::chroot(root.as_c_str())?;
            }
            Ok(nix::unistd::chdir(c"/")?)
        });
    }
    let (pid, pidfd) = reaper::spawn(&mut std_command)?;
    Ok(Spawned { line, pid, pidfd, reaped: false, cgroup })
}

/// Enter the group. It happens in the new process, so that there is no moment in which it could start others outside.
fn enter(entrance: &File) -> io::Result<()> {
    nix::unistd::write(entrance, b"0")?;
    Ok(())
}

impl Spawned {
    /// Kill it and everything it has started.
    ///
    /// # Errors
    /// When a process does not end.
    pub fn kill(&self) -> io::Result<()> {
        self.cgroup.clear()
    }

    /// Wait for its end, and end whatever it has left behind.
    ///
    /// # Errors
    /// When something does not end.
    pub fn wait(mut self) -> Result<ExitStatus, ProcessError> {
        let status = reaper::wait(self.pid);
        self.reaped = true;
        status
            .and_then(|status| self.cgroup.clear().map(|()| status))
            .map_err(|source| ProcessError::Wait { command: self.line.clone(), source })
    }

    /// Readable when the process has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// The command line for messages.
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        if let Err(error) = self.cgroup.clear().and_then(|()| reaper::wait(self.pid)) {
            eprintln!("particle-vm agent: {} does not end: {error}", self.line);
        }
    }
}
