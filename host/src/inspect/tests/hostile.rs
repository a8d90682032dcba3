//! Layers of somebody who means harm, or whose tape is torn.

use super::make::{Image, Layer, inspect};
use super::merge::merge;
use super::*;
use std::io;
use tar::EntryType;

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux"}"#;

#[track_caller]
fn refused(reason: &str, write: impl FnOnce(&mut Layer)) {
    let mut layer = Layer::default();
    layer.file("before", b"");
    write(&mut layer);
    let error = inspect(&[Layer::default().end(), layer.end()], CONFIG).unwrap_err();
    assert!(matches!(error, InspectError::Refused { layer: 2, .. }), "{error:?}");
    let error = crate::Error::from(error);
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(error.get().class().exit_code(), 1);
    assert!(error.get().advice().is_some());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    refused("`..`", |layer| layer.file("../etc/passwd", b""));
    refused("`..`", |layer| layer.file("a/../../etc/passwd", b""));
    refused("`..`", |layer| layer.file("../.wh.etc", b""));
    refused("`..`", |layer| {
        layer.pax(&[("path", b"a/../b")]);
        layer.file("x", b"");
    });
    refused("longer than", |layer| layer.file(&"n".repeat(300), b""));
    refused("a NUL", |layer| {
        layer.pax(&[("path", b"a\0b")]);
        layer.file("x", b"");
    });
    refused("whiteout of nothing", |layer| layer.file("a/.wh...", b""));
    refused("the root is no folder", |layer| layer.link("./", "/etc"));
}

#[test]
fn links_are_no_way_out() {
    refused("/a/b is to lie beneath /a, which is a symlink", |layer| {
        layer.link("a", "/etc");
        layer.file("a/b", b"");
    });
    refused("beneath /before, which is no folder", |layer| layer.file("before/x/y", b""));
    refused("beneath /a, which is a symlink", |layer| {
        layer.link("a", "/etc");
        layer.file("a/.wh.passwd", b"");
    });
    refused("beneath /a, which is a symlink", |layer| {
        layer.link("a", "/etc");
        layer.file("a/.wh..wh..opq", b"");
    });
    refused("`..`", |layer| layer.hard_link("a", "../../etc/shadow"));
    refused("/etc/shadow, which is not there", |layer| layer.hard_link("a", "/etc/shadow"));
    refused("/etc, which is a folder", |layer| {
        layer.folder("etc");
        layer.hard_link("a", "etc");
    });
    // A folder in the place of a link is one.
    let mut layer = Layer::default();
    layer.link("a", "/etc");
    layer.folder("a");
    layer.file("a/b", b"");
    layer.file("/c", b"");
    let tree = merge(&[layer.end()]).unwrap();
    assert!(tree.has("a/b") && tree.has("c"));
}

#[test]
fn targets_count_and_have_a_measure() {
    refused("the target of /a is longer than 4095 bytes", |layer| layer.link("a", &"t".repeat(4096)));
    // Few bytes of hard links to one symlink with a long target, which each of them has.
    refused("take too much memory", |layer| {
        layer.link("a", &"t".repeat(4095));
        for number in 0..limits::NAMES / 4095 {
            layer.hard_link(&format!("b{number}"), "a");
        }
    });
    // What is replaced or taken away does not count any more.
    let mut tree = tree::Tree::default();
    let link = tree::Node::new(tree::Kind::Link(vec![b't'; 4095]), 0o777, 0, keep::Content::None);
    for number in 0..limits::NAMES / 4095 + 10 {
        tree.next_layer();
        tree.insert(b"a", link.clone()).map_err(|_| number).unwrap();
        tree.insert(b"b", link.clone()).map_err(|_| number).unwrap();
        tree.next_layer();
        tree.white_out(b"b").map_err(|_| number).unwrap();
    }
}

