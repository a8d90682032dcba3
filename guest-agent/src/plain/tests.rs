use super::*;
use crate::cancel::Cancel;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

/// A tree and something beside it that must stay as it is.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("particle-vm-plain-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("tree")).unwrap();
        fs::create_dir(path.join("outside")).unwrap();
        Self(path)
    }

    fn tree(&self, path: &str) -> PathBuf {
        self.0.join("tree").join(path)
    }

    /// Unpack one layer, which `fill` makes.
    fn apply(&self, fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<(), Failure> {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        let bytes = builder.into_inner().unwrap();
        let context = Context::new(Arc::default(), Arc::new(Cancel::new().unwrap()), Arc::default());
        super::apply(&context, &Tree::open(&self.tree("")).unwrap(), Layer::new(bytes.as_slice()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn header(kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o4755);
    header.set_mtime(7);
    header.set_uid(nix::unistd::getuid().as_raw().into());
    header.set_gid(nix::unistd::getgid().as_raw().into());
    header
}

fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &str) {
    builder.append_data(&mut header(tar::EntryType::Regular, content.len()), path, content.as_bytes()).unwrap();
}

fn folder(builder: &mut tar::Builder<Vec<u8>>, path: &str) {
    builder.append_data(&mut header(tar::EntryType::Directory, 0), path, io::empty()).unwrap();
}

fn link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, to: &str) {
    builder.append_link(&mut header(kind, 0), path, to).unwrap();
}

#[test]
fn layers_lie_one_above_the_other() {
    let place = Place::new("layers");
    let first = |layer: &mut tar::Builder<Vec<u8>>| {
        for path in ["gone/a", "kept/old", "opaque/old", "opaque/deep/old", "file", "changed/x"] {
            file(layer, path, "1");
        }
        link(layer, tar::EntryType::Link, "hard", "file");
    };
    place.apply(first).unwrap();
    let second = |layer: &mut tar::Builder<Vec<u8>>| {
        file(layer, ".wh.gone", "");
        file(layer, "kept/new", "2");
        file(layer, "opaque/deep/new", "2");
        file(layer, "opaque/.wh..wh..opq", "");
        file(layer, "changed", "2");
        link(layer, tar::EntryType::Link, "across", "file");
        folder(layer, "kept");
    };
    place.apply(second).unwrap();
    assert!(
        !place.tree("gone").exists() && !place.tree("opaque/old").exists() && !place.tree("opaque/deep/old").exists()
    );
    for there in ["kept/old", "kept/new", "opaque/deep/new", "changed", "hard"] {
        assert!(place.tree(there).is_file(), "{there}");
    }
    let data = fs::metadata(place.tree("file")).unwrap();
    assert_eq!((data.nlink(), data.permissions().mode() & 0o7777, data.mtime()), (3, 0o4755, 7));
    assert_eq!(fs::metadata(place.tree("kept")).unwrap().mtime(), 7);
}

#[test]
fn links_of_lower_layers_do_not_lead_out() {
    let place = Place::new("links");
    symlink(place.0.join("outside"), place.tree("absolute")).unwrap();
    symlink("../outside", place.tree("up")).unwrap();
    for name in ["absolute", "up"] {
        let path = format!("{name}/secret");
        // Seen from inside of the tree there is no such folder.
        assert!(place.apply(|layer| file(layer, &path, "x")).is_err(), "{name}");
        let _ = place.apply(|layer| file(layer, &format!("{name}/.wh..wh..opq"), ""));
    }
    assert_eq!(fs::read_dir(place.0.join("outside")).unwrap().count(), 0);
    // A link within the tree is followed, as container engines do.
    fs::create_dir(place.tree("usr")).unwrap();
    symlink("/usr", place.tree("alias")).unwrap();
    place.apply(|layer| file(layer, "alias/x", "y")).unwrap();
    assert_eq!(fs::read_to_string(place.tree("usr/x")).unwrap(), "y");
}

#[test]
fn a_hard_link_to_nothing_is_refused_with_its_name() {
    let place = Place::new("nothing");
    let error = place.apply(|layer| link(layer, tar::EntryType::Link, "a", "missing")).unwrap_err();
    assert!(error.message.starts_with("cannot unpack `a`\n"), "{}", error.message);
}
