//! Builds at the same time.

use particle_vm_tests::image::Image;
use particle_vm_tests::registry::Act;
use particle_vm_tests::{Fault, Mirror, Place, Registry, leftovers, measured, mirror};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(400);

const OUTPUTS: [&str; 4] = ["SHA256SUMS", "build.log", "manifest.json", "tiny.raw"];

#[test]
fn two_builds_of_one_recipe() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    // The second one would wait for what the first makes.
    let start = || place.start_build(&recipe, &["--no-cache"]);
    let builds = [start(), start()];
    for build in builds {
        let _ = build.finish(DEADLINE).exits(0);
    }
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &OUTPUTS);
    let mut sums = std::process::Command::new("sha256sum");
    let sums = sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(place.out()).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
}

/// The second one waits for what the first one is about to have.
#[test]
fn two_that_fetch_an_image_fetch_each_layer_once() {
    let (place, registry, image) = (Place::with_empty_cache(), Registry::start(), Image::sample(40));
    registry.put_image(&image, "1");
    let reference = registry.reference("1");
    // It is tried again after 250 ms, and then after 500, 1000 and 2000.
    registry.next(&image.layer(1), &[Act::Cut(100), Act::Cut(200), Act::Cut(300), Act::Cut(400)]);
    let first = place.start(&["inspect", "--json", &reference]);
    while registry.seen(&image.layer(1)).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = place.start(&["-vv", "inspect", "--json", &reference]);
    let second = second.finish(DEADLINE).exits(0).says(&["from the store"]);
    assert_eq!(first.finish(DEADLINE).exits(0).stdout, second.stdout);
    measured("an image that two fetch", "requests for its layers", registry.seen("blobs/").len() - 1);
    let requests = [image.layer(0), image.layer(1)].map(|digest| registry.seen(&digest).len());
    assert_eq!(requests, [1, 5], "{:?}", registry.seen("blobs/"));
    leftovers::no_processes(&place);
    leftovers::no_unfinished(&place);
}

#[test]
fn two_builds_of_different_recipes() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let one = place.write("one.yml", mirror.recipe("").replace("name: tiny", "name: one"));
    let two = place.write("two.yml", mirror.recipe("").replace("name: tiny", "name: two"));
    let outs = [place.path().join("out/one"), place.path().join("out/two")];
    let start = |recipe: &std::path::Path, out: &std::path::Path| {
        place.start(&[
            "build".as_ref(),
            recipe.as_os_str(),
            "--no-cache".as_ref(),
            "--output".as_ref(),
            out.as_os_str(),
        ])
    };
    let builds = [start(&one, &outs[0]), start(&two, &outs[1])];
    for build in builds {
        let _ = build.finish(DEADLINE).exits(0);
    }
    leftovers::no_processes(&place);
    assert!(outs[0].join("one.raw").is_file() && outs[1].join("two.raw").is_file());
}
