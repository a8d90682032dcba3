//! Measuring a command.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One measured run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Seconds from its start to its end.
    pub wall: f64,
    /// Seconds of processor time, of all the processes that it waited for.
    pub cpu: f64,
}

/// What a command and the processes that it waited for read and wrote, from the page cache too: proc_pid_io(5). Those of the
/// last moment are not in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// All that is known of a run.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// How long it took.
    pub run: Run,
    /// Most KiB of memory that the process used itself, without those that it started.
    pub memory_kib: u64,
    /// What it moved.
    pub traffic: Traffic,
}

/// Run a command to its end.
///
/// # Panics
/// When it fails.
pub fn measure(command: &mut Command) -> Report {
    let mut errors = tempfile::tempfile().unwrap();
    let before = children_cpu();
    let started = Instant::now();
    let output = Stdio::from(errors.try_clone().unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().unwrap();
    let pid = child.id();
    let watch = std::thread::spawn(move || watch(pid));
    let status = child.wait().unwrap();
    let wall = started.elapsed().as_secs_f64();
    let (memory_kib, traffic) = watch.join().unwrap();
    let mut said = String::new();
    errors.rewind().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert!(status.success(), "{command:?}: {said}");
    Report { run: Run { wall, cpu: children_cpu() - before }, memory_kib, traffic }
}

/// The run of the median processor time.
pub fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    runs[runs.len() / 2]
}

fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

/// Most KiB that a process has used (proc_pid_status(5)) and what it has moved, asked for until it has ended.
fn watch(pid: u32) -> (u64, Traffic) {
    let (mut peak, mut traffic) = (0, Traffic::default());
    let number = |text: &str, name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value?.trim().trim_end_matches(" kB").parse().ok()
    };
    loop {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // Whoever has ended has no memory, and whoever waits for it takes its number away.
        let Some(kib) = number(&read("status"), "VmHWM") else { return (peak, traffic) };
        peak = kib;
        let moved = read("io");
        if let (Some(read), Some(written)) = (number(&moved, "rchar"), number(&moved, "wchar")) {
            traffic = Traffic { read, written };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
