//! What the host can lack: the message, what to do about it, exit code 3 (2 for what was asked wrongly), nothing left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use particle_vm_tests::{Fault, Mirror, Outcome, Place, leftovers, measured, mirror};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// Build a tree of one busybox with `environment` beside the usual one.
fn build(place: &Place, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Outcome {
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let (out, work) = (place.out(), place.work());
    let mut all: Vec<&OsStr> = vec!["build".as_ref(), recipe.as_os_str()];
    all.extend([OsStr::new("--output"), out.as_os_str(), OsStr::new("--work-dir"), work.as_os_str()]);
    all.extend(arguments.iter().map(OsStr::new));
    let mut command = place.command(&all);
    command.envs(environment.iter().copied());
    particle_vm_tests::Running::start(command).finish(DEADLINE)
}

/// A folder with links to every program of the host but those in `without`.
fn programs(place: &Place, without: &[&str]) -> PathBuf {
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for folder in ["/usr/bin", "/usr/sbin", "/bin", "/sbin"] {
        for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
            let name = entry.file_name();
            if !without.iter().any(|program| name == *program) {
                // The folders overlap.
                let _ = symlink(entry.path(), bin.join(name));
            }
        }
    }
    bin
}

fn is_clean(place: &Place) {
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
}

#[test]
fn no_qemu() {
    let place = Place::new();
    let bin = programs(&place, &["qemu-system-x86_64"]);
    let outcome = build(&place, &[], &[("PATH", bin.as_os_str())]);
    let _ = outcome.exits(3).says(&["qemu-system-x86_64", "qemu-system-x86"]);
    is_clean(&place);
}

#[test]
fn a_qemu_that_is_too_old_for_emulation() {
    let place = Place::new();
    let bin = programs(&place, &["qemu-system-x86_64"]);
    // Says what Debian 12's own package says, and has nothing else to do here: it must be refused before it is started.
    let old = bin.join("qemu-system-x86_64");
    std::fs::write(&old, "#!/bin/sh\necho 'QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u16)'\n").unwrap();
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();
    let outcome = build(&place, &["--accel", "tcg"], &[("PATH", bin.as_os_str())]);
    let _ = outcome.exits(3).says(&["7.2.19", "10", "bookworm-backports", "qemu-system-x86"]);
    is_clean(&place);
}

/// With `--accel kvm` a build fails and says `texts`; with `auto` it succeeds and says them in a warning.
fn kvm(device: &Path, texts: &[&str]) {
    let place = Place::new();
    let environment = [("PARTICLE_VM_KVM", device.as_os_str())];
    let outcome = build(&place, &["--accel", "kvm"], &environment).exits(3).says(texts);
    measured(texts[0], "seconds until KVM is known to be unusable", outcome.took.as_secs_f64());
    is_clean(&place);

    let outcome =
        build(&place, &["--accel", "auto"], &environment).exits(0).says(texts).says(&["no security boundary"]);
    assert_eq!(outcome.stderr.matches("no security boundary").count(), 1, "{}", outcome.stderr);
    leftovers::no_processes(&place);
}

#[test]
fn kvm_is_missing() {
    kvm(Path::new("/dev/no-such-kvm"), &["there is no /dev/no-such-kvm"]);
}

#[test]
fn kvm_is_not_readable() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("kvm");
    std::fs::write(&device, "").unwrap();
    std::fs::set_permissions(&device, PermissionsExt::from_mode(0o000)).unwrap();
    kvm(&device, &["kvm", "may not open"]);
}

/// The device that this machine has, which may or may not run a guest; `PARTICLE_VM_TEST_KVM` names one that this user
/// may open. What `--accel kvm` says and what `auto` does have to agree, and a second use has to know it at once.
#[test]
fn kvm_is_present() {
    let place = Place::new();
    let device = std::env::var_os("PARTICLE_VM_TEST_KVM").unwrap_or_else(|| "/dev/kvm".into());
    let shell = |accel: &str| {
        let mut command = place.command(&["shell", "--accel", accel, "--", "true"]);
        command.env("PARTICLE_VM_KVM", &device);
        particle_vm_tests::Running::start(command).finish(DEADLINE)
    };
    let asked = shell("kvm");
    measured("kvm_is_present", "seconds until it is known", asked.took.as_secs_f64());
    let auto = shell("auto").exits(0);
    match asked.code {
        0 => assert!(!auto.stderr.contains("no KVM"), "{auto:#?}"),
        3 => {
            let auto = auto.says(&["no KVM", "no security boundary"]);
            if asked.stderr.contains("no guest runs with it") {
                assert!(auto.stderr.contains("no guest runs with it"), "{auto:#?}");
            }
        }
        _ => panic!("{asked:#?}"),
    }
    let again = shell("kvm");
    assert_eq!(again.code, asked.code);
    assert!(again.took < Duration::from_secs(15), "it was tried again: {again:#?}");
}

#[test]
fn not_enough_disk() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    // More packages than fit on any disk that these tests run on.
    let packages = (0..60_000).map(|number| format!("p{number}")).collect::<Vec<_>>().join(", ");
    let recipe = mirror.recipe("").replace("[tiny]", &format!("[{packages}]")).replace("128MiB", "4TiB");
    let recipe = place.write("tiny.yml", recipe);
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(3).says(&["TiB", "free", "--work-dir"]);
    assert!(outcome.took < Duration::from_secs(20), "a VM was started first: {:?}", outcome.took);
    is_clean(&place);
}

#[test]
fn the_output_folder_is_not_writable() {
    let place = Place::new();
    std::fs::set_permissions(place.out(), PermissionsExt::from_mode(0o555)).unwrap();
    let outcome = build(&place, &[], &[]).exits(3).says(&["out", "ermission"]);
    assert!(outcome.took < Duration::from_secs(10), "a VM was started first: {:?}", outcome.took);
    is_clean(&place);
}

#[test]
fn a_folder_is_in_the_way_of_an_output() {
    let place = Place::new();
    std::fs::create_dir(place.out().join("tiny.raw")).unwrap();
    let outcome = build(&place, &[], &[]).exits(3).says(&["tiny.raw", "folder"]);
    assert!(outcome.took < Duration::from_secs(10), "a VM was started first: {:?}", outcome.took);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["tiny.raw"]);
}

#[test]
fn an_output_file_that_exists_is_replaced() {
    let place = Place::new();
    std::fs::write(place.out().join("tiny.raw"), "old").unwrap();
    let _ = build(&place, &[], &[]).exits(0);
    assert!(std::fs::metadata(place.out().join("tiny.raw")).unwrap().len() > 1 << 20);
}

#[test]
fn nothing_goes_to_the_temporary_folder() {
    let place = Place::new();
    let empty = place.path().join("tmp");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o555)).unwrap();
    let _ = build(&place, &[], &[("TMPDIR", empty.as_os_str())]).exits(0);
}

#[test]
fn root_is_warned() {
    let place = Place::new();
    let recipe = place.write("empty.yml", "");
    let mut root = std::process::Command::new("fakeroot");
    let command = place.command(&["check".as_ref(), recipe.as_os_str()]);
    root.arg(command.get_program()).args(command.get_args()).env("PARTICLE_VM_TEST", place.marker());
    root.env("XDG_CACHE_HOME", place.cache()).env("LC_ALL", "C.UTF-8");
    let _ = particle_vm_tests::Running::start(root).finish(DEADLINE).says(&["root"]);
}
