//! What `boot` says of images that do not come up, or are none, and of ends that come from outside: the message and the
//! exit code, soon; nothing left behind, and the image as it was.

use nix::sys::signal::Signal;
use particle_vm_tests::{Outcome, Place, Running, leftovers, measured};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

fn start(place: &Place, image: &Path, arguments: &[&str]) -> Running {
    let work = place.work();
    let mut all = vec!["boot".as_ref(), image.as_os_str(), "--work-dir".as_ref(), work.as_os_str()];
    all.extend(arguments.iter().map(OsStr::new));
    place.start(&all)
}

fn boot(place: &Place, image: &Path, arguments: &[&str]) -> Outcome {
    let outcome = start(place, image, arguments).finish(DEADLINE);
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
    outcome
}

/// An empty disk: the firmware comes up and finds nothing, which is what a broken bootloader looks like.
fn empty(place: &Place) -> PathBuf {
    let image = place.path().join("empty.raw");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    image
}

#[test]
fn there_is_nothing_to_boot() {
    let place = Place::new();
    let image = empty(&place);
    for firmware in ["uefi", "bios"] {
        let arguments = ["--firmware", firmware, "--expect", "login:", "--timeout", "5min"];
        let outcome = boot(&place, &image, &arguments).exits(1).says(&["the firmware found nothing to boot"]);
        measured(firmware, "seconds until a boot is given up", outcome.took.as_secs_f64());
    }
}

#[test]
fn what_is_expected_does_not_come() {
    let scene = Scene::new();
    let arguments = ["--firmware", "bios", "--expect", "login:", "--timeout", "12s"];
    let outcome = boot(&scene.place, &scene.image, &arguments).exits(1).says(&["login:", "12 s"]);
    assert!(outcome.took > Duration::from_secs(12) && outcome.took < Duration::from_secs(60), "{outcome:#?}");
    scene.is_clean("when its time was over");
}

#[test]
fn it_is_no_image() {
    let place = Place::with_empty_cache();
    // Without an appliance: none is made for an image that is not there.
    let outcome = boot(&place, Path::new("nope.raw"), &[]).exits(2).says(&["nope.raw"]);
    assert!(outcome.took < Duration::from_secs(10), "{outcome:#?}");
    let folder = place.path().to_owned();
    let outcome = boot(&place, &folder, &[]).exits(2).says(&["not a regular file"]);
    assert!(outcome.took < Duration::from_secs(10), "{outcome:#?}");
    assert!(leftovers::names(&place.cache().join("particle-vm")).is_empty());
}

/// An image whose machine runs and will go on doing so.
struct Scene {
    place: Place,
    image: PathBuf,
    before: (u64, i64, i64, u64),
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let image = place.path().join("endless.raw");
        // `jmp $`, and the mark of a boot sector.
        let mut disk = vec![0; 1 << 20];
        disk[..2].copy_from_slice(&[0xeb, 0xfe]);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&image, disk).unwrap();
        let before = state(&image);
        Self { place, image, before }
    }

    fn reach(&self) -> Running {
        let arguments = ["--firmware", "bios", "--expect", "login:", "--timeout", "10min"];
        let mut running = start(&self.place, &self.image, &arguments);
        running.wait_for("Booting from Hard Disk", DEADLINE);
        running
    }

    fn no_processes(&self, what: &str) {
        let since = Instant::now();
        leftovers::no_processes(&self.place);
        measured("boot", &format!("seconds until all has ended, {what}"), since.elapsed().as_secs_f64());
        assert_eq!(state(&self.image), self.before, "the image");
    }

    fn is_clean(&self, what: &str) {
        self.no_processes(what);
        leftovers::no_files(&self.place, &[]);
        assert_eq!(leftovers::names(&self.place.path().join("home")), Vec::<String>::new());
    }
}

/// What is another after a write: how much a file occupies, when it was written to, and its size.
fn state(image: &Path) -> (u64, i64, i64, u64) {
    let file = std::fs::metadata(image).unwrap();
    (file.blocks(), file.mtime(), file.mtime_nsec(), file.size())
}

#[test]
fn it_is_interrupted() {
    let scene = Scene::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let running = scene.reach();
        running.signal(signal);
        let _ = running.finish(Duration::from_secs(10)).exits(130).says(&[signal.as_str()]);
        scene.is_clean(signal.as_str());
    }
}

#[test]
fn qemu_is_killed() {
    let scene = Scene::new();
    let running = scene.reach();
    leftovers::send(&scene.place, "qemu-system-x86_64", Signal::SIGKILL);
    let _ = running.finish(Duration::from_secs(20)).exits(3).says(&["QEMU", "SIGKILL"]);
    scene.is_clean("kill -9 of QEMU");
}

/// What it leaves then, the next run removes.
#[test]
fn it_is_killed() {
    let scene = Scene::new();
    let running = scene.reach();
    running.signal(Signal::SIGKILL);
    let _ = running.finish(Duration::from_secs(10)).exits(137);
    scene.no_processes("kill -9 of particle-vm");
    assert_eq!(leftovers::names(&scene.place.work()).len(), 1, "what a sweep is for");
    let arguments = ["--firmware", "bios", "--expect", "SeaBIOS"];
    let _ = boot(&scene.place, &scene.image, &arguments).exits(0);
    scene.is_clean("after the next run");
}
