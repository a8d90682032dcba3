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

/// Assert that `place` holds neither scratch disks nor partial outputs, that `outputs` are the only files in its output
/// folder, and that nothing lies in the home. A cache of its own holds nothing [that was not finished](no_unfinished).
///
/// # Panics
/// When there is something else.
pub fn no_files(place: &Place, outputs: &[&str]) {
    assert_eq!(names(&place.work()), Vec::<String>::new(), "the work folder");
    let mut expected: Vec<_> = outputs.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(names(&place.out()), expected, "the output folder");
    assert_eq!(names(&place.path().join("home")), Vec::<String>::new(), "the home");
    if place.has_own_cache() {
        no_unfinished(place);
    }
}

/// Assert that the cache of `place` holds no log of a build under way, no half download, no scratch disk and no half
/// appliance.
///
/// # Panics
/// When it does.
pub fn no_unfinished(place: &Place) {
    let cache = place.cache().join("particle-vm");
    for folder in ["logs", "appliance"] {
        let left = names(&cache.join(folder));
        assert!(left.iter().all(|name| !name.starts_with('.')), "{folder} in the cache: {left:?}");
    }
    for folder in ["store/tmp", "work"] {
        assert_eq!(names(&cache.join(folder)), Vec::<String>::new(), "{folder} in the cache");
    }
}

/// Assert that `logs` are the logs of failed builds that the cache of `place` holds.
///
/// # Panics
/// When there are others.
pub fn logs(place: &Place, logs: &[&str]) {
    assert!(place.has_own_cache(), "the logs of all tests lie in one cache");
    assert_eq!(names(&place.cache().join("particle-vm/logs")), logs, "the logs in the cache");
}

/// Assert that a process may not gain privileges, and that its system calls are filtered: proc_pid_status(5).
///
/// # Panics
/// When it may, or they are not.
pub fn is_confined(process: i32) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).unwrap_or_default().to_owned()
    };
    let name = field("Name");
    for (field, value) in [("Seccomp", field("Seccomp")), ("NoNewPrivs", field("NoNewPrivs"))] {
        crate::measured("confined", &format!("{field} of {name}"), value);
    }
    // 2 is a filter.
    assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"), "{status}");
}

/// Names in a folder, sorted; none when it does not exist.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
