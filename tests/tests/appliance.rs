//! The appliance: built once, by an ordinary user, verified, carried to another machine; and what can go wrong with it.

use nix::sys::signal::Signal;
use particle_vm_tests::{Fault, Mirror, Place, Running, leftovers, measured, mirror};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A first use downloads and unpacks some hundred megabytes and starts a VM.
const FIRST_USE: Duration = Duration::from_secs(600);

/// A later use starts a VM.
const LATER_USE: Duration = Duration::from_secs(60);

/// A proxy that nobody listens at: what goes to the network fails at once.
const NO_NETWORK: &str = "http://127.0.0.1:9/";

fn folder(place: &Place) -> PathBuf {
    place.cache().join("particle-vm/appliance")
}

fn start(place: &Place, arguments: &[&str], network: bool) -> Running {
    let mut command = place.command(arguments);
    if !network {
        command.env("http_proxy", NO_NETWORK).env("https_proxy", NO_NETWORK);
    }
    Running::start(command)
}

/// The digest that `appliance list` names first.
fn digest(place: &Place) -> String {
    let outcome = start(place, &["appliance", "list"], false).finish(LATER_USE).exits(0);
    let digest = outcome.stdout.split_whitespace().find(|word| word.len() >= 12 && is_hex(word));
    digest.unwrap_or_else(|| panic!("no digest in:\n{}", outcome.stdout)).to_owned()
}

fn is_hex(word: &str) -> bool {
    word.chars().all(|char| char.is_ascii_hexdigit())
}

fn works(place: &Place) {
    let outcome = start(place, &["shell", "--", "cat", "/etc/debian_version"], false).finish(LATER_USE).exits(0);
    assert!(outcome.stdout.starts_with("13"), "{outcome:#?}");
    measured("appliance", "seconds of one command in a VM", outcome.took.as_secs_f64());
}

/// The whole life of an appliance; one test, because each step needs the one before and a build takes a minute.
#[test]
fn two_first_uses_then_no_network_then_corruption_then_another_machine() {
    // Two first uses at once: one builds, the other waits, both succeed. On a Debian that has QEMU and no more than
    // every Debian has.
    let place = Place::with_empty_cache();
    let bin = place.bare_debian();
    let first = [(); 2].map(|()| {
        let mut command = place.command(&["appliance", "build"]);
        command.env("PATH", &bin);
        Running::start(command)
    });
    let first = first.map(|running| running.finish(FIRST_USE).exits(0));
    for outcome in &first {
        measured("appliance", "seconds of a first use", outcome.took.as_secs_f64());
    }
    let (builder, waiting): (Vec<_>, Vec<_>) =
        first.iter().partition(|outcome| outcome.stderr.contains("appliance: download"));
    assert!(builder.len() == 1 && waiting[0].stderr.contains("another particle-vm"), "{first:#?}");
    assert!(!builder[0].stderr.contains("another particle-vm"), "{first:#?}");
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
    works(&place);

    // It is there; whether the mirror has other packages now is another question.
    let again = start(&place, &["appliance", "build"], false).finish(LATER_USE).exits(0);
    let _ = start(&place, &["appliance", "build", "--force"], false).finish(LATER_USE).exits(4).says(&["127.0.0.1"]);
    let forced = start(&place, &["appliance", "build", "--force"], true).finish(FIRST_USE).exits(0);
    let forced = forced.says(&["appliance: package index"]);
    measured("appliance", "seconds to see whether the mirror has other packages", forced.took.as_secs_f64());
    assert_eq!(forced.stdout, again.stdout);

    // What is corrupt is found: with the network it is built anew, and here it is told that there is none.
    let digest = digest(&place);
    let root = find(&folder(&place), "root0.squashfs");
    let whole = std::fs::read(&root).unwrap();
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    std::fs::write(&root, &broken).unwrap();
    let _ = start(&place, &["shell", "--", "true"], false).finish(FIRST_USE).exits(4).says(&["root0.squashfs"]);

    // Mended, carried to another machine, and used there.
    let _ = start(&place, &["appliance", "build"], true).finish(FIRST_USE).exits(0);
    let archive = place.path().join("appliance.tar");
    let archive = archive.to_str().unwrap();
    let _ = start(&place, &["appliance", "export", "--output", archive], false).finish(LATER_USE).exits(0);
    let other = Place::with_empty_cache();
    let _ = start(&other, &["appliance", "import", archive], false).finish(LATER_USE).exits(0);
    works(&other);

    // Removed, it is gone.
    let _ = start(&other, &["appliance", "rm", &digest], false).finish(LATER_USE).exits(0);
    let left = leftovers::names(&folder(&other));
    assert!(!left.contains(&digest), "{left:?}");
    leftovers::no_processes(&other);
}

