//! Layers that lie one above the other, with all that files can have: the tree is the same as from one layer that has no
//! more than what is left, and it is what the layers say.

use crate::sources::deploy;
use particle_vm_tests::image::{Image, bootable};
use particle_vm_tests::layer::in_one;
use particle_vm_tests::{Layer, Place, leftovers, measured};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tar::{Archive, EntryType, Header};

const DEADLINE: Duration = Duration::from_secs(600);

/// cap_dac_override, cap_fowner and cap_net_raw, effective (`struct vfs_cap_data` of linux/capability.h). One of its bytes
/// is a line end.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\x0a\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The same without cap_dac_override.
const OTHER_CAPABILITY: &[u8] = b"\x01\0\0\x02\x08\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// `user::rw-,user:1001:r--,group::r--,mask::r--,other::---` (linux/posix_acl_xattr.h).
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe9\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
                     \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

/// Names of extended attributes.
const CAPS: &str = "security.capability";
const ACCESS: &str = "system.posix_acl_access";
const NOTE: &str = "user.note";

/// The folder that all of it is in.
const HERE: &str = "usr/share/t";

/// Size of a file with a large hole.
const LARGE: u64 = 5 << 30;

fn here(name: &str) -> String {
    format!("{HERE}/{name}")
}

/// 200 bytes, some of them not ASCII.
fn long() -> String {
    here(&("\u{e4}".repeat(50) + &"n".repeat(100)))
}

/// The three layers.
fn above_each_other() -> [Vec<u8>; 3] {
    let lower = Layer::new()
        .folder(HERE, 0o755)
        .file(here("gone"), 0o644, "1")
        .folder(here("dropped"), 0o755)
        .file(here("dropped/deep/x"), 0o644, "1")
        .folder(here("opaque"), 0o750)
        .file(here("opaque/old"), 0o644, "1")
        .file(here("opaque/sub/old"), 0o644, "1")
        .with(&[(CAPS, CAPABILITY)])
        .file(here("tool"), 0o755, "a program")
        .link(here("twin"), EntryType::Link, here("tool"))
        .file(here("setuid"), 0o4755, "a program of root's")
        .with(&[(NOTE, b"lower")])
        .file(here("changed"), 0o644, "1")
        .folder(here("private"), 0o755)
        .file(here("private/kept"), 0o600, "1")
        .file(here("file"), 0o644, "1")
        .file(here("folder/inside"), 0o644, "1")
        .file(here("also-folder/inside"), 0o644, "1")
        .link(here("link"), EntryType::Symlink, "private")
        .file(long(), 0o644, "long")
        .owned_by(1000)
        .with(&[(ACCESS, ACL), (NOTE, b"a\nb=c\0")])
        .file(here("acl"), 0o640, "not for all");
    let middle = Layer::new()
        .folder(HERE, 0o755)
        .gone(&here("gone"))
        .gone(&here("dropped"))
        .folder(here("opaque"), 0o750)
        .opaque(&here("opaque"))
        .file(here("opaque/new"), 0o644, "2")
        .file(here("opaque/sub/new"), 0o644, "2")
        .link(here("linked"), EntryType::Link, here("tool"))
        .file(here("changed"), 0o600, "2")
        .with(&[(NOTE, b"middle")])
        .folder(here("private"), 0o700)
        .folder(here("file"), 0o711)
        .file(here("file/inside"), 0o644, "2")
        .file(here("folder"), 0o644, "2")
        .link(here("also-folder"), EntryType::Symlink, "private/".to_owned() + &"n".repeat(150))
        .folder(here("link"), 0o755)
        .file(here("link/inside"), 0o644, "2");
    let upper =
        Layer::new().folder(HERE, 0o755).gone(&here("tool")).link(here("again"), EntryType::Link, here("linked"));
    [lower.done(), middle.done(), upper.done()]
}

/// What is left of them, with a file that has `capability`.
fn in_the_end(capability: &[u8]) -> Vec<u8> {
    let layer = Layer::new()
        .folder(HERE, 0o755)
        .folder(here("opaque"), 0o750)
        .file(here("opaque/new"), 0o644, "2")
        .file(here("opaque/sub/new"), 0o644, "2")
        .with(&[(CAPS, capability)])
        .file(here("again"), 0o755, "a program")
        .link(here("linked"), EntryType::Link, here("again"))
        .link(here("twin"), EntryType::Link, here("again"))
        .file(here("setuid"), 0o4755, "a program of root's")
        .file(here("changed"), 0o600, "2")
        .with(&[(NOTE, b"middle")])
        .folder(here("private"), 0o700)
        .file(here("private/kept"), 0o600, "1")
        .folder(here("file"), 0o711)
        .file(here("file/inside"), 0o644, "2")
        .file(here("folder"), 0o644, "2")
        .link(here("also-folder"), EntryType::Symlink, "private/".to_owned() + &"n".repeat(150))
        .folder(here("link"), 0o755)
        .file(here("link/inside"), 0o644, "2")
        .file(long(), 0o644, "long")
        .owned_by(1000)
        .with(&[(ACCESS, ACL), (NOTE, b"a\nb=c\0")])
        .file(here("acl"), 0o640, "not for all");
    layer.done()
}

