//! What `boot` says of images that do not come up, or are none: the message and the exit code, soon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use particle_vm_tests::{Outcome, Place, leftovers, measured};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

fn boot(place: &Place, image: &Path, arguments: &[&str]) -> Outcome {
    let work = place.work();
    let mut all = vec!["boot".as_ref(), image.as_os_str(), "--work-dir".as_ref(), work.as_os_str()];
    all.extend(arguments.iter().map(std::ffi::OsStr::new));
    let outcome = place.start(&all).finish(DEADLINE);
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
    outcome
}

/// An empty disk: the firmware comes up and finds nothing, which is what a broken bootloader looks like.
#[test]
fn what_is_expected_does_not_come() {
    let place = Place::new();
    let image = place.path().join("empty.raw");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    for firmware in ["uefi", "bios"] {
        let arguments = ["--firmware", firmware, "--expect", "login:", "--timeout", "12s"];
        let outcome = boot(&place, &image, &arguments).exits(1).says(&["login:", "12 s"]);
        measured(firmware, "seconds until a boot is given up", outcome.took.as_secs_f64());
        assert!(outcome.took > Duration::from_secs(12) && outcome.took < Duration::from_secs(60), "{outcome:#?}");
    }
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