/// As many files as folders that are to be emptied, each of them again and again.
#[test]
fn a_folder_is_emptied_once_for_each_layer() {
    let (mut below, mut above) = (Layer::default(), Layer::default());
    below.file("d/old", b"");
    above.folder("d");
    for number in 0..30_000 {
        above.file(&format!("d/{number}"), b"");
    }
    for _ in 0..15_000 {
        above.file("d/.wh..wh..opq", b"");
        above.file(".wh..wh..opq", b"");
        above.file(".wh.d", b"");
        above.folder("d");
    }
    let started = std::time::Instant::now();
    let tree = merge(&[below.end(), above.end()]).unwrap();
    // Looking at every file for each of them takes minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(!tree.has("d/old") && tree.has("d/29999"));
}

#[test]
fn entries_without_measure_are_refused() {
    refused("a header of", |layer| layer.header(b"x", EntryType::GNULongName, b"", 0, 64 << 30));
    refused("a header of", |layer| layer.header(b"x", EntryType::XHeader, b"", 0, 2 << 20));
    refused("an extended header is broken", |layer| layer.entry(b"x", EntryType::XHeader, b"", 0, b"99 path=x\n"));
    refused("a size that is none", |layer| layer.pax(&[("size", b"-1")]));
    refused("where an entry has to follow", |layer| layer.pax(&[("path", b"x")]));
    refused("of the type 'M'", |layer| layer.entry(b"x", EntryType::new(b'M'), b"", 0, b""));
}

#[test]
fn broken_layers_are_told_from_streams_that_break_off() {
    let mut layer = Layer::default();
    layer.file("a", &[1; 2000]);
    let whole = layer.end();
    for (length, reason) in [(1000, "in the middle of a file"), (300, "in the middle of a block")] {
        let error = merge(&[whole[..length].to_vec()]).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    // The marks at the end are missing in layers of some builders, and the padding of the last file too.
    for length in [2560, 2512, 2530] {
        assert!(merge(&[whole[..length].to_vec()]).unwrap().has("a"), "{length}");
    }
    let mut layer = Layer::default();
    layer.pax(&[("size", b"18446744073709551615")]);
    layer.file("a", b"");
    assert!(merge(&[layer.end()]).unwrap_err().contains("in the middle of a file"));
    assert!(merge(&[Vec::new()]).is_ok());
    assert!(merge(&[b"this is no archive at all".repeat(100)]).unwrap_err().contains("no tar archive"));

    let input = |manifest: &'static str| Input {
        reference: "x",
        origin: None,
        digest: "sha256:0",
        config_digest: "sha256:00",
        manifest: manifest.as_bytes(),
        config: CONFIG.as_bytes(),
        wish: None,
    };
    let one = r#"{"layers":[{"mediaType":"m","digest":"sha256:1","size":1}]}"#;
    let broken = || Err::<io::Cursor<Vec<u8>>, _>(io::Error::new(io::ErrorKind::InvalidData, "wrong digest"));
    let error = crate::Error::from(image(input(one), [broken()]).unwrap_err());
    assert_eq!(error.to_string(), "cannot read layer 1 (sha256:1): wrong digest");
    assert_eq!(error.get().class().exit_code(), 4);
    let none: [io::Result<io::Cursor<Vec<u8>>>; 0] = [];
    let error = image(input(one), none).unwrap_err().to_string();
    assert_eq!(error, "the image has 0 layers where its manifest lists 1");
}

/// Whoever checks the digest of a layer has to see all of it.
#[test]
fn a_layer_is_read_to_its_end() {
    struct Counting<'a>(&'a [u8], &'a std::cell::Cell<usize>);
    impl io::Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }
    let mut bytes = Layer::default().end();
    bytes.resize(100_000, 7);
    let seen = std::cell::Cell::new(0);
    layers::apply([Ok(Counting(&bytes, &seen))], &["sha256:0"]).unwrap();
    assert_eq!(seen.get(), bytes.len());
}