/// Write an image of these layers, and give back its reference.
fn layout(place: &Place, name: &str, layers: &[Vec<u8>]) -> String {
    let folder = place.path().join(name);
    Image::labelled("amd64", layers, &json!({ "containers.bootc": "1" })).write_layout(&folder, "one");
    format!("oci:{}:one", folder.display())
}

#[test]
fn layers_above_each_other_become_the_tree_that_is_left_of_them() {
    let place = Place::with_shared_appliance();
    let mut below = bootable();
    let content = |name: &str, layers: &[Vec<u8>]| {
        let deployed = deploy(&place, &layout(&place, name, layers), &[]);
        deployed["content"].as_str().unwrap().to_owned()
    };
    let flat = |capability: &[u8]| [in_one(&[in_one(&bootable()), in_the_end(capability)])];
    let expected = content("flat", &flat(CAPABILITY));
    assert_ne!(content("other", &flat(OTHER_CAPABILITY)), expected, "a capability does not count");
    below.extend(above_each_other());
    assert_eq!(content("layers", &below), expected);
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
}

/// A layer that GNU tar has made, with a file that has a hole between its first and its last bytes.
fn with_large_file(place: &Place) -> Vec<u8> {
    let folder = place.path().join("large");
    std::fs::create_dir_all(folder.join(HERE)).unwrap();
    let mut file = File::create(folder.join(here("large"))).unwrap();
    file.write_all(b"begin").unwrap();
    file.seek(SeekFrom::Start(LARGE - 3)).unwrap();
    file.write_all(b"end").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=posix", "--sparse", "--owner=0", "--group=0", "--mode=0644", "--directory"]);
    let made = tar.arg(folder).arg(here("large")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stdout.len() < 1 << 20, "GNU tar has found no hole");
    made.stdout
}

/// An entry of an archive: its header, the records before it, and the bytes that the archive has of it.
struct Found {
    header: Header,
    records: BTreeMap<String, Vec<u8>>,
    content: Vec<u8>,
}

impl Found {
    fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.records.get(&format!("SCHILY.xattr.{name}")).map(Vec::as_slice)
    }

    fn mode(&self) -> u32 {
        self.header.mode().unwrap()
    }

    fn link(&self) -> String {
        let recorded = self.records.get("linkpath").cloned();
        let link = recorded.unwrap_or_else(|| self.header.link_name_bytes().unwrap().into_owned());
        String::from_utf8(link).unwrap()
    }
}

/// All entries of an archive by their names. The records are read here: the crate ends their values at line ends.
fn read(path: &Path) -> BTreeMap<Vec<u8>, Found> {
    let mut archive = Archive::new(File::open(path).unwrap());
    let mut found = BTreeMap::new();
    let mut records = BTreeMap::new();
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        if entry.header().entry_type() == EntryType::XHeader {
            records = parse(&content);
            continue;
        }
        let records = std::mem::take(&mut records);
        let name = records.get("path").cloned().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let name = name.strip_suffix(b"/").map(<[u8]>::to_vec).unwrap_or(name);
        let entry = Found { header: entry.header().clone(), records, content };
        assert!(found.insert(name, entry).is_none());
    }
    found
}

/// Records of pax(1): `LENGTH KEY=VALUE` and a line end; the length counts all of it.
fn parse(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..blank]).unwrap().parse().unwrap();
        let record = bytes[blank + 1..length].strip_suffix(b"\n").unwrap();
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        records.insert(String::from_utf8(record[..equals].to_vec()).unwrap(), record[equals + 1..].to_vec());
        bytes = &bytes[length..];
    }
    records
}

