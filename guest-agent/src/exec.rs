//! Running one command, or a shell, for the host's user.

use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::link::Input;
use crate::outbox::Outbox;
use crate::paths;
use crate::process::{Command, Spawned, Stdio, spawn};
use crate::report::{self, Explain};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, Winsize, posix_openpt, unlockpt};
use particle_vm_protocol::message::{Exec, TerminalSize};
use particle_vm_protocol::{Failure, FailureKind, FromGuest};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

/// Bytes of output that go into one message.
const CHUNK: usize = 32 << 10;

/// Run `job` and give back its exit code, 128 + signal for a command that a signal ended. With `apt_conf` it runs in the
/// build's tree, prepared as for the stages.
///
/// # Errors
/// When it cannot be started or is cancelled; a command that fails by itself is no failure here.
pub fn run(context: &Context, job: &Exec, apt_conf: Option<&[String]>, input: Receiver<Input>) -> Result<i32, Failure> {
    let chroot = match apt_conf {
        Some(apt_conf) => Some(enter_tree(apt_conf)?),
        None => None,
    };
    let mut command = command(job, chroot.as_ref().map_or(Path::new("/"), Chroot::root));
    if let Some(chroot) = &chroot {
        command = command.within(chroot);
    }
    let failed = |error: io::Error| report::failure(FailureKind::Agent, &error);
    let (spawned, output) = match job.terminal {
        Some(size) => start_with_terminal(context, &command, size, input)?,
        None => start_with_pipes(context, &command, input)?,
    };
    let cancelled = wait(&spawned, context).map_err(failed)?;
    // Also ends what it has left running, which would hold the output open.
    spawned.kill().map_err(failed)?;
    let line = spawned.line().to_owned();
    let status = spawned.wait().map_err(|error| report::failure(FailureKind::Agent, &error))?;
    for thread in output {
        // A panic has powered the machine off.
        let _ = thread.join();
    }
    if cancelled {
        return Err(report::plain(FailureKind::Cancelled, format!("{line} was cancelled")));
    }
    if let Some(chroot) = chroot {
        chroot.leave().explain(FailureKind::Agent, || "cannot leave the tree")?;
    }
    Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

fn enter_tree(apt_conf: &[String]) -> Result<Chroot, Failure> {
    let tree = Path::new(paths::TREE);
    if !tree.join("usr").is_dir() {
        return Err(report::plain(FailureKind::Input, "there is no tree: the build failed before it was made"));
    }
    Chroot::enter(tree, Devices::Minimal, apt_conf).explain(FailureKind::Agent, || "cannot enter the tree")
}

fn command(job: &Exec, root: &Path) -> Command {
    let command = match job.argv.split_first() {
        Some((program, arguments)) => Command::new(program).args(arguments),
        None => Command::new(login_shell(root)).arg("-l"),
    };
    match &job.term {
        Some(term) => command.env("TERM", term),
        None => command,
    }
}

fn login_shell(root: &Path) -> &'static str {
    if root.join("bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }
}

/// Wait for the command's end, or for a cancel; tells which it was.
fn wait(spawned: &Spawned, context: &Context) -> io::Result<bool> {
    loop {
        let mut fds = [
            PollFd::new(spawned.pidfd().as_fd(), PollFlags::POLLIN),
            PollFd::new(context.cancel().as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[0].any() == Some(true) => return Ok(false),
            Ok(_) if context.cancel().is_set() => return Ok(true),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The command and the threads that pass its output on.
type Started = (Spawned, Vec<JoinHandle<()>>);

fn start_with_terminal(
    context: &Context,
    command: &Command,
    size: TerminalSize,
    input: Receiver<Input>,
) -> Result<Started, Failure> {
    let make = || {
        let (master, terminal) = open_terminal(size)?;
        let master = File::from(master);
        let (stdin, stdout) = (terminal.try_clone()?, terminal.try_clone()?);
        let stdio = Stdio { stdin, stdout, stderr: terminal, terminal: true };
        io::Result::Ok((master.try_clone()?, master, stdio))
    };
    let (reader, writer, stdio) = make().explain(FailureKind::Agent, || "cannot make a terminal")?;
    let spawned = spawn(command, stdio).map_err(|error| report::of_command(&error, Vec::new()))?;
    let output = vec![pass_on(context, reader, FromGuest::Terminal)];
    let outbox = Arc::clone(context.outbox());
    thread::spawn(move || feed(&input, Some(writer), true, &outbox));
    Ok((spawned, output))
}

fn start_with_pipes(context: &Context, command: &Command, input: Receiver<Input>) -> Result<Started, Failure> {
    let make = || {
        let ((stdin, writer), (out, stdout), (err, stderr)) = (io::pipe()?, io::pipe()?, io::pipe()?);
        let stdio = Stdio { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), terminal: false };
        io::Result::Ok((writer, out, err, stdio))
    };
    let (writer, out, err, stdio) = make().explain(FailureKind::Agent, || "cannot make pipes")?;
    let spawned = spawn(command, stdio).map_err(|error| report::of_command(&error, Vec::new()))?;
    let output = vec![pass_on(context, out, FromGuest::Terminal), pass_on(context, err, FromGuest::TerminalError)];
    let outbox = Arc::clone(context.outbox());
    thread::spawn(move || feed(&input, Some(File::from(OwnedFd::from(writer))), false, &outbox));
    Ok((spawned, output))
}

/// A pseudo-terminal: our end and the command's. Both are closed on exec, and no path is looked up for them.
fn open_terminal(size: TerminalSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master: PtyMaster = posix_openpt(flags)?;
    unlockpt(&master)?;
    // SAFETY: TIOCGPTPEER takes open flags by value.
    let terminal = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    if terminal < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let terminal = unsafe { OwnedFd::from_raw_fd(terminal) };
    resize(&terminal, size)?;
    Ok((master.into(), terminal))
}

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, super::Winsize);
}

fn resize(terminal: &impl AsRawFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is what TIOCSWINSZ reads, and outlives the call.
    unsafe { ioctl::set_window_size(terminal.as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// Send what comes out of `output` to the host, until its end. A terminal's end is an error (EIO).
fn pass_on(
    context: &Context,
    mut output: impl Read + Send + 'static,
    message: fn(Vec<u8>) -> FromGuest,
) -> JoinHandle<()> {
    let (outbox, cancel) = (Arc::clone(context.outbox()), Arc::clone(context.cancel()));
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            outbox.wait_for_room(None, &cancel);
            outbox.send(&message(buffer[..length].to_vec()));
        }
    })
}

/// Write the host's input to the command, until the host sends it to another one. What the command does not want any
/// more is thrown away.
fn feed(input: &Receiver<Input>, mut writer: Option<File>, terminal: bool, outbox: &Outbox) {
    for event in input {
        match (event, &mut writer) {
            (Input::Bytes(bytes), file) => {
                if file.as_mut().is_some_and(|file| file.write_all(&bytes).is_err()) {
                    *file = None;
                }
                outbox.send(&FromGuest::InputTaken(bytes.len() as u64));
            }
            (Input::Resize(size), Some(file)) if terminal => {
                // Fails when the command has closed the terminal.
                let _ = resize(file, size);
            }
            // A terminal's user ends the input with a character.
            (Input::End, file) if !terminal => *file = None,
            (Input::End | Input::Resize(_) | Input::Kept, _) => {}
        }
    }
}
