//! Images that are no systems, or that would not boot as what they are made for: `build` tells so by what `inspect` has
//! found, with what to change, before a VM starts.

use particle_vm_tests::image::Image;
use particle_vm_tests::{Layer, Place, leftovers, measured};
use serde_json::json;
use std::time::Duration;
use tar::EntryType;

const DEADLINE: Duration = Duration::from_secs(120);

/// An archive as an initramfs is one (`newc` of cpio(5)).
fn initramfs(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for (name, content) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
        // Inode, mode, owner, group, links, time; the size; both devices; the length of the name, and no checksum.
        let numbers = [0, 0o100_755, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend(b"070701");
        bytes.extend(numbers.iter().flat_map(|number| format!("{number:08X}").into_bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// A system with a kernel, and this in its initramfs.
fn system(files: &[(&str, &[u8])]) -> Layer {
    Layer::new()
        .file("usr/lib/os-release", 0o644, "ID=debian\nVERSION_ID=13\n")
        .file("usr/sbin/init", 0o755, "init")
        .folder("sysroot", 0o755)
        .link("ostree", EntryType::Symlink, "sysroot/ostree")
        .file("usr/lib/modules/6.1/vmlinuz", 0o644, "kernel")
        .file("usr/lib/modules/6.1/modules.builtin", 0o644, "kernel/fs/ext4/ext4.ko\n")
        .file("usr/lib/modules/6.1/initramfs.img", 0o644, initramfs(files))
}

const PREPARE_ROOT: &str = "usr/lib/ostree/ostree-prepare-root";
const CONF: &str = "usr/lib/ostree/prepare-root.conf";
const REQUIRED: &[u8] = b"[composefs]\nenabled = yes\n";

#[test]
fn what_would_not_boot_is_refused_with_the_remedy() {
    let without_ostree = system(&[("usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko", b"module"), ("init", b"init")]);
    let without_drivers = system(&[(PREPARE_ROOT, b"program"), (CONF, REQUIRED)]).file(CONF, 0o644, REQUIRED);
    // What ostree writes into the program that is built without it.
    let program = b"composefs: enabled at runtime, but support is not compiled in";
    let without_composefs =
        system(&[(PREPARE_ROOT, program), (CONF, REQUIRED), ("usr/lib/modules/6.1/kernel/fs/erofs/erofs.ko", b"m")]);
    let without_composefs = without_composefs.file(CONF, 0o644, REQUIRED);
    let bootc = json!({ "containers.bootc": "1" });
    for (name, layer, labels, says) in [
        (
            "no system",
            Layer::new().file("app/server", 0o755, "program"),
            json!({}),
            &["not-an-os: the image is no operating system", "FROM debian:"][..],
        ),
        (
            "no module",
            without_ostree,
            bootc.clone(),
            &["initramfs-without-ostree: the initramfs of 6.1 has neither", "--add ostree"],
        ),
        (
            "no drivers",
            without_drivers,
            bootc.clone(),
            &["composefs-without-driver: composefs is required", "erofs and overlay", "add_drivers"],
        ),
        ("no composefs", without_composefs, bootc, &["ostree-without-composefs: composefs is required", "2025.7"]),
    ] {
        let place = Place::with_empty_cache();
        Image::labelled("amd64", &[layer.done()], &labels).write_layout(&place.path().join("recipe/image"), "one");
        let recipe = place.write("unfit.yml", "name: unfit\nbase-image: oci:image:one\n");
        let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(1);
        measured(name, "seconds to the refusal", outcome.took.as_secs_f64());
        let outcome = outcome.says(&["no engine makes a disk of oci:", "`particle-vm inspect`"]).says(says);
        // Nothing is built, not even an appliance.
        assert!(!outcome.stderr.contains("appliance"), "{}", outcome.stderr);
        leftovers::no_processes(&place);
        leftovers::no_files(&place, &[]);
    }
}
