//! Container images, looked into by the command: the engine, the findings, and what is refused.

use particle_vm_tests::image::{self, Image};
use particle_vm_tests::{Outcome, Place, Running, leftovers};
use serde_json::Value;
use std::time::Duration;
use tar::{EntryType, Header};

/// A layer of entries that are written as they are given: name, kind, target, content.
fn layer(entries: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, target, content) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

const FILE: EntryType = EntryType::Regular;

/// A Debian without a kernel.
fn system() -> Vec<u8> {
    layer(&[
        ("usr/lib/os-release", FILE, "", b"ID=debian\nVERSION_ID=13\nPRETTY_NAME='Debian 13'\n"),
        ("etc/os-release", EntryType::Symlink, "../usr/lib/os-release", b""),
        ("usr/sbin/init", FILE, "", b"ELF"),
        ("sbin", EntryType::Symlink, "usr/sbin", b""),
        ("etc/shadow", FILE, "", b"root:$y$j9T$secret$hash:1::::::\n"),
        ("etc/passwd", FILE, "", b"root:x:0:0:root:/root:/bin/sh\n"),
    ])
}

/// `particle-vm inspect` of an image with these layers, which is written to the place first.
fn inspect(place: &Place, image: &Image, arguments: &[&str]) -> Outcome {
    let folder = tempfile::tempdir_in(place.path()).unwrap();
    image.write_layout(folder.path(), "latest");
    let reference = format!("oci:{}:latest", folder.path().display());
    let command = place.command(&[&["inspect", &reference], arguments].concat());
    let outcome = Running::start(command).finish(Duration::from_secs(300));
    drop(folder);
    leftovers::no_processes(place);
    leftovers::no_files(place, &[]);
    outcome
}

#[test]
fn a_plain_image_is_told_with_its_engine_and_without_its_secrets() {
    let place = Place::with_empty_cache();
    let outcome = inspect(&place, &Image::of("amd64", &[system()]), &["--json"]).exits(0);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["engine"]["name"], "plain");
    assert_eq!(report["engine"]["requirements"]["stages"], serde_json::json!(["kernel", "bootloader"]));
    assert_eq!(report["os_release"]["version_id"], "13");
    assert_eq!(report["users"][0]["password"], "set");
    assert!(!outcome.stdout.contains("secret"));
    let outcome = inspect(&place, &Image::of("amd64", &[system()]), &[]).exits(0);
    assert!(outcome.stdout.contains("engine       plain: ") && outcome.stdout.contains("warning  no-kernel: "));
}

#[test]
fn an_image_that_no_engine_fits_ends_with_1_and_says_what_to_do() {
    let place = Place::with_empty_cache();
    let outcome = inspect(&place, &Image::of("amd64", &[layer(&[("a", FILE, "", b"")])]), &[]).exits(1);
    assert!(outcome.stdout.contains("error    not-an-os: "), "{}", outcome.stdout);
    // Meant for OSTree, and without a kernel.
    let conf: &[u8] = b"[composefs]\nenabled = yes\n";
    let upper = layer(&[("usr/lib/ostree/prepare-root.conf", FILE, "", conf)]);
    let outcome = inspect(&place, &Image::of("amd64", &[system(), upper]), &["--json"]).exits(1);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["engine"]["name"], &report["engine"]["candidate"]), (&"none".into(), &"native-ostree".into()));
    assert_eq!(report["engine"]["missing"], serde_json::json!(["no-kernel", "no-sysroot"]));
}

#[test]
fn hostile_layers_are_refused_with_their_number() {
    let place = Place::with_empty_cache();
    let link = ("a", EntryType::Symlink, "/etc", &b""[..]);
    for (entries, text) in [
        (vec![("../../tmp/x", FILE, "", &b"x"[..])], "has `..` in it"),
        (vec![link, ("a/passwd", FILE, "", b"")], "/a/passwd is to lie beneath /a, which is a symlink"),
        (vec![("a", EntryType::Link, "../etc/shadow", b"")], "has `..` in it"),
        (vec![("a", EntryType::Link, "/etc/nothing", b"")], "which is not there"),
    ] {
        let image = Image::of("amd64", &[system(), layer(&entries)]);
        let _ = inspect(&place, &image, &[]).exits(1).says(&["layer 2 (sha256:", "is refused", text]);
    }
}

#[test]
fn what_does_not_agree_with_its_digest_or_has_no_measure_ends_with_4() {
    let place = Place::with_empty_cache();
    // The blob is what its name says, and what it unpacks to is not.
    let mut image = Image::of("amd64", &[system()]);
    let config = image.blobs.remove(&image.config()).unwrap();
    let config = String::from_utf8(config).unwrap().replace(&image.diff_ids[0], &image::digest(b"other"));
    let config = config.into_bytes();
    image.manifest["config"]["digest"] = image::digest(&config).into();
    image.blobs.insert(image::digest(&config), config);
    let _ = inspect(&place, &image, &[]).exits(4).says(&["unpacked", "has the digest"]);
    let arguments = ["--max-image-size", "1MiB"];
    let zeros = Image::of("amd64", &[system(), vec![0; 2 << 20]]);
    let _ = inspect(&place, &zeros, &arguments).exits(4).says(&["unpack to more than", "--max-image-size"]);
}