#[test]
fn all_that_files_can_have_comes_out_again() {
    let place = Place::with_shared_appliance();
    let mut layers = bootable();
    layers.extend(above_each_other());
    layers.push(with_large_file(&place));
    let special = Layer::new()
        .file([HERE.as_bytes(), b"/\xff"].concat(), 0o644, "no text")
        .link(here("to-no-text"), EntryType::Symlink, b"\xff")
        .node(here("null"), 0o666, EntryType::Char, (1, 3))
        .node(here("disk"), 0o660, EntryType::Block, (259, 70_000))
        .node(here("pipe"), 0o622, EntryType::Fifo, (0, 0));
    layers.push(special.done());
    let reference = layout(&place, "layers", &layers);
    let lines = format!("name: tree\nbase-image: {reference}\nengine: plain\noutput: {{ formats: [tar] }}\n");
    let recipe = place.write("tree.yml", lines);
    let built = place.start_build(&recipe, &[]).finish(DEADLINE).exits(0);
    measured("a tree of layers", "seconds to unpack and write", built.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tree.tar"]);

    let tar = place.out().join("tree.tar");
    measured("a tree of layers", "bytes of the archive", tar.metadata().unwrap().len());
    let found = read(&tar);
    let of = |name: &str| &found[here(name).as_bytes()];
    for gone in ["gone", "dropped", "dropped/deep", "opaque/old", "opaque/sub/old", "tool", "folder/inside"] {
        assert!(!found.contains_key(here(gone).as_bytes()), "{gone}");
    }
    assert!(found.keys().all(|name| !name.windows(4).any(|part| part == b".wh.")), "{:?}", found.keys());
    for (name, kind, mode, content) in [
        ("opaque", EntryType::Directory, 0o750, ""),
        ("opaque/new", EntryType::Regular, 0o644, "2"),
        ("opaque/sub/new", EntryType::Regular, 0o644, "2"),
        ("again", EntryType::Regular, 0o755, "a program"),
        ("setuid", EntryType::Regular, 0o4755, "a program of root's"),
        ("changed", EntryType::Regular, 0o600, "2"),
        ("private", EntryType::Directory, 0o700, ""),
        ("private/kept", EntryType::Regular, 0o600, "1"),
        ("file", EntryType::Directory, 0o711, ""),
        ("file/inside", EntryType::Regular, 0o644, "2"),
        ("folder", EntryType::Regular, 0o644, "2"),
        ("link", EntryType::Directory, 0o755, ""),
        ("link/inside", EntryType::Regular, 0o644, "2"),
        ("acl", EntryType::Regular, 0o640, "not for all"),
        ("pipe", EntryType::Fifo, 0o622, ""),
    ] {
        let own = of(name);
        assert_eq!((own.header.entry_type(), own.mode(), &*own.content), (kind, mode, content.as_bytes()), "{name}");
    }
    assert_eq!(found[long().as_bytes()].content, b"long");
    assert_eq!(of("also-folder").link(), "private/".to_owned() + &"n".repeat(150));
    // The first of the names has the content, and each has the attributes.
    for name in ["linked", "twin"] {
        assert_eq!((of(name).header.entry_type(), &*of(name).link()), (EntryType::Link, &*here("again")), "{name}");
    }
    for name in ["again", "linked", "twin"] {
        assert_eq!(of(name).attribute(CAPS), Some(CAPABILITY), "{name}");
    }
    assert_eq!((of("acl").attribute(ACCESS), of("acl").attribute(NOTE)), (Some(ACL), Some(&b"a\nb=c\0"[..])));
    assert_eq!((of("acl").header.uid().unwrap(), of("acl").header.gid().unwrap()), (1000, 1000));
    assert_eq!((of("private").attribute(NOTE), of("changed").attribute(NOTE)), (Some(&b"middle"[..]), None));

    assert_eq!(found[&[HERE.as_bytes(), b"/\xff"].concat()].content, b"no text");
    assert_eq!(of("to-no-text").header.link_name_bytes().as_deref(), Some(&b"\xff"[..]));
    for (name, kind, mode, numbers) in
        [("null", EntryType::Char, 0o666, (1, 3)), ("disk", EntryType::Block, 0o660, (259, 70_000))]
    {
        let header = &of(name).header;
        let device = (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        assert_eq!((header.entry_type(), header.mode().unwrap(), device), (kind, mode, numbers), "{name}");
    }
    let large = of("large");
    let gnu = large.header.as_gnu().unwrap();
    assert_eq!((large.header.entry_type(), gnu.real_size().unwrap()), (EntryType::GNUSparse, LARGE));
    let pieces: Vec<_> = gnu.sparse.iter().filter(|piece| !piece.is_empty()).collect();
    assert_eq!(pieces[0].offset().unwrap(), 0);
    let last = pieces.iter().rfind(|piece| piece.length().unwrap() > 0).unwrap();
    assert_eq!(last.offset().unwrap() + last.length().unwrap(), LARGE);
    assert!(large.content.starts_with(b"begin") && large.content.ends_with(b"end"));
}
