//! What the host can lack: the message, what to do about it, exit code 3 (2 for what was asked wrongly), nothing left.

use particle_vm_tests::{Fault, Mirror, Outcome, Place, Running, leftovers, measured, mirror};
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
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
    Running::start(command).finish(DEADLINE)
}

/// A folder with every program of the host, and a QEMU that is the shell script `script`.
fn programs_with_qemu(place: &Place, script: &str) -> PathBuf {
    place.programs(&[], &[("qemu-system-x86_64", script)])
}

fn is_clean(place: &Place) {
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
}

#[test]
fn no_qemu() {
    let place = Place::new();
    let bin = place.programs(&["qemu-system-x86_64"], &[]);
    let outcome = build(&place, &[], &[("PATH", bin.as_os_str())]);
    let _ = outcome.exits(3).says(&["qemu-system-x86_64", "qemu-system-x86"]);
    is_clean(&place);
}

#[test]
fn a_qemu_that_is_too_old_for_emulation() {
    let place = Place::new();
    // Says what Debian 12's own package says, and has nothing else to do here: it must be refused before it is started.
    let bin = programs_with_qemu(&place, "echo 'QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7+deb12u16)'");
    // Where there is no KVM, it comes to the same thing.
    let environment = [("PATH", bin.as_os_str()), ("PARTICLE_VM_KVM", "/dev/no-such-kvm".as_ref())];
    for accel in ["tcg", "auto"] {
        let outcome = build(&place, &["--accel", accel], &environment);
        let _ = outcome.exits(3).says(&["7.2.19", "10", "bookworm-backports", "qemu-system-x86"]);
        is_clean(&place);
    }
}

/// As QEMU's emulation lets a guest do in one start of some thousand, and here in each.
#[test]
fn a_guest_that_restarts_at_boot_is_started_once_more() {
    let place = Place::new();
    let append = "console=ttyS0 panic=-1 rdinit=/nothing";
    let bin = programs_with_qemu(&place, &format!("exec /usr/bin/qemu-system-x86_64 \"$@\" -append '{append}'"));
    let outcome = build(&place, &["--accel", "tcg"], &[("PATH", bin.as_os_str())]);
    let told = "the VM's kernel panicked: VFS: Unable to mount root fs";
    let outcome = outcome.exits(1).says(&[told, "it is started once more", "error (build): the VM's kernel panicked"]);
    assert_eq!(outcome.stderr.matches("once more").count(), 1, "{}", outcome.stderr);
    measured("a guest that panics at boot", "seconds until given up", outcome.took.as_secs_f64());
    is_clean(&place);
}

