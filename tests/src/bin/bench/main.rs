//! `make bench`: the table of budgets, with the peers measured in the same run.
//!
//! The peers are installed and measured by scripts of their own (in `../shared/peers`, or where `PARTICLE_VM_PEERS`
//! says; they need root). Without them the table has particle-vm's own rows only, and says so.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends with a panic")]

mod container;
mod measure;
mod peers;

use measure::{Report, Run, measure, median};
use particle_vm_tests::{Place, leftovers, place};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

/// Runs of what takes seconds; the median counts.
const RUNS: usize = 5;

/// What all run with, the peers too: not every machine has KVM, and a ratio of two accelerations says nothing.
const ACCEL: &str = "tcg";

/// Most MiB that the host process may use itself, without the guest's memory.
const MEMORY_BUDGET: f64 = 64.0;

/// Most bytes that the raw image may occupy for each byte of its content.
const IMAGE_BUDGET: f64 = 1.05;

fn main() {
    // `bench container` measures that alone.
    if std::env::args().nth(1).as_deref() != Some("container") {
        compare();
        println!();
    }
    container::compare();
}

/// Starts of VMs and builds of the reference image, beside the peers.
fn compare() {
    let place = Place::new();
    let _ = measure(&mut place.command(&["appliance", "build"]));
    let shell = || measure(&mut place.command(&["shell", "--accel", ACCEL, "--", "true"])).run;
    let ours = median((0..RUNS).map(|_| shell()).collect());
    let machine = machine(&place);
    let empty = median((0..RUNS).map(|_| measure(&mut empty_init(&place, &machine)).run).collect());
    let Report { run: build, memory_kib, .. } = measure_build(&place);

    println!("| what | wall s | CPU s | budget | ratio of CPU s |");
    println!("|---|---|---|---|---|");
    row("VM start, `true`, powered off", ours, None, None);
    row("the same kernel with an empty init", empty, Some(1.3), Some(ours.cpu / empty.cpu));
    row("the reference image, everything fetched before", build, None, None);
    // They take long, and are not ours: what is known until then is printed.
    let peers = peers::measure();
    for (label, budget, against) in [
        ("guestfish-warm", Some(0.5), ours),
        ("fakemachine-true", Some(0.25), ours),
        ("vng-true", None, ours),
        ("debos-bench", Some(0.5), build),
        ("mkosi-bench", None, build),
    ] {
        if let Some(peer) = peers.get(label) {
            row(&format!("peer: {label}"), *peer, budget, Some(against.cpu / peer.cpu));
        }
    }
    println!();
    let manifest = place.manifest();
    print_timings(&manifest);
    println!();
    let memory = memory_kib as f64 / 1024.0;
    println!(
        "- memory of the host process: {memory:.0} MiB (budget {MEMORY_BUDGET} MiB{})",
        missed(memory, MEMORY_BUDGET)
    );
    print_image(&place, "reference", &manifest);
    if peers.is_empty() {
        println!("- the peers were not measured: this is not root, or {} is no folder", peers::scripts().display());
    }
}

/// A row with the ratio of processor time, ours to that of the row, and what it may be.
fn row(what: &str, run: Run, budget: Option<f64>, ratio: Option<f64>) {
    let verdict = budget.zip(ratio).map(|(budget, ratio)| missed(ratio, budget)).unwrap_or_default();
    let budget = budget.map(|budget| format!("at most {budget} x")).unwrap_or_default();
    let ratio = ratio.map(|ratio| format!("{ratio:.2}{verdict}")).unwrap_or_default();
    println!("| {what} | {:.1} | {:.1} | {budget} | {ratio} |", run.wall, run.cpu);
}

/// The word for a figure that is over its budget.
fn missed(figure: f64, budget: f64) -> &'static str {
    if figure > budget { ", missed" } else { "" }
}

/// A row for each stage of the build in the guest and each step of it on the host, in the order of their ends.
fn print_timings(manifest: &serde_json::Value) {
    println!("| of the reference image | where | wall s | CPU s in the guest | most of it, CPU s |");
    println!("|---|---|---|---|---|");
    for timing in manifest["timings"].as_array().unwrap() {
        let place = if timing["kind"] == "stage" { "stage" } else { "host" };
        let seconds = |key: &str| timing[key].as_f64().map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
        let name = timing["name"].as_str().unwrap();
        let programs = timing["programs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let greedy = programs.iter().take(5).map(|program| {
            format!("{} {:.1}", program["name"].as_str().unwrap(), program["cpu_seconds"].as_f64().unwrap())
        });
        let greedy = greedy.collect::<Vec<_>>().join(", ");
        println!("| {name} | {place} | {} | {} | {greedy} |", seconds("seconds"), seconds("cpu_seconds"));
    }
}

/// The options of QEMU that make the machine, as far as a guest without disks and channels has it.
const MACHINE: [&str; 10] =
    ["-display", "-machine", "-accel", "-cpu", "-smp", "-m", "-object", "-bios", "-kernel", "-append"];

/// Those options as particle-vm gives them to the VM of `shell`, taken from one that runs: what is different then is what
/// particle-vm does with it.
fn machine(place: &Place) -> Vec<String> {
    let mut shell = place.start(&["shell", "--accel", ACCEL, "--", "sh", "-c", "echo up; sleep 1000"]);
    shell.wait_for("up", Duration::from_secs(240));
    let qemu = leftovers::find(place, "qemu-system-x86_64");
    let line = std::fs::read_to_string(format!("/proc/{qemu}/cmdline")).unwrap();
    drop(shell);
    leftovers::no_processes(place);
    let line: Vec<_> = line.split('\0').collect();
    let pairs = line.windows(2).filter(|pair| MACHINE.contains(&pair[0]));
    pairs.flatten().map(|argument| (*argument).to_owned()).collect()
}

/// QEMU with the kernel and machine of particle-vm, and an init that does nothing but power off.
fn empty_init(place: &Place, machine: &[String]) -> Command {
    let dir = place.path().join("empty");
    if !dir.exists() {
        std::fs::create_dir(&dir).unwrap();
        let source = "#include <sys/reboot.h>\nint main(void) { reboot(RB_POWER_OFF); for (;;); }\n";
        std::fs::write(dir.join("init.c"), source).unwrap();
        let mut cc = Command::new("cc");
        assert!(cc.args(["-static", "-O2", "-o", "init", "init.c"]).current_dir(&dir).status().unwrap().success());
        let list = std::process::Command::new("sh")
            .args(["-c", "echo init | cpio --quiet -o -H newc > initramfs"])
            .current_dir(&dir)
            .status();
        assert!(list.unwrap().success());
    }
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(machine).arg("-initrd").arg(dir.join("initramfs"));
    qemu
}

/// Build the reference image twice, the first time to fetch the packages; the second counts.
fn measure_build(place: &Place) -> Report {
    let recipe = place::root().join("tests/bench/reference.yml");
    let build = || measure(&mut place.build_command(&recipe, &["--accel", ACCEL]));
    let _ = build();
    build()
}

/// Allocated bytes of the raw image of the recipe `name` against its content; gives them back.
fn print_image(place: &Place, name: &str, manifest: &serde_json::Value) -> u64 {
    let allocated = std::fs::metadata(place.out().join(format!("{name}.raw"))).unwrap().blocks() * 512;
    let content = manifest["content_bytes"].as_u64().unwrap();
    let ratio = allocated as f64 / content as f64;
    println!(
        "- the raw image occupies {allocated} bytes for {content} bytes of content: {ratio:.3} x (budget {IMAGE_BUDGET} x{})",
        missed(ratio, IMAGE_BUDGET)
    );
    allocated
}
