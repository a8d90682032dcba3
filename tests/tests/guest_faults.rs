//! What can go wrong in the guest: the class of failure, the stage, the last lines, the exit code; nothing left behind.

use particle_vm_tests::{Fault, Mirror, Outcome, Place, leftovers, measured, mirror};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than any of these builds takes under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// Build a tree of one busybox with `stages` on top of it.
fn build(place: &Place, stages: &str, arguments: &[&str]) -> Outcome {
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(stages));
    place.start_build(&recipe, arguments).finish(DEADLINE)
}

/// Build an image that has nothing to boot and a test, over the output of an earlier build.
fn build_unbootable(place: &Place, arguments: &[&str]) -> Outcome {
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let bootloader = "  - type: bootloader\n    options: { type: systemd-boot, firmware: [uefi] }\n";
    let stages = script("mkdir -p /boot/efi/loader; echo ID=tiny > /etc/os-release") + bootloader;
    let recipe =
        mirror.recipe(&stages).replace("include: [tiny]", "include: [tiny, apt]").replace("[raw]", "[raw, qcow2]");
    let recipe = recipe
        .replace("partitions: [", "partitions: [ { kind: esp, size: 128MiB },")
        .replace(": 128MiB, p", ": 256MiB, p");
    let recipe = place.write("tiny.yml", recipe + "tests: [ { name: it is there, run: \"true\" } ]\n");
    std::fs::write(place.out().join("tiny.raw"), "earlier").unwrap();
    let outcome = place.start_build(&recipe, &[&["--test"], arguments].concat()).finish(DEADLINE);
    measured("an image that does not boot", "seconds to the failure", outcome.took.as_secs_f64());
    leftovers::no_processes(place);
    outcome.exits(1).says(&["UEFI", "the firmware found nothing to boot"])
}

/// The build fails with `code`, says `texts`, and leaves nothing behind.
fn fails(stages: &str, arguments: &[&str], code: i32, texts: &[&str]) {
    let place = Place::with_shared_appliance();
    let outcome = build(&place, stages, arguments).exits(code).says(texts);
    measured(texts[0], "seconds to the failure", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
    leftovers::logs(&place, &["tiny.log"]);
}

fn script(script: &str) -> String {
    format!("  - type: run\n    options: {{ script: \"{script}\" }}\n")
}

#[test]
fn a_small_build_succeeds() {
    let place = Place::with_shared_appliance();
    let stages = script("echo hello from the tree with $(nproc)");
    let outcome = build(&place, &stages, &["--cpus", "2"]).exits(0);
    measured("a_small_build_succeeds", "seconds", outcome.took.as_secs_f64());
    // Nothing is drawn where there is no terminal, not even a redrawn line.
    assert!(!outcome.stderr.contains(['\u{1b}', '\r']) && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.lines().any(|line| line == "2/2 run"), "{}", outcome.stderr);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.raw"]);
    leftovers::logs(&place, &[]);
    let log = std::fs::read_to_string(place.out().join("build.log")).unwrap();
    assert!(log.contains("hello from the tree with 2"), "{log}");
    // The store is this place's own: all of it came from the mirror.
    let manifest = place.checked_manifest();
    let bytes: u64 = manifest["inputs"].as_array().unwrap().iter().map(|input| input["size"].as_u64().unwrap()).sum();
    let (unit, name) = if bytes < 1 << 20 { (1 << 10, "KiB") } else { (1 << 20, "MiB") };
    let fetched = format!(", fetched {:.1} {name}", bytes as f64 / f64::from(unit));
    let line = outcome.stderr.lines().find(|line| line.starts_with("1/2 debootstrap: done in "));
    assert!(line.is_some_and(|line| line.ends_with(&fetched)), "{line:?} is not about {bytes} bytes");
}

#[test]
fn each_v_tells_more() {
    // The output of a stage, a download, what a library logs.
    let told = ["hello from the tree", "fetched http://", "DEBUG "];
    for level in 0..=told.len() {
        let place = Place::new();
        let stderr = build(&place, &script("echo hello from the tree"), &vec!["-v"; level]).exits(0).stderr;
        assert!(!stderr.contains('\u{1b}'), "{stderr}");
        for (text, least) in told.iter().zip(1..) {
            assert_eq!(stderr.contains(text), level >= least, "{text:?} with {level} times -v:\n{stderr}");
        }
    }
}

#[test]
fn an_image_that_does_not_pass_its_tests_is_not_published() {
    let place = Place::new();
    let outcome = build_unbootable(&place, &[]).says(&["--keep-failed"]);
    assert!(!outcome.stderr.contains("convert"), "{}", outcome.stderr);
    leftovers::no_files(&place, &["tiny.raw"]);
    assert_eq!(std::fs::read(place.out().join("tiny.raw")).unwrap(), b"earlier");
}

#[test]
fn an_image_that_does_not_pass_its_tests_is_kept_on_request() {
    let place = Place::new();
    let _ = build_unbootable(&place, &["--keep-failed"]).says(&["kept all the same"]);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.qcow2", "tiny.raw"]);
    assert_ne!(std::fs::read(place.out().join("tiny.raw")).unwrap(), b"earlier");
}

#[test]
fn a_failed_build_keeps_its_log() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    // A name of its own: the logs of all tests lie in one cache.
    let recipe = |last: &str| {
        mirror.recipe(&script(&format!("echo the first words; {last}"))).replace("name: tiny", "name: kept-log")
    };
    let log = place.cache().join("particle-vm/logs/kept-log.log");
    let file = place.write("kept-log.yml", recipe("exit 7"));
    let out = place.path().join("new/kept-log");
    let arguments = ["--output", out.to_str().unwrap()];
    let build = || {
        let mut all = vec!["build", file.to_str().unwrap()];
        all.extend(arguments);
        place.start(&all).finish(DEADLINE)
    };
    let outcome = build().exits(1);
    assert_eq!(outcome.stderr.lines().last(), Some(format!("whole log: {}", log.display()).as_str()));
    let text = std::fs::read_to_string(&log).unwrap();
    measured("a_failed_build_keeps_its_log", "bytes of the log", text.len());
    for expected in ["stage 1/2 debootstrap: done", "the first words", "error (build): "] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(!out.parent().unwrap().exists(), "the output folder stayed");

    place.write("kept-log.yml", recipe("true"));
    let _ = build().exits(0);
    assert!(!log.exists(), "the log of the failure stayed after a success");
    leftovers::no_processes(&place);
}