/// Whatever comes, there is an answer, and every path in it is beneath the root.
#[test]
fn random_layers_are_answered() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let parts = ["a", "b", "..", ".", "", "etc", ".wh.a", ".wh..wh..opq", "usr", "lib", "os-release", "\u{1}", "c\n"];
    let (mut merged, mut refused) = (0, 0);
    for _ in 0..3000 {
        let layers = (0..random.below(3)).map(|_| {
            let mut layer = Layer::default();
            for _ in 0..random.below(12) {
                let mut path = || {
                    let depth = 1 + random.below(3);
                    // `..` less often than by chance, so that some go through.
                    let part = |random: &mut Random| match parts[random.below(parts.len())] {
                        ".." if random.below(8) > 0 => "d",
                        part => part,
                    };
                    (0..depth).map(|_| part(&mut random)).collect::<Vec<_>>().join("/")
                };
                let (name, target) = (path(), path());
                match random.below(7) {
                    0 | 1 => layer.file(&name, b"ID=x\n"),
                    2 => layer.folder(&name),
                    3 => layer.link(&name, &target),
                    4 => layer.hard_link(&name, &target),
                    5 => layer.pax(&[("path", name.as_bytes()), ("linkpath", target.as_bytes())]),
                    _ => layer.entry(name.as_bytes(), EntryType::Fifo, b"", 0o644, b""),
                }
            }
            layer.end()
        });
        let mut layers: Vec<_> = layers.collect();
        // One in four has bytes that nobody wrote.
        if random.below(4) == 0 && !layers.is_empty() {
            for _ in 0..1 + random.below(8) {
                let at = random.below(layers[0].len());
                layers[0][at] = random.next() as u8;
            }
        }
        match merge(&layers) {
            Ok(tree) => {
                merged += 1;
                for (path, _) in tree.iter() {
                    assert_eq!(name::normal(path).map_err(|_| ()).unwrap(), path, "{path:?}");
                    let (folder, _) = name::split(path).unwrap();
                    let folder = String::from_utf8_lossy(folder).into_owned();
                    assert!(folder.is_empty() || tree.get(&folder).is_some_and(|node| node.kind == tree::Kind::Folder));
                }
            }
            Err(_) => refused += 1,
        }
        let _ = inspect(&layers, CONFIG);
    }
    assert!(merged > 300 && refused > 300, "{merged} merged, {refused} refused");
}

/// A whole image with bytes that nobody wrote.
#[test]
fn random_damage_is_answered() {
    let mut random = Random(42);
    let whole = initramfs_of_a_real_kind();
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.below(bytes.len()) + 1);
        let mut budget = 1 << 20;
        let _ = super::super::initramfs::read(&mut &bytes[..], bytes.len() as u64, &mut budget);
        let _ = super::super::uki::read(&mut &bytes[..], bytes.len() as u64, &mut budget);
    }
    for conf in ["[", "a=b", "[composefs]\nenabled", "\0", "[[install]]\n", "[install]\ninstall=1\nkargs=1"] {
        let report = report_of(Image::ostree(), |image| {
            image.file("usr/lib/ostree/prepare-root.conf", conf);
            image.file("usr/lib/bootc/install/1.toml", conf);
            image.file("usr/lib/bootc/kargs.d/1.toml", conf);
            image.file("usr/lib/os-release", conf);
            image.file("etc/passwd", conf);
            image.file("usr/lib/bootupd/updates/EFI.json", conf);
        });
        assert!(!report.findings.is_empty());
    }
}

fn initramfs_of_a_real_kind() -> Vec<u8> {
    let mut bytes = super::make::initramfs(&[("kernel/x86/microcode/GenuineIntel.bin".into(), vec![1; 64])]);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let main = super::make::initramfs(&super::make::ostree_initramfs());
    bytes.extend_from_slice(&zstd::encode_all(&main[..], 3).unwrap());
    bytes
}

/// xorshift64*: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }
}
