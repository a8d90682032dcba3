//! A container image on a disk, beside what it takes to unpack the layers of the same image, to make a file system and to
//! copy the tree, by hand in the same VM.

use crate::measure::{Report, measure};
use crate::{ACCEL, missed, print_image};
use particle_vm_tests::{Place, base_image, occupied};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most seconds in the VM for each second of the work by hand.
const TIME_BUDGET: f64 = 1.5;

/// Most bytes on all disks at once for each byte of the tree and of the repository.
const SCRATCH_BUDGET: f64 = 1.3;

/// The disk as people make it. Nothing is asked for beside it.
const DISK: &str = "disk: { size: 6GiB }\noutput: { formats: [raw] }\n";

/// The work by hand is a stage of another build, whose scratch disk it uses. The layers are decompressed before, as they are
/// for the first build. The copy is a folder: a file system in a file would be slower than a disk is, and flatter the first
/// build.
const BY_HAND: &str = "engine: plain
stages:
  - { type: copy, options: { source: layers, destination: /by-hand/layers } }
  - name: by hand
    type: run
    options:
      script: |
        cd /by-hand
        mkdir tree copy
        for layer in layers/*; do tar -x --numeric-owner --xattrs --xattrs-include='*' -C tree -f \"$layer\"; done
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
    let watch = Watch::start([ours.work(), ours.out()]);
    let (report, manifest) = build(&ours, "container", DISK);
    let peak = watch.finish() as f64;
    let hand = Place::new();
    unpack_layers(&hand);
    let (_, by_hand) = build(&hand, "by-hand", BY_HAND);
    let by_hand = seconds(&by_hand, |name| name.ends_with(" by hand"));
    let in_vm = seconds(&manifest, |_| true);
    let content = manifest["content_bytes"].as_u64().unwrap() as f64;

    println!("| a container image of {:.0} MB on a disk | s in the VM |", content / 1e6);
    println!("|---|---|");
    println!("| layers unpacked, `mkfs`, tree copied, by hand | {by_hand:.1} |");
    println!("| particle-vm | {in_vm:.1} |");
    let ratio = in_vm / by_hand;
    println!("| ratio (budget {TIME_BUDGET} x) | {ratio:.2}{} |", missed(ratio, TIME_BUDGET));
    println!();
    let allocated = print_image(&ours, "container", &manifest);
    let traffic = |bytes: u64| bytes as f64 / allocated as f64;
    let (read, written) = (traffic(report.traffic.read), traffic(report.traffic.written));
    println!(
        "- for each byte of the image, {read:.2} bytes were read and {written:.2} written by all processes together"
    );
    // The files of the tree are those of the repository: what two copies would take is not the measure of one.
    let (once, twice) = (peak / content, peak / (2.0 * content));
    println!(
        "- unpacked layers, scratch and image together: {peak} bytes at most, {twice:.2} x the tree and the repository, \
         {once:.2} x the content, which both share (budget {SCRATCH_BUDGET} x{})",
        missed(once, SCRATCH_BUDGET)
    );
}

/// Looks how much folders occupy.
struct Watch {
    ended: Arc<AtomicBool>,
    looks: JoinHandle<u64>,
}

impl Watch {
    fn start(folders: [PathBuf; 2]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let looks = std::thread::spawn(move || {
            let mut peak = 0;
            while !end.load(Ordering::Relaxed) {
                peak = folders.iter().map(|folder| occupied(folder)).sum::<u64>().max(peak);
                std::thread::sleep(Duration::from_millis(200));
            }
            peak
        });
        Self { ended, looks }
    }

    /// Most bytes that they occupied together.
    fn finish(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.looks.join().unwrap()
    }
}

/// Build a recipe on top of the base image.
fn build(place: &Place, name: &str, lines: &str) -> (Report, Value) {
    let text = format!("name: {name}\nbase-image: {}\n{lines}", base_image());
    let recipe = place.write(&format!("{name}.yml"), text);
    let report = measure(&mut place.build_command(&recipe, &["--accel", ACCEL]));
    (report, place.manifest())
}

/// Seconds of the stages with some names.
fn seconds(manifest: &Value, is_one: impl Fn(&str) -> bool) -> f64 {
    let timings = manifest["timings"].as_array().unwrap().iter();
    let stages = timings.filter(|timing| timing["kind"] == "stage" && is_one(timing["name"].as_str().unwrap()));
    let seconds: Vec<_> = stages.map(|stage| stage["seconds"].as_f64().unwrap()).collect();
    assert!(!seconds.is_empty(), "{manifest:#}");
    seconds.into_iter().sum()
}

/// The layers of the base image, decompressed, in the folder `layers` of the recipe, named in their order.
fn unpack_layers(place: &Place) {
    let layout = place.path().join("layout");
    let copy = ["copy", "--quiet", "--dest-decompress", base_image()];
    let status =
        Command::new("skopeo").arg("--insecure-policy").args(copy).arg(format!("dir:{}", layout.display())).status();
    assert!(status.unwrap().success());
    let manifest: Value = serde_json::from_slice(&std::fs::read(layout.join("manifest.json")).unwrap()).unwrap();
    let layers = place.path().join("recipe/layers");
    std::fs::create_dir(&layers).unwrap();
    for (number, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        let blob = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        std::fs::rename(layout.join(blob), layers.join(format!("{number:03}"))).unwrap();
    }
}