#[test]
fn a_stage_that_exits_non_zero() {
    let stage = script("echo the last words; exit 7");
    fails(&stage, &[], 1, &["exit", "7", "2/2 run", "the last words"]);
}

#[test]
fn a_stage_that_hangs() {
    let stage = "  - type: run\n    timeout: 3s\n    options: { script: \"echo waiting; sleep 1000\" }\n";
    fails(stage, &[], 1, &["3 s", "2/2 run", "timeout", "waiting"]);
}

#[test]
fn a_stage_that_leaves_a_process_behind() {
    let place = Place::new();
    let _ = build(&place, &script("sleep 1000 &"), &[]).exits(0);
    leftovers::no_processes(&place);
}

#[test]
fn a_package_that_does_not_exist() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = mirror.recipe("").replace("[tiny]", "[tiny, no-such-package]");
    let recipe = place.write("tiny.yml", recipe);
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE);
    let _ = outcome.exits(1).says(&["no-such-package", "1/1 debootstrap"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
}

#[test]
fn a_script_that_asks_a_question() {
    let stage = script("echo Really? > /dev/tty || true; read answer || { echo nobody answered; exit 9; }");
    fails(&stage, &[], 1, &["nobody answered", "2/2 run"]);
}

#[test]
fn the_scratch_disk_is_full() {
    let stage = script("dd if=/dev/urandom of=/fill bs=1M count=2000");
    fails(&stage, &["--scratch-size", "512MiB"], 1, &["scratch disk", "--scratch-size"]);
}

#[test]
fn the_target_is_too_small() {
    let stage = script("dd if=/dev/urandom of=/fill bs=1M count=140");
    fails(&stage, &[], 1, &["No space left on device", "larger", "`disk`"]);
}

#[test]
fn out_of_memory() {
    let stage = script("echo eating; tail /dev/zero");
    fails(&stage, &["--memory", "512MiB"], 1, &["memory", "--memory"]);
}

#[test]
fn a_kernel_panic() {
    fails(&script("echo c > /proc/sysrq-trigger; sleep 100"), &[], 1, &["panic", "sysrq"]);
}

#[test]
fn the_agent_is_killed() {
    // Overwrites all the code of PID 1, which dies of it when it wakes up, and the kernel with it.
    let overwrite = "range=$(grep -m1 r-xp /proc/1/maps | cut -d' ' -f1); from=$((0x${range%-*} / 4096)); \
                     dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$from count=$((0x${range#*-} / 4096 - from)) \
                     conv=notrunc; sleep 1000";
    fails(&script(overwrite), &[], 1, &["Attempted to kill init", "2/2 run"]);
}

/// A clock that is behind by a second takes a fresh signature for one from the future; one that runs fast ends stages
/// before their deadlines.
#[test]
fn the_clock_is_that_of_the_host() {
    let place = Place::new();
    let script = "for pause in 0.2 0.2 0.2 0.2 5 0.2 0.2 0.2 0; do date +clock=%s.%N; sleep $pause; done";
    let mut running = place.start(&["shell", "--", "sh", "-c", script]);
    let mut behind = (0..9).map(|_| {
        let line = running.wait_for("clock=", DEADLINE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        now - line.strip_prefix("clock=").unwrap().parse::<f64>().unwrap()
    });
    // A line takes its time, on a busy machine more than the clock may be wrong; the fastest tells.
    let before = behind.by_ref().take(5).reduce(f64::min).unwrap();
    let after = behind.reduce(f64::min).unwrap();
    measured("the clock", "seconds behind that of the host, at most", before);
    measured("the clock", "seconds that it loses in five", after - before);
    assert!((-0.5..0.5).contains(&before) && (-0.5..0.5).contains(&after), "{before} s, then {after} s");
    let _ = running.finish(DEADLINE).exits(0);
    leftovers::no_processes(&place);
}
