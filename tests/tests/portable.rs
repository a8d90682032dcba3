//! The command alone, copied to another machine: what it needs there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use object::LittleEndian;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DynamicTag, FileHeader64};
use object::read::elf::FileHeader;
use particle_vm_tests::{Fault, Mirror, Place, Running, leftovers, measured, mirror, place};
use std::os::unix::fs::symlink;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// Libraries that every Debian has: those of `libc6` and of `libgcc-s1`, which apt and dpkg themselves depend on.
const EVERYWHERE: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

/// What Debian has in the packages `qemu-system-x86` and `qemu-utils`.
const PROGRAMS: [&str; 2] = ["qemu-system-x86_64", "qemu-img"];

#[test]
fn it_needs_no_library_that_a_debian_could_lack() {
    let binary = std::fs::read(place::binary()).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*binary).unwrap();
    let sections = header.sections(LittleEndian, &*binary).unwrap();
    let table = sections.dynamic_table(LittleEndian, &*binary).unwrap();
    let entries_of = |tag: DynamicTag| {
        let entries = table.iter().filter(move |entry| entry.tag == tag);
        entries.map(|entry| String::from_utf8_lossy(table.string(entry).unwrap()).into_owned())
    };
    let needed: Vec<_> = entries_of(DT_NEEDED).collect();
    measured("portable", "libraries", needed.join(" "));
    assert!(needed.iter().any(|library| library == "libc.so.6"), "{needed:?}");
    let unusual: Vec<_> = needed.iter().filter(|library| !EVERYWHERE.contains(&library.as_str())).collect();
    assert!(unusual.is_empty(), "{unusual:?}");
    // It does not look for them in a folder of the machine that built it either.
    let folders: Vec<_> = entries_of(DT_RPATH).chain(entries_of(DT_RUNPATH)).collect();
    assert!(folders.is_empty(), "{folders:?}");
}

#[test]
fn it_builds_with_nothing_beside_it_but_qemu() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe("").replace("[raw]", "[raw, qcow2]"));
    // Away from the folder that it was built in, and no other program within reach.
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in PROGRAMS {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(program))
            .find(|path| path.is_file());
        symlink(found.unwrap(), bin.join(program)).unwrap();
    }
    let copy = place.path().join("particle-vm");
    std::fs::copy(place::binary(), &copy).unwrap();
    let mut command = place.command_of(
        &copy,
        &[
            "build".as_ref(),
            recipe.as_os_str(),
            "--output".as_ref(),
            place.out().as_os_str(),
            "--work-dir".as_ref(),
            place.work().as_os_str(),
        ],
    );
    command.env("PATH", &bin);
    let outcome = Running::start(command).finish(DEADLINE).exits(0);
    measured("portable", "seconds of a small build", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.qcow2", "tiny.raw"]);
}
