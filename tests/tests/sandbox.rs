//! A first use where neither namespaces nor mounts are to be had, as in many containers and build services, and where
//! the temporary folder is small: in memory, and on another file system than the home.

use particle_vm_tests::{Fault, Mirror, Outcome, Place, Running, leftovers, measured, mirror, occupied};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A first use downloads and unpacks some hundred megabytes and starts a VM.
const DEADLINE: Duration = Duration::from_secs(600);

/// Bytes that are no harm in a temporary folder.
const SMALL: u64 = 1 << 20;

/// A file system in memory that every Linux has.
const IN_MEMORY: &str = "/dev/shm";

/// Every new namespace (clone(2)).
const NAMESPACES: [i32; 7] = [
    nix::libc::CLONE_NEWCGROUP,
    nix::libc::CLONE_NEWIPC,
    nix::libc::CLONE_NEWNET,
    nix::libc::CLONE_NEWNS,
    nix::libc::CLONE_NEWPID,
    nix::libc::CLONE_NEWUSER,
    nix::libc::CLONE_NEWUTS,
];

/// System calls that are refused whatever their arguments.
const REFUSED: [i64; 10] = [
    nix::libc::SYS_unshare,
    nix::libc::SYS_setns,
    nix::libc::SYS_mount,
    nix::libc::SYS_umount2,
    nix::libc::SYS_pivot_root,
    nix::libc::SYS_fsopen,
    nix::libc::SYS_fsmount,
    nix::libc::SYS_open_tree,
    nix::libc::SYS_move_mount,
    nix::libc::SYS_chroot,
];

/// `rules` give `errno`, everything else is allowed.
fn filter(rules: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>, errno: i32) -> BpfProgram {
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let rules = rules.into_iter().collect();
    SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::x86_64).unwrap().try_into().unwrap()
}

/// Have `command` and all that it starts refused what a strict container refuses.
fn confine(mut command: Command) -> Command {
    let with_flag = |flag: i32| {
        let flag = u64::from(flag.cast_unsigned());
        let equal = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, equal, flag).unwrap()]).unwrap()
    };
    let refused = REFUSED.map(|call| (call, Vec::new()));
    let clone = (nix::libc::SYS_clone, NAMESPACES.map(with_flag).into());
    let filters = [
        filter(refused.into_iter().chain([clone]), nix::libc::EPERM),
        // Its flags are out of a filter's reach, so that containers deny that it is there, and glibc takes the other.
        filter([(nix::libc::SYS_clone3, Vec::new())], nix::libc::ENOSYS),
    ];
    let apply =
        move || filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter).map_err(std::io::Error::other));
    // SAFETY: between fork and exec only prctl(2) and seccomp(2) are called, unless they fail.
    unsafe { command.pre_exec(apply) };
    command
}

/// Whether `program` succeeds in the sandbox.
fn can(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    confine(command).status().unwrap().success()
}

/// Bytes that the files in one of `folders` occupy which the processes of `place` have open, named or not.
fn open(place: &Place, folders: &[&Path]) -> u64 {
    let open = leftovers::processes(place).into_iter().filter_map(|(pid, _)| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let paths = descriptors.filter_map(Result::ok).map(|descriptor| descriptor.path());
        let inside = paths.filter(|path| {
            std::fs::read_link(path).is_ok_and(|target| folders.iter().any(|folder| target.starts_with(folder)))
        });
        Some(inside.filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.blocks() * 512).sum::<u64>())
    });
    open.sum()
}

/// Run `command` to its end in the sandbox, and look all the time at what it puts into the temporary folders.
fn run(place: &Place, mut command: Command, temporary: &Path) -> (Outcome, u64) {
    let ended = AtomicBool::new(false);
    command.env("TMPDIR", temporary);
    std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(occupied(temporary)).max(open(place, &[temporary, Path::new("/tmp")]));
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let running = Running::start(confine(command));
        // Also when the command does not end in time, which is a panic: nobody may wait for the other thread then.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.finish(DEADLINE)));
        ended.store(true, Ordering::Relaxed);
        let most = most.join().unwrap();
        (outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), most)
    })
}

/// The first use is that of a build, which makes the appliance before its image.
#[test]
fn a_first_use_in_a_sandbox() {
    assert!(can("true", &[]), "the sandbox lets nothing run");
    assert!(!can("unshare", &["--user", "true"]) && !can("unshare", &["--map-root-user", "--mount", "true"]));

    let place = Place::with_empty_cache();
    let temporary = tempfile::Builder::new().prefix("particle-vm-test-").tempdir_in(IN_MEMORY).unwrap();
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
    assert_ne!(device(temporary.path()), device(place.path()), "home and temporary folder");
    // A file without a name, which is what is found with the most trouble.
    let script = "exec 3> $TMPDIR/file; rm $TMPDIR/file; head -c 2M /dev/zero >&3; sleep 2";
    let mut large = Command::new("sh");
    large.args(["-c", script]).env("PARTICLE_VM_TEST", place.marker());
    assert!(run(&place, large, temporary.path()).1 > SMALL, "the search finds nothing");

    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));

    let (outcome, most) = run(&place, place.build_command(&recipe, &[]), temporary.path());
    let outcome = outcome.exits(0).says(&["appliance: first start"]);
    measured("sandbox", "seconds of a first use and a small build", outcome.took.as_secs_f64());
    measured("sandbox", "bytes in temporary folders, at most", most);
    assert!(most < SMALL, "{most} bytes lay in {} or /tmp", temporary.path().display());
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(temporary.path()), Vec::<String>::new());
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.raw"]);
}