#[test]
fn an_archive_that_was_changed_is_refused() {
    let place = Place::new();
    let archive = place.path().join("appliance.tar");
    let path = archive.to_str().unwrap().to_owned();
    let _ = start(&place, &["appliance", "export", "--output", &path], true).finish(FIRST_USE).exits(0);
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&archive, bytes).unwrap();
    let other = Place::with_empty_cache();
    let outcome = start(&other, &["appliance", "import", &path], false).finish(LATER_USE);
    let _ = outcome.exits(2).says(&[&path, "is no appliance for this program", "has the SHA-256"]);
    assert_eq!(leftovers::names(&folder(&other)).iter().filter(|name| is_hex(name)).count(), 0);
}

#[test]
fn no_network_on_first_use() {
    let place = Place::with_empty_cache();
    let _ = start(&place, &["appliance", "build"], false).finish(FIRST_USE).exits(4).says(&["127.0.0.1"]);
    leftovers::no_processes(&place);
}

/// What the first use is for fails too: the output of an earlier build stays as it is, and nothing else lies beside it.
#[test]
fn a_build_is_interrupted_while_its_appliance_is_fetched() {
    const EARLIER: &[u8] = b"the output of an earlier build";
    let place = Place::with_empty_cache();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    std::fs::write(place.out().join("tiny.raw"), EARLIER).unwrap();
    for (signal, code) in [(Signal::SIGTERM, 130), (Signal::SIGKILL, 137)] {
        println!("{signal}");
        let mut running = place.start_build(&recipe, &["--progress", "json"]);
        running.wait_for(r#""step":"appliance: download""#, FIRST_USE);
        running.signal(signal);
        let outcome = running.finish(Duration::from_secs(10)).exits(code);
        let outcome = if signal == Signal::SIGKILL { outcome } else { outcome.says(&[signal.as_str()]) };
        measured(
            "appliance",
            &format!("seconds until a build's download is ended by {signal}"),
            outcome.took.as_secs_f64(),
        );
        leftovers::no_processes(&place);
        if signal != Signal::SIGKILL {
            leftovers::no_files(&place, &["tiny.raw"]);
        }
    }
    assert!(leftovers::names(&place.out()).len() > 1, "what a sweep is for");
    // The next run sweeps, even one that cannot build.
    let mut command = place.build_command(&recipe, &[]);
    command.env("http_proxy", NO_NETWORK).env("https_proxy", NO_NETWORK);
    let _ = Running::start(command).finish(LATER_USE).exits(4).says(&["127.0.0.1"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["tiny.raw"]);
    assert_eq!(std::fs::read(place.out().join("tiny.raw")).unwrap(), EARLIER);
}

/// A mirror on loopback has not what the appliance needs; it is known by what it was asked for.
#[test]
fn the_mirror_of_the_command_line_comes_before_that_of_the_environment() {
    let place = Place::with_empty_cache();
    let (named, other) = (Mirror::start(Fault::None), Mirror::start(Fault::None));
    let build = |arguments: &[&str]| {
        let mut command = place.command(&[&["appliance", "build"], arguments].concat());
        command.env("PARTICLE_VM_MIRROR", other.url());
        let _ = Running::start(command).finish(LATER_USE).exits(4).says(&["127.0.0.1"]);
        (named.requests().len(), other.requests().len())
    };
    let (of_named, of_other) = build(&["--mirror", &named.url()]);
    assert!(of_named > 0 && of_other == 0, "{of_named} and {of_other} requests");
    let (_, of_other) = build(&[]);
    assert!(of_other > 0 && named.requests().len() == of_named, "{of_other} requests");
    measured(
        "the mirror",
        "requests to the one of the command line, and to the other",
        format!("{of_named}, {of_other}"),
    );
    leftovers::no_files(&place, &[]);
}

#[test]
fn interrupted_while_it_is_built() {
    let place = Place::with_empty_cache();
    // In the middle of work that does not wait for anything.
    let mut running = start(&place, &["--progress", "json", "appliance", "build"], true);
    running.wait_for("appliance: root file system", FIRST_USE);
    running.signal(Signal::SIGINT);
    let _ = running.finish(Duration::from_secs(10)).exits(130).says(&["SIGINT"]);
    let left = leftovers::names(&folder(&place));
    assert!(left.iter().all(|name| !name.starts_with(".particle-vm-")), "{left:?}");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 130), (Signal::SIGHUP, 130), (Signal::SIGKILL, 137)]
    {
        let mut running = start(&place, &["--progress", "json", "appliance", "build"], true);
        running.wait_for("step-progress", FIRST_USE);
        running.signal(signal);
        let outcome = running.finish(Duration::from_secs(10)).exits(code);
        leftovers::no_processes(&place);
        if signal != Signal::SIGKILL {
            let _ = outcome.says(&[signal.as_str()]);
            let left = leftovers::names(&folder(&place));
            assert!(left.iter().all(|name| !name.starts_with(".particle-vm-")), "{left:?}");
        }
    }
    // The next run sweeps what the kill has left, even one that cannot build.
    let _ = start(&place, &["appliance", "build"], false).finish(FIRST_USE).exits(4);
    let left = leftovers::names(&folder(&place));
    assert!(left.iter().all(|name| !name.starts_with(".particle-vm-")), "{left:?}");
}

fn find(folder: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join(name));
    entries.into_iter().find(|path| path.is_file()).unwrap()
}
