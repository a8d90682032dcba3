//! What a command has left behind: processes, temporary files, partial outputs.

use crate::Place;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds within which every process of a command has to be gone after its end.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Assert that no process of `place` lives five seconds from now.
///
/// # Panics
/// When one does.
pub fn no_processes(place: &Place) {
    let end = Instant::now() + GONE_WITHIN;
    loop {
        let alive = processes(place);
        if alive.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "still alive: {alive:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Command lines of the processes that carry the place's marker in their environment, with their process ids.
pub fn processes(place: &Place) -> Vec<(i32, String)> {
    let marker = format!("PARTICLE_VM_TEST={}", place.marker());
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment.split(|byte| *byte == 0).find(|variable| *variable == marker.as_bytes())?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        })
        .collect()
}

/// Send a signal to [a process](find) of `place`.
///
/// # Panics
/// When there is none.
pub fn send(place: &Place, program: &str, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(find(place, program)), signal).unwrap();
}

/// The process of `place` whose program, or the verb of whose command line, is `program`; it is waited for.
///
/// # Panics
/// When there is none.
pub fn find(place: &Place, program: &str) -> i32 {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let alive = processes(place);
        if let Some((pid, _)) = alive.iter().find(|(_, command)| is_program(command, program)) {
            return *pid;
        }
        assert!(Instant::now() < end, "no {program} among {alive:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_program(command: &str, program: &str) -> bool {
    let name = command.split(' ').next().unwrap_or_default();
    Path::new(name).file_name().is_some_and(|name| name == program) || command.contains(&format!(" {program} "))
}

/// Assert that `place` holds neither scratch disks nor partial outputs, and that `outputs` are the only files in its
/// output folder.
///
/// # Panics
/// When there is something else.
pub fn no_files(place: &Place, outputs: &[&str]) {
    assert_eq!(names(&place.work()), Vec::<String>::new(), "the work folder");
    let mut expected: Vec<_> = outputs.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(names(&place.out()), expected, "the output folder");
}

/// Names in a folder, sorted; none when it does not exist.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
