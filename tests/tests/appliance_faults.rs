//! What can go wrong while the appliance is built: mirrors that misbehave, and processes that die in its first VM.

use nix::sys::signal::Signal;
use particle_vm_tests::{Fault, Mirror, Place, Running, Upstream, leftovers, measured};
use std::time::Duration;

/// A build downloads and unpacks some hundred megabytes and starts a VM.
const DEADLINE: Duration = Duration::from_secs(600);

/// Settings of this machine's apt, which are in force: a server that stalls is given up soon, and not asked again.
const IMPATIENT: &str = "Acquire::http::Timeout \"5\";\nAcquire::Retries \"0\";\n";

fn is_clean(place: &Place) {
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
    let left = leftovers::names(&place.cache().join("particle-vm/appliance"));
    assert!(left.iter().all(|name| name.len() != 64), "{left:?}");
}

/// What the paths of the indexes contain, and that of a package: not the first one, so that others lie there by then.
const INDEXES: &str = "/binary-";
const PACKAGE: &str = "/mmdebstrap_";

/// One place for all, because they share what the mirror of this machine has to give.
fn a_mirror_misbehaves(faults: &[(&'static str, Fault, &[&str])]) -> (Place, Mirror) {
    let place = Place::with_empty_cache();
    let mirror = Mirror::of(Upstream::of(&place), Fault::None);
    for (part, fault, texts) in faults {
        println!("{fault:?} of {part}");
        mirror.spoil(part, *fault);
        let before = mirror.requests().len();
        let outcome = start(&place, &mirror, "plain").finish(DEADLINE).exits(4).says(texts);
        let what = format!("seconds to the failure, {fault:?} of {part}");
        measured("appliance", &what, outcome.took.as_secs_f64());
        assert!(mirror.requests()[before..].iter().any(|path| path.contains(part)), "nothing was spoilt");
        is_clean(&place);
    }
    mirror.set(Fault::None);
    (place, mirror)
}

fn start(place: &Place, mirror: &Mirror, progress: &str) -> Running {
    let apt = place.write("apt.conf", IMPATIENT);
    let mut command = place.command(&["--progress", progress, "appliance", "build", "--mirror", &mirror.url()]);
    command.env("APT_CONFIG", &apt);
    Running::start(command)
}

#[test]
fn a_mirror_has_bad_indexes() {
    let _ = a_mirror_misbehaves(&[
        ("InRelease", Fault::WrongSignature, &["not signed by Debian's archive keys"]),
        (INDEXES, Fault::MissingPackage, &["404"]),
        (INDEXES, Fault::StalledPackage, &["timed out"]),
        (INDEXES, Fault::TruncatedPackage, &["Failed to fetch"]),
        (INDEXES, Fault::WrongPackage, &["Hash Sum mismatch"]),
    ]);
}

/// What has the fault is one package of some hundred; when it is mended, the appliance is built. It is not waited for
/// until it is there, which other tests see: all packages have been verified when the first one is unpacked.
#[test]
fn a_mirror_has_a_bad_package_and_is_mended() {
    let (place, mirror) = a_mirror_misbehaves(&[
        (PACKAGE, Fault::MissingPackage, &["404", PACKAGE]),
        (PACKAGE, Fault::StalledPackage, &["timed out", PACKAGE]),
        (PACKAGE, Fault::TruncatedPackage, &["Failed to fetch", PACKAGE]),
        (PACKAGE, Fault::WrongPackage, &["Hash Sum mismatch", PACKAGE]),
    ]);
    let mut running = start(&place, &mirror, "json");
    running.wait_for("appliance: root file system", DEADLINE);
    running.signal(Signal::SIGTERM);
    let outcome = running.finish(Duration::from_secs(10)).exits(130);
    measured("appliance", "seconds until a mended mirror's packages are unpacked", outcome.took.as_secs_f64());
    is_clean(&place);
}

/// One after the other, because only the first VM of the last build does what the next ones need.
#[test]
fn processes_die_in_its_first_vm() {
    let place = Place::with_empty_cache();
    let reach = || {
        let mut running = place.start(&["--progress", "json", "appliance", "build"]);
        running.wait_for(r#""step":"appliance: first start""#, DEADLINE);
        running
    };
    for (program, text) in [("qemu-system-x86_64", "QEMU"), ("internal-virtiofsd", "the file server for")] {
        println!("{program}");
        let running = reach();
        leftovers::send(&place, program, Signal::SIGKILL);
        let _ = running.finish(Duration::from_secs(20)).exits(3).says(&[text, "SIGKILL"]);
        is_clean(&place);
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        println!("{signal}");
        let running = reach();
        running.signal(signal);
        let _ = running.finish(Duration::from_secs(10)).exits(130).says(&[signal.as_str()]);
        is_clean(&place);
    }
    let running = reach();
    running.signal(Signal::SIGKILL);
    let _ = running.finish(Duration::from_secs(10)).exits(137);
    leftovers::no_processes(&place);

    let _ = place.start(&["appliance", "build"]).finish(DEADLINE).exits(0);
    leftovers::no_files(&place, &[]);
    let outcome = place.start(&["shell", "--", "echo", "it works"]).finish(DEADLINE).exits(0);
    assert_eq!(outcome.stdout, "it works\n");
}
