use super::*;
use crate::container::walk::newest_before;
use crate::fixtures::{self, Folder};
use crate::layer::{Kind, Layer};
use std::ffi::OsStr;
use std::fs::{FileTimes, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// What all times are clamped to.
const LATEST: u64 = 1_700_000_000;

fn archive(root: &Path) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    write(root, LATEST, &mut bytes, &|| Ok(()))?;
    Ok(bytes)
}

fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// A tree with what is hard to archive; `order` makes it in another order.
fn tree(name: &str, order: bool) -> Folder {
    let folder = Folder::new(name);
    let root = folder.path();
    for path in ["etc", "usr/bin", "dev", "run/lock", "tmp"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    let names = ["etc/b", "etc/a", "dev/left", "run/lock/x", "tmp/x"];
    let mut names: Vec<_> = names.iter().map(OsStr::new).collect();
    let long = format!("etc/{}", "l".repeat(200));
    let prefixed = format!("etc/{}/{}", "p".repeat(90), "q".repeat(90));
    fs::create_dir_all(root.join(&prefixed).parent().unwrap()).unwrap();
    names.extend([OsStr::new(&long), OsStr::new(&prefixed), OsStr::from_bytes(b"etc/\xff\xfe")]);
    if order {
        names.reverse();
    }
    for name in names {
        fs::write(root.join(name), name.as_bytes()).unwrap();
    }
    set_time(&root.join("etc/a"), 1_600_000_000);
    set_time(&root.join("etc/b"), LATEST + 1);
    symlink("../etc/a", root.join("usr/bin/link")).unwrap();
    symlink("t".repeat(150), root.join("usr/bin/longlink")).unwrap();
    fs::hard_link(root.join("etc/b"), root.join("usr/bin/same")).unwrap();
    fs::set_permissions(root.join("etc/b"), Permissions::from_mode(0o4755)).unwrap();
    let sparse = File::create(root.join("etc/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    for at in 0..30_u64 {
        sparse.write_all_at(b"data", at * (128 << 10)).unwrap();
    }
    folder
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (one, two) = (tree("tar-same-1", false), tree("tar-same-2", true));
    let (one, two) = (archive(one.path()).unwrap(), archive(two.path()).unwrap());
    assert!(one == two, "{} and {} bytes", one.len(), two.len());
    assert!(one.len() < 1 << 20, "holes are not written: {} bytes", one.len());
}

#[test]
fn everything_comes_out_as_it_went_in() {
    let folder = tree("tar-out", false);
    let bytes = archive(folder.path()).unwrap();
    let mut seen = Vec::new();
    let owner = fs::metadata(folder.path()).unwrap();
    let mut archive = ::tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path_bytes().into_owned();
        let header = entry.header().clone();
        assert_eq!((header.username_bytes(), header.groupname_bytes()), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (owner.uid().into(), owner.gid().into()));
        assert!(header.mtime().unwrap() <= LATEST);
        match path.as_slice() {
            b"etc/a" => assert_eq!(header.mtime().unwrap(), 1_600_000_000),
            b"etc/b" => assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (0o4755, LATEST)),
            b"usr/bin/same" => assert_eq!(entry.link_name_bytes().unwrap().as_ref(), b"etc/b"),
            b"usr/bin/longlink" => assert_eq!(entry.link_name_bytes().unwrap().len(), 150),
            b"etc/sparse" => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert!(content == fs::read(folder.path().join("etc/sparse")).unwrap());
            }
            _ => {}
        }
        seen.push(path);
    }
    let mut sorted = seen.clone();
    sorted.sort();
    assert_eq!(seen, sorted);
    let names: Vec<_> = seen.iter().map(|name| String::from_utf8_lossy(name)).collect();
    assert!(
        names
            .iter()
            .all(|name| !["dev/", "run/", "tmp/"].iter().any(|top| name.len() > top.len() && name.starts_with(top)))
    );
    assert!(seen.contains(&b"dev/".to_vec()) && seen.contains(&b"etc/\xff\xfe".to_vec()), "{names:?}");
}

