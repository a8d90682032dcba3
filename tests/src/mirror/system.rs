//! The suite `working`: a tree in which dpkg, apt and useradd run. It is busybox with these programs of this machine, so
//! that a stage does in it what it does in a tree of Debian's, within seconds.

use super::{asking_package, busybox_tree, pack, run, write_program};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const WORKING: &str = "working";

const PROGRAMS: [&str; 10] =
    ["apt-config", "apt-get", "chpasswd", "dpkg", "dpkg-deb", "dpkg-query", "dpkg-split", "groupadd", "tar", "useradd"];

/// What apt fetches packages with; it finds them where they lie here.
const METHODS: [&str; 3] = ["/usr/lib/apt/methods/file", "/usr/lib/apt/methods/http", "/usr/lib/apt/methods/store"];

/// What apt knows of processors, from dpkg.
const TABLES: [&str; 2] = ["/usr/share/dpkg/cputable", "/usr/share/dpkg/tupletable"];

/// The packages of the suite: the tree, `apt`, without which there is no variant of that name, and two that ask.
pub(super) fn make(dir: &Path) {
    let tree = dir.join("system");
    busybox_tree(&tree, &PROGRAMS);
    for folder in ["etc/apt/apt.conf.d", "etc/apt/preferences.d", "home", "usr/lib/apt/methods", "usr/share/dpkg"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for folder in ["alternatives", "info", "parts", "triggers", "updates"] {
        std::fs::create_dir_all(tree.join("var/lib/dpkg").join(folder)).unwrap();
    }
    std::fs::write(tree.join("etc/shadow"), "root:*:19000:0:99999:7:::\n").unwrap();
    // dpkg wants it to be there, and nothing here calls it.
    write_program(&tree.join("usr/bin/ldconfig"), "#!/bin/sh\n");
    for program in PROGRAMS.map(find) {
        take(&tree, &program, &Path::new("usr/bin").join(program.file_name().unwrap()));
    }
    for method in METHODS.map(Path::new) {
        take(&tree, method, method.strip_prefix("/").unwrap());
    }
    for table in TABLES {
        std::fs::copy(table, tree.join(table.trim_start_matches('/'))).unwrap();
    }
    pack(dir, WORKING, &tree, ("system", "1.0"), "Essential: yes\nDescription: a tree in which dpkg and apt run\n");
    pack(dir, WORKING, &dir.join("empty"), ("apt", "1.0"), "Description: what a tree with apt has\n");
    for name in ["asks", "inquires"] {
        asking_package(dir, WORKING, name);
    }
}

fn find(program: &str) -> PathBuf {
    let mut places = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(program)).into_iter();
    places.find(|path| path.is_file()).unwrap_or_else(|| panic!("no {program}"))
}

/// Copy `program` to its place in the tree, and the libraries that it is linked with to where they are here.
fn take(tree: &Path, program: &Path, place: &Path) {
    std::fs::copy(program, tree.join(place)).unwrap();
    let linked = run(Command::new("ldd").arg(program));
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = tree.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(library, place).unwrap();
    }
}
