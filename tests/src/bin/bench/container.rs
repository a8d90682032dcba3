//! A container image on a disk, beside what it takes to unpack the layers of the same image, to make a file system and to
//! copy the tree, by hand in the same VM.

use crate::measure::{Report, measure};
use crate::{ACCEL, missed};
use particle_vm_tests::{Place, base_image};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most seconds in the VM for each second of the work by hand.
const TIME_BUDGET: f64 = 1.5;

/// Most bytes of scratch for each byte of the tree and its repository.
const SCRATCH_BUDGET: f64 = 1.3;

/// The disk as people make it. Nothing is asked for beside it.
const DISK: &str = "disk: { size: 6GiB }\noutput: { formats: [raw] }\n";

/// The work by hand is a stage of another build, whose scratch disk it uses. The copy is a folder: a file system in a file
/// would be slower than a disk is, and flatter the first build.
const BY_HAND: &str = "engine: plain
stages:
  - { type: copy, options: { source: layers, destination: /by-hand/layers } }
  - name: by hand
    type: run
    options:
      script: |
        cd /by-hand
        mkdir tree copy
        for layer in layers/*; do tar -x -z --numeric-owner --xattrs -C tree -f \"$layer\"; done
        truncate -s 6G disk
        mkfs.ext4 -q disk
        cp -a tree/. copy/
        sync -f copy
  - { name: clean up, type: run, options: { script: rm -rf /by-hand } }
output: { formats: [tar] }
";

/// Measure both and print the figures.
///
/// # Panics
/// When one of them fails.
pub fn compare() {
    let ours = Place::new();
    let (report, manifest) = build(&ours, "container", DISK);
    let hand = Place::new();
    unpack_layers(&hand);
    let (_, by_hand) = build(&hand, "by-hand", BY_HAND);
    let by_hand = stages(&by_hand, |name| name == "by hand");
    let in_vm = stages(&manifest, |_| true);
    let content = number(&manifest["content_bytes"]);

    println!("| a container image of {:.0} MB on a disk | s in the VM | CPU s in the VM |", content / 1e6);
    println!("|---|---|---|");
    println!("| layers unpacked, `mkfs`, tree copied, by hand | {:.1} | {:.1} |", by_hand.0, by_hand.1);
    println!("| particle-vm | {:.1} | {:.1} |", in_vm.0, in_vm.1);
    let ratio = in_vm.0 / by_hand.0;
    println!(
        "| ratio (budget {TIME_BUDGET} x) | {ratio:.2}{} | {:.2} |",
        missed(ratio, TIME_BUDGET),
        in_vm.1 / by_hand.1
    );
    println!();
    let allocated = std::fs::metadata(ours.out().join("container.raw")).unwrap().blocks() as f64 * 512.0;
    println!("- the raw image occupies {allocated} bytes for {content} bytes of content: {:.3} x", allocated / content);
    let traffic = |bytes: u64| bytes as f64 / allocated;
    let (read, written) = (traffic(report.traffic.read), traffic(report.traffic.written));
    println!(
        "- for each byte of the image, {read:.2} bytes were read and {written:.2} written by all processes together"
    );
    // The tree lies in the repository, on the disk; what is not on the disk is scratch.
    let scratch = number(&manifest["scratch_bytes"]);
    let ratio = (scratch + allocated) / content;
    println!(
        "- scratch and disk together: {} bytes at most, {ratio:.2} x the content (budget {SCRATCH_BUDGET} x{})",
        scratch + allocated,
        missed(ratio, SCRATCH_BUDGET)
    );
}

/// Build a recipe on top of the base image.
fn build(place: &Place, name: &str, lines: &str) -> (Report, Value) {
    let text = format!("name: {name}\nbase-image: {}\n{lines}", base_image());
    let recipe = place.write(&format!("{name}.yml"), text);
    let report = measure(&mut place.build_command(&recipe, &["--accel", ACCEL]));
    (report, serde_json::from_slice(&std::fs::read(place.out().join("manifest.json")).unwrap()).unwrap())
}

/// Seconds and seconds of processor time of the stages with some names.
fn stages(manifest: &Value, is_one: impl Fn(&str) -> bool) -> (f64, f64) {
    let timings = manifest["timings"].as_array().unwrap().iter();
    let stages = timings.filter(|timing| timing["kind"] == "stage" && is_one(timing["name"].as_str().unwrap()));
    stages
        .fold((0.0, 0.0), |(wall, cpu), stage| (wall + number(&stage["seconds"]), cpu + number(&stage["cpu_seconds"])))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// The layers of the base image in the folder `layers` of the recipe, named in their order.
fn unpack_layers(place: &Place) {
    let layout = layout(place);
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let blob = |digest: &Value| layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let index = read(layout.join("index.json"));
    let manifest = read(blob(&index["manifests"][0]["digest"]));
    let layers = place.path().join("recipe/layers");
    std::fs::create_dir(&layers).unwrap();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        std::fs::hard_link(blob(&layer["digest"]), layers.join(format!("{number:03}"))).unwrap();
    }
}

/// The base image as a layout.
fn layout(place: &Place) -> PathBuf {
    let archive = base_image().strip_prefix("oci-archive:").expect("the base image is an archive");
    let layout = place.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let status = Command::new("tar").arg("-x").arg("-C").arg(&layout).arg("-f").arg(Path::new(archive)).status();
    assert!(status.unwrap().success());
    layout
}