#[test]
fn what_reads_layers_reads_it() {
    let folder = tree("tar-layer", false);
    let bytes = archive(folder.path()).unwrap();
    let mut layer = Layer::new(bytes.as_slice());
    let mut entries = Vec::new();
    while let Some(entry) = layer.next_entry().unwrap() {
        entries.push(entry);
    }
    let same = entries.iter().find(|entry| entry.path == b"usr/bin/same").unwrap();
    assert_eq!(same.kind, Kind::Link(b"etc/b".to_vec()));
    assert_eq!(same.uid, fs::metadata(folder.path()).unwrap().uid());
}

#[test]
fn gnu_tar_reads_it() {
    let (folder, out) = (tree("tar-gnu", false), Folder::new("tar-gnu-out"));
    let file = out.path().join("a.tar");
    fs::write(&file, archive(folder.path()).unwrap()).unwrap();
    let into = out.path().join("x");
    fs::create_dir(&into).unwrap();
    fixtures::run(Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&into));
    for top in ["dev", "run", "tmp"] {
        fs::remove_dir_all(folder.path().join(top)).unwrap();
        fs::remove_dir(into.join(top)).unwrap();
    }
    fixtures::run(Command::new("diff").args(["-r", "--no-dereference"]).arg(folder.path()).arg(&into));
    let (a, b) = (fs::metadata(into.join("etc/b")).unwrap(), fs::metadata(into.join("usr/bin/same")).unwrap());
    assert_eq!(a.ino(), b.ino());
}

#[test]
fn attributes_are_records_in_their_order() {
    let folder = Folder::new("tar-xattr");
    let file = folder.path().join("a");
    fs::write(&file, "").unwrap();
    if xattr::set(&file, "user.z", b"2").is_err() {
        // Not every file system of a machine that runs tests has them.
        return;
    }
    xattr::set(&file, "user.a", b"1\n\0").unwrap();
    let bytes = archive(folder.path()).unwrap();
    // As they stand there: a value may have line ends in it, which the reader of the crate does not expect.
    let records = b"27 SCHILY.xattr.user.a=1\n\0\n25 SCHILY.xattr.user.z=2\n";
    assert!(
        bytes.windows(records.len()).any(|window| window == records),
        "{}",
        String::from_utf8_lossy(&bytes[..1024])
    );
}

#[test]
fn the_name_of_a_whiteout_is_refused() {
    let folder = Folder::new("tar-whiteout");
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("etc/.wh.passwd"), "").unwrap();
    let error = archive(folder.path()).unwrap_err();
    assert!(error.to_string().starts_with("`/etc/.wh.passwd` cannot be in a container"), "{error}");
}

#[test]
fn a_build_that_is_cancelled_stops_writing() {
    let folder = tree("tar-stop", false);
    let stop = || {
        let failure = crate::report::plain(particle_vm_protocol::FailureKind::Cancelled, "the build was cancelled");
        Err(ArchiveError::Stopped(failure))
    };
    let error = write(folder.path(), LATEST, io::sink(), &stop).unwrap_err();
    assert_eq!(particle_vm_protocol::Failure::from(error).message, "the build was cancelled");
}

#[test]
fn the_date_is_that_of_the_newest_file_that_was_there_before() {
    let folder = Folder::new("tar-date");
    for (name, time) in [("a", 100), ("b", 300), ("c", 200)] {
        fs::write(folder.path().join(name), "").unwrap();
        set_time(&folder.path().join(name), time);
    }
    assert_eq!(newest_before(folder.path(), 300, &|| Ok(())).unwrap(), 200);
}

#[test]
fn names_are_split_where_they_can_be() {
    let name = [[b'a'; 90].as_slice(), b"/", [b'b'; 90].as_slice()].concat();
    assert_eq!(split(&name, 100, 155), Some((&name[..90], &name[91..])));
    let folder = [name.as_slice(), b"/"].concat();
    assert_eq!(split(&folder, 100, 155), Some((&folder[..90], &folder[91..])));
    assert_eq!(split(&[b'a'; 101], 100, 155), None);
    assert_eq!(split(&[[b'a'; 160].as_slice(), b"/b"].concat(), 100, 155), None);
}
