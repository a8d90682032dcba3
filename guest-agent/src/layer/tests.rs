use super::*;
use crate::fixtures;
use std::io::Write;
use std::process::Command;

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(7);
    header.set_size(size);
    header.set_cksum();
    header
}

fn archive(entries: &[(tar::Header, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, content) in entries {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|length: &usize| length.to_string().len() + rest == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn file(name: &str, content: &'static [u8]) -> (tar::Header, &'static [u8]) {
    (header(name, tar::EntryType::Regular, content.len() as u64), content)
}

fn link(name: &str, to: &str, kind: tar::EntryType) -> (tar::Header, &'static [u8]) {
    let mut header = header(name, kind, 0);
    header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
    header.set_cksum();
    (header, b"")
}

/// Everything in an archive, until it ends or is refused.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let mut layer = Layer::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = layer.next_entry()? {
        let mut content = Vec::new();
        layer.content().read_to_end(&mut content).map_err(|error| broken(&error))?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn refused(entries: &[(tar::Header, &[u8])]) -> String {
    read(&archive(entries)).unwrap_err().to_string()
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../x", "a/../../x", "/..", "a/..", ".wh..", "a/.wh..."] {
        assert!(refused(&[file(name, b"")]).contains("leads out of the image"), "{name}");
    }
    let out = refused(&[link("a", "../../etc/shadow", tar::EntryType::Link)]);
    assert_eq!(out, "`../../etc/shadow` in the layer leads out of the image");
    let entries = read(&archive(&[file("/a//b/./c", b"x"), link("d", "/a/b/c", tar::EntryType::Link)])).unwrap();
    assert_eq!(entries[0].0.path, b"a/b/c");
    assert_eq!(entries[1].0.kind, Kind::Link(b"a/b/c".to_vec()));
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_layer() {
    let links = [link("a", "/etc", tar::EntryType::Symlink), file("a/b/passwd", b"x")];
    assert_eq!(refused(&links), "`a/b/passwd` in the layer is beneath the symbolic link `a` of the same layer");
    // A link that was replaced is none any more.
    let replaced = [links[0].clone(), (header("a", tar::EntryType::Directory, 0), &b""[..]), file("a/x", b"y")];
    assert_eq!(read(&archive(&replaced)).unwrap().len(), 3);
}

#[test]
fn broken_archives_are_refused() {
    let whole = archive(&[file("a", b"content")]);
    assert!(read(&whole[..BLOCK + 3]).unwrap_err().to_string().contains("ends in the middle"));
    assert!(read(&whole[..100]).unwrap_err().to_string().contains("ends in the middle"));
    let mut other = whole.clone();
    other[0] = b'b';
    assert!(read(&other).unwrap_err().to_string().contains("checksum"));
    assert!(refused(&[(header("x", tar::EntryType::new(b'Z'), 0), b"")]).contains("unknown type 'Z'"));
    assert!(refused(&[(header("x", tar::EntryType::XHeader, 2 << 20), b"")]).contains("record of 2097152 bytes"));
    assert!(refused(&[(header("x", tar::EntryType::XHeader, 6), b"99 a=b")]).contains("a PAX record"));
}

#[test]
fn what_pax_records_say_holds() {
    let long = "n/".repeat(200) + "end";
    // A value may have line ends and zeros in it.
    let capability = b"\x01\x00\x00\n=\n\x00";
    let records = [
        record("path", long.as_bytes()),
        record("uid", b"3000000"),
        record("mtime", b"1700000000.25"),
        record("SCHILY.xattr.security.capability", capability),
        record("SCHILY.xattr.security.selinux", b"label"),
    ]
    .concat();
    let bytes = archive(&[
        (header("r", tar::EntryType::XHeader, records.len() as u64), &records),
        file("short", b"abc"),
        file("next", b""),
    ]);
    let entries = read(&bytes).unwrap();
    let (entry, content) = &entries[0];
    assert_eq!((entry.path.as_slice(), content.as_slice()), (long.as_bytes(), &b"abc"[..]));
    assert_eq!((entry.uid, entry.gid, entry.mtime), (3_000_000, 1000, (1_700_000_000, 250_000_000)));
    assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
    assert_eq!((entries[1].0.path.as_slice(), entries[1].0.xattrs.len()), (&b"next"[..], 0));
}

#[test]
fn sparse_files_of_gnu_tar_have_their_holes() {
    let folder = std::env::temp_dir().join(format!("particle-vm-layer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut sparse = std::fs::File::create(folder.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    std::io::Seek::seek(&mut sparse, std::io::SeekFrom::Start(1 << 20)).unwrap();
    sparse.write_all(b"middle").unwrap();
    sparse.set_len(3 << 20).unwrap();
    let expected = std::fs::read(folder.join("sparse")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        let made = fixtures::run(tar.args(format).args(["--sparse", "-C"]).arg(&folder).args(["-c", "sparse"]));
        assert!(made.len() < 100 << 10, "{format:?}");
        let entries = read(&made).unwrap();
        assert_eq!((entries.len(), entries[0].0.path.as_slice(), entries[0].0.size), (1, &b"sparse"[..], 3 << 20));
        assert!(entries[0].1 == expected, "{format:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn holes_that_are_none_are_refused() {
    let of = |map: &str| {
        let records = [record("GNU.sparse.size", b"100"), record("GNU.sparse.map", map.as_bytes())].concat();
        refused(&[
            (header("r", tar::EntryType::XHeader, records.len() as u64), &records),
            (header("s", tar::EntryType::Regular, 4), b"abcd"),
        ])
    };
    assert!(of("50,2,10,2").contains("overlap"));
    assert!(of("98,4").contains("beyond its end"));
    assert!(of("0,2").contains("not what the archive has"));
}
