//! Standard error that nobody reads, as behind a pager that is not scrolled.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use particle_vm_tests::{Place, leftovers};
use std::fs::OpenOptions;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the end of a process may take on a busy machine, and less than what it would wait for if it did not end.
const END: Duration = Duration::from_secs(20);

/// A pipe that takes no byte more.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let mut other = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap();
    while other.write(&[b'\n'; 4096]).is_ok() {}
    while other.write(b"\n").is_ok() {}
    (reader, writer)
}

fn start(mut command: Command, stderr: PipeWriter) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0).spawn().unwrap()
}

/// How it ended; none when it did not.
fn code(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    while begin.elapsed() < END {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn terminate(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
}

/// A command that waits for a QEMU which does not tell its version, and a file that is there when it does.
fn waiting(place: &Place) -> (Command, std::path::PathBuf) {
    let (bin, asked) = (place.path().join("bin"), place.path().join("asked"));
    std::fs::create_dir(&bin).unwrap();
    let qemu = bin.join("qemu-system-x86_64");
    std::fs::write(&qemu, format!("#!/bin/sh\ntouch {}\nexec sleep 600\n", asked.display())).unwrap();
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).unwrap();
    // What the libraries log has no end, and begins before QEMU is asked.
    let mut command = place.command(&["shell", "--", "true"]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("PARTICLE_VM_LOG", "trace");
    (command, asked)
}

#[test]
fn a_verb_ends_at_a_signal() {
    let place = Place::with_empty_cache();
    let (command, asked) = waiting(&place);
    let (reader, writer) = full();
    let mut child = start(command, writer);
    let begin = Instant::now();
    while !asked.exists() {
        assert!(begin.elapsed() < END, "it did not get as far as QEMU");
        std::thread::sleep(Duration::from_millis(50));
    }
    terminate(&child);
    let code = code(&mut child);
    let _ = child.kill();
    assert_eq!(code, Some(130));
    leftovers::no_processes(&place);
    drop(reader);
}

#[test]
fn what_a_verb_has_to_say_waits_for_its_reader_until_a_signal() {
    let place = Place::with_empty_cache();
    let recipe = place.write("wrong.yml", "name: 1\n");
    let check = || place.command(&["check".as_ref(), recipe.as_os_str()]);
    let (mut reader, writer) = full();
    let mut patient = start(check(), writer);
    std::thread::sleep(Duration::from_secs(2));
    assert!(patient.try_wait().unwrap().is_none());
    // Nothing of it is lost.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.contains("wrong.yml"), "{text}");
    assert_eq!(code(&mut patient), Some(2));

    let (reader, writer) = full();
    let mut left = start(check(), writer);
    std::thread::sleep(Duration::from_secs(2));
    terminate(&left);
    let code = code(&mut left);
    let _ = left.kill();
    // The verb had ended before.
    assert_eq!(code, Some(2));
    drop(reader);
}
