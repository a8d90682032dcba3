//! Builds at the same time.

use particle_vm_tests::{Fault, Mirror, Place, leftovers, mirror};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(400);

const OUTPUTS: [&str; 4] = ["SHA256SUMS", "build.log", "manifest.json", "tiny.raw"];

#[test]
fn two_builds_of_one_recipe() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe(""));
    let builds = [place.start_build(&recipe, &[]), place.start_build(&recipe, &[])];
    for build in builds {
        let _ = build.finish(DEADLINE).exits(0);
    }
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &OUTPUTS);
    let mut sums = std::process::Command::new("sha256sum");
    let sums = sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(place.out()).output().unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
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
        place.start(&["build".as_ref(), recipe.as_os_str(), "--output".as_ref(), out.as_os_str()])
    };
    let builds = [start(&one, &outs[0]), start(&two, &outs[1])];
    for build in builds {
        let _ = build.finish(DEADLINE).exits(0);
    }
    leftovers::no_processes(&place);
    assert!(outs[0].join("one.raw").is_file() && outs[1].join("two.raw").is_file());
}