/// With `--accel kvm` a build fails and says `texts`; with `auto` it succeeds and says them in a warning.
fn kvm(device: &Path, texts: &[&str]) {
    // Of its own: what is found out about a device is kept in the cache.
    let place = Place::with_shared_appliance();
    let environment = [("PARTICLE_VM_KVM", device.as_os_str())];
    let outcome = build(&place, &["--accel", "kvm"], &environment).exits(3).says(texts);
    measured(texts[0], "seconds until KVM is known to be unusable", outcome.took.as_secs_f64());
    is_clean(&place);

    let outcome =
        build(&place, &["--accel", "auto"], &environment).exits(0).says(texts).says(&["no security boundary"]);
    assert_eq!(outcome.stderr.matches("no security boundary").count(), 1, "{}", outcome.stderr);
    leftovers::no_processes(&place);
    leftovers::no_unfinished(&place);
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

/// What can be opened as the device is, and is none: no guest runs with it, on any machine.
#[test]
fn kvm_is_present_and_unusable() {
    kvm(Path::new("/dev/null"), &["/dev/null is there, but no guest runs with it"]);
}

/// Whether a guest runs with KVM here, found out without particle-vm: the appliance's kernel, which finds no root and
/// restarts, which ends QEMU. (A few instructions of a boot sector prove nothing: there are machines on which they run.)
fn kvm_runs_a_guest(device: &Path) -> bool {
    let kernel = Place::new().appliance().join("vmlinux");
    let run = |accel: &str| {
        let mut qemu = std::process::Command::new("timeout");
        qemu.args(["60", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.args(["-machine", "q35", "-m", "512", "-accel", accel, "-append", "quiet panic=-1", "-kernel"]);
        qemu.arg(&kernel).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(run("tcg"), "the kernel does not run at all");
    // QEMU before version 8 knows no other device than the usual one.
    let accel = if device == Path::new("/dev/kvm") { "kvm".into() } else { format!("kvm,device={}", device.display()) };
    run(&accel)
}

/// The device that this machine has, usable or not; `PARTICLE_VM_TEST_KVM` names one that this user may open. What is
/// true of it is what `--accel kvm` and `auto` say, and a second use of `auto` tries nothing again. (Who asks for KVM
/// has it tried again where a guest did not die, but stood still: that may be chance, and is so on some machines.)
#[test]
fn kvm_is_present() {
    let place = Place::with_shared_appliance();
    let device = std::env::var_os("PARTICLE_VM_TEST_KVM").map_or_else(|| "/dev/kvm".into(), PathBuf::from);
    let shell = |accel: &str| {
        let mut command = place.command(&["shell", "--accel", accel, "--", "true"]);
        command.env("PARTICLE_VM_KVM", &device);
        Running::start(command).finish(DEADLINE)
    };
    let open = File::options().read(true).write(true).open(&device);
    let reason = match &open {
        Ok(_) if kvm_runs_a_guest(&device) => None,
        Ok(_) => Some("no guest runs with it"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Some("may not open"),
        Err(_) => Some("there is no"),
    };
    measured("kvm_is_present", "what keeps it from use", reason.unwrap_or("nothing"));
    let asked = shell("kvm");
    measured("kvm_is_present", "seconds until it is known", asked.took.as_secs_f64());
    let auto = shell("auto").exits(0);
    if let Some(reason) = reason {
        let _ = auto.says(&[reason, "no KVM", "no security boundary"]);
        let _ = asked.exits(3).says(&[reason]);
    } else {
        assert!(!auto.stderr.contains("no KVM"), "{auto:#?}");
        let _ = asked.exits(0);
    }
    // Where the device cannot be opened, there is nothing to remember.
    let file = place.cache().join("particle-vm/facts/kvm.json");
    let verdict = || std::fs::metadata(&file).and_then(|data| data.modified()).ok();
    let known = verdict();
    let again = shell("auto").exits(0);
    measured("kvm_is_present", "seconds of a second use", again.took.as_secs_f64());
    assert_eq!(verdict(), known, "it was tried again: {again:#?}");
    assert!(known.is_some() || open.is_err(), "{again:#?}");
}

const GIB: u64 = 1 << 30;

/// What a package that is installed with those that it recommends is reckoned to take, in bytes.
const PACKAGE: u64 = 75 << 20;

#[test]
fn not_enough_disk() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    // Packages and an image of them, each more than half of what is free here.
    let stat = nix::sys::statvfs::statvfs(&place.work()).unwrap();
    let free = stat.blocks_available() * stat.fragment_size();
    let count = free / 2 / PACKAGE + 1;
    assert!(count < 120_000, "a recipe cannot name as many packages as would not fit on this disk");
    let packages = (0..count).map(|number| format!("p{number}")).collect::<Vec<_>>().join(", ");
    let stage = format!("  - type: apt\n    options: {{ recommends: true, packages: [{packages}] }}\n");
    let recipe = mirror.recipe(&stage).replace("128MiB", &format!("{}GiB", free / 2 / GIB + 2));
    let recipe = recipe.replace("include: [tiny]", "include: [tiny, apt]");
    let recipe = place.write("tiny.yml", recipe);
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(3).says(&["free", "needed", "--work-dir"]);
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

/// The outputs have the modes of what else the user makes. `tools/check` has root run this too.
#[test]
fn an_output_file_that_exists_is_replaced() {
    let place = Place::new();
    let old = place.out().join("tiny.raw");
    std::fs::write(&old, "old").unwrap();
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o600)).unwrap();
    let usual = std::fs::metadata(place.write("usual", "")).unwrap();
    let outcome = build(&place, &["--format", "raw,qcow2"], &[]).exits(0);
    measured("a small build", "seconds", outcome.took.as_secs_f64());
    assert_eq!(outcome.stderr.contains("running as root"), nix::unistd::geteuid().is_root(), "{}", outcome.stderr);
    leftovers::no_processes(&place);
    let outputs = ["SHA256SUMS", "build.log", "manifest.json", "tiny.qcow2", "tiny.raw"];
    leftovers::no_files(&place, &outputs);
    for output in outputs {
        let data = std::fs::metadata(place.out().join(output)).unwrap();
        let attributes = |data: &std::fs::Metadata| (format!("{:o}", data.mode()), data.uid(), data.gid());
        measured("an output", output, format!("{:?}", attributes(&data)));
        assert_eq!(attributes(&data), attributes(&usual), "{output}");
    }
    assert!(std::fs::metadata(&old).unwrap().len() > 1 << 20);
}

#[test]
fn nothing_goes_to_the_temporary_folder() {
    let place = Place::new();
    let empty = place.path().join("tmp");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o555)).unwrap();
    let _ = build(&place, &[], &[("TMPDIR", empty.as_os_str())]).exits(0);
}

/// As root for real where this program runs as root, which `tools/check` sees to; otherwise as what passes for root.
#[test]
fn root_is_warned_and_served() {
    if nix::unistd::geteuid().is_root() {
        return root_is_served_a_folder();
    }
    let place = Place::new();
    let mut root = std::process::Command::new("fakeroot");
    let command = place.command(&["shell", "--", "echo", "served"]);
    root.arg(command.get_program()).args(command.get_args()).env("PARTICLE_VM_TEST", place.marker());
    root.env("XDG_CACHE_HOME", place.cache()).env("LC_ALL", "C.UTF-8");
    let outcome = Running::start(root).finish(DEADLINE).exits(0).says(&["running as root"]);
    assert_eq!(outcome.stdout, "served\n");
    leftovers::no_processes(&place);
}

/// What the file server of a shared folder may keep of root's capabilities (capabilities(7)): CHOWN, DAC_OVERRIDE,
/// FOWNER, FSETID, SETGID, SETUID.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7;

/// `nobody`, in the guest too.
const NOBODY: u32 = 65534;

fn root_is_served_a_folder() {
    let place = Place::new();
    let private = |name, owner| {
        let path = place.write(name, format!("{name}\n"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        chown(path, Some(owner), None).unwrap();
    };
    private("note", 0);
    private("theirs", NOBODY);
    let folder = place.path().join("recipe");
    // Both are for the guest's root; for its other users what is theirs, and no more.
    let script = "set -e; cat /work/note /work/theirs; nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'; \
                  $nobody cat /work/theirs; ! $nobody cat /work/note; ! touch /work/new; echo all is served; sleep 1000";
    let mut command = place.command(&["shell".as_ref(), "--work".as_ref(), folder.as_os_str()]);
    command.args(["--", "sh", "-c", script]);
    let mut running = Running::start(command);
    running.wait_for("all is served", DEADLINE);
    for (pid, _) in leftovers::processes(&place).iter().filter(|(_, command)| command.contains("internal-virtiofsd")) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(value.trim(), 16).unwrap()
        };
        for name in ["CapPrm:", "CapEff:", "CapBnd:", "CapInh:"] {
            measured("root", &format!("{name} of the file server"), format!("{:#x}", field(name)));
            assert_eq!(field(name) & !CAPABILITIES, 0, "{status}");
        }
        assert_eq!(field("CapEff:"), CAPABILITIES, "{status}");
    }
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let outcome = running.finish(Duration::from_secs(10)).exits(130).says(&["running as root"]);
    measured("root", "seconds of a shell with a folder", outcome.took.as_secs_f64());
    assert_eq!(outcome.stdout, "note\ntheirs\ntheirs\nall is served\n", "{}", outcome.stderr);
    leftovers::no_processes(&place);
}
