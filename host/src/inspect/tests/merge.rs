//! Layers laid over each other, as the specification has it.

use super::super::layers::apply;
use super::super::tree::{Kind, Tree};
use super::make::Layer;
use super::*;
use std::collections::BTreeMap;
use std::io::Cursor;
use tar::EntryType;

/// The merged tree of `layers`, or why it is refused.
pub(super) fn merge(layers: &[Vec<u8>]) -> Result<Tree, String> {
    let digests = vec!["sha256:x"; layers.len()];
    let applied = apply(layers.iter().map(|layer| Ok(Cursor::new(layer))), &digests);
    applied.map(|(tree, _)| tree).map_err(|error| crate::Error::from(error).to_string())
}

fn layer(write: impl FnOnce(&mut Layer)) -> Vec<u8> {
    let mut layer = Layer::default();
    write(&mut layer);
    layer.end()
}

/// Paths and what they are: `/` after folders, `> target` after links, the size after files.
fn listing(layers: &[Vec<u8>]) -> Vec<String> {
    let tree = merge(layers).unwrap();
    let show = |(path, node): (&[u8], &tree::Node)| {
        let path = String::from_utf8_lossy(path).into_owned();
        match &node.kind {
            Kind::Folder => format!("{path}/"),
            Kind::Link(target) => format!("{path} > {}", String::from_utf8_lossy(target)),
            _ => format!("{path} {}", node.size),
        }
    };
    tree.iter().map(show).collect()
}

#[test]
fn files_are_replaced_and_taken_away() {
    let lower = layer(|layer| {
        layer.folder("./");
        layer.file("a/one", b"1");
        layer.file("a/two", b"22");
        layer.file("b/c/d", b"1");
        layer.file("e", b"1");
        layer.link("l", "a");
    });
    let upper = layer(|layer| {
        layer.file("a/.wh.one", b"");
        layer.file("a/two", b"4444");
        layer.file(".wh.b", b"");
        layer.file(".wh.nothing", b"");
        layer.folder("e");
        layer.file("e/f", b"");
        layer.file("l", b"no link");
    });
    assert_eq!(listing(&[lower, upper]), ["a/", "a/two 4", "e/", "e/f 0", "l 7"]);
}

#[test]
fn what_is_opaque_shows_its_own_layer_only_wherever_the_mark_stands() {
    let lower = layer(|layer| {
        layer.file("d/old", b"");
        layer.file("d/sub/old", b"");
        layer.file("d-side", b"");
        layer.file("d0", b"");
    });
    for first in [true, false] {
        let upper = layer(|layer| {
            let mark = |layer: &mut Layer| layer.file("d/.wh..wh..opq", b"");
            if first {
                mark(layer);
            }
            layer.file("d/sub/new", b"");
            layer.file("d/new", b"");
            if !first {
                mark(layer);
            }
        });
        assert_eq!(listing(&[lower.clone(), upper]), ["d/", "d-side 0", "d/new 0", "d/sub/", "d/sub/new 0", "d0 0"]);
    }
    // Other marks of aufs are none of ours.
    let upper = layer(|layer| layer.file(".wh..wh.plnk", b""));
    assert_eq!(listing(&[lower.clone(), upper]).len(), 6);
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_has() {
    let lower = layer(|layer| layer.file("x/old", b""));
    for first in [true, false] {
        let upper = layer(|layer| {
            if first {
                layer.file(".wh.x", b"");
            }
            layer.file("x/new", b"");
            if !first {
                layer.file(".wh.x", b"");
            }
        });
        assert_eq!(listing(&[lower.clone(), upper]), ["x/", "x/new 0"], "{first}");
    }
}

#[test]
fn hard_links_reach_into_lower_layers_and_outlive_their_target() {
    let lower = layer(|layer| layer.file("a", b"123"));
    let upper = layer(|layer| {
        layer.hard_link("d/b", "./a");
        layer.hard_link("d/c", "d/b");
        layer.file(".wh.a", b"");
    });
    assert_eq!(listing(&[lower, upper]), ["d/", "d/b 3", "d/c 3"]);
}

#[test]
fn long_and_strange_names_survive() {
    let long = "n".repeat(200) + "/" + &"m".repeat(250);
    let tree = merge(&[layer(|layer| {
        layer.file(&long, b"12345");
        layer.entry(b"caf\xe9", EntryType::Regular, b"", 0o644, b"1");
        layer.pax(&[("path", "päth/of/pax".as_bytes()), ("SCHILY.xattr.user.x", b"a\nb=c\n"), ("mtime", b"1.5")]);
        layer.file("cut off", b"12");
        layer.link("s", &"t".repeat(150));
        layer.entry(b"folder-of-old/", EntryType::Regular, b"", 0o755, b"");
    })])
    .unwrap();
    assert_eq!(tree.get(&long).unwrap().size, 5);
    assert!(tree.iter().any(|(path, _)| path == b"caf\xe9"));
    assert_eq!(tree.get("päth/of/pax").unwrap().size, 2);
    assert!(tree.get("cut off").is_none());
    assert_eq!(tree.get("s").unwrap().kind, Kind::Link(vec![b't'; 150]));
    assert_eq!(tree.get("folder-of-old").unwrap().kind, Kind::Folder);
}

#[test]
fn sparse_and_large_files_are_passed_over_as_they_are_stored() {
    let tree = merge(&[layer(|layer| {
        // GNU tar's: 8 GiB, of which one block is stored, with a map that goes on in a block of its own.
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..6].copy_from_slice(b"sparse");
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_size(512);
        header.as_gnu_mut().unwrap().set_is_extended(true);
        header.as_gnu_mut().unwrap().set_real_size(8 << 30);
        header.set_cksum();
        layer.content(header.as_bytes());
        layer.content(&[0; 512]);
        layer.content(&[1; 512]);
        // That of pax(1), whose stored name is another one.
        layer.pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.name", b"usr/lib/os-release"),
            ("GNU.sparse.realsize", b"4096"),
        ]);
        layer.file("GNUSparseFile.1/os-release", &[2; 1024]);
        layer.pax(&[("size", b"3")]);
        layer.header(b"sized", EntryType::Regular, b"", 0o644, 0);
        layer.content(b"abc");
        layer.file("last", b"x");
    })])
    .unwrap();
    assert_eq!(tree.get("sparse").unwrap().size, 8 << 30);
    assert_eq!((tree.get("usr/lib/os-release").unwrap().size, tree.text("usr/lib/os-release")), (4096, None));
    assert_eq!(tree.get("sized").unwrap().size, 3);
    assert_eq!(tree.get("last").unwrap().size, 1);
}

#[test]
fn links_are_followed_beneath_the_root_and_to_an_end() {
    let tree = merge(&[layer(|layer| {
        layer.file("usr/lib/os-release", b"ID=x\n");
        layer.link("etc/os-release", "../../../../usr/lib/os-release");
        layer.link("lib", "/usr/lib");
        layer.link("a", "b");
        layer.link("b", "a");
        layer.link("out", "../../../etc/passwd");
    })])
    .unwrap();
    for path in ["etc/os-release", "lib/os-release", "lib/../../etc/os-release"] {
        assert_eq!(tree.text(path).as_deref(), Some("ID=x\n"), "{path}");
    }
    assert!(!tree.has("a") && !tree.has("out") && !tree.has("usr/lib/os-release/x"));
    let names: Vec<_> = tree.list("lib").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["os-release"]);
    let names: BTreeMap<_, _> = tree.list("").into_iter().collect();
    assert_eq!(names.len(), 6);
}
