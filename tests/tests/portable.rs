//! The command alone, copied to another machine: what it needs there.

use object::LittleEndian;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DynamicTag, FileHeader64};
use object::read::elf::FileHeader;
use particle_vm_tests::{Fault, Mirror, Place, Running, leftovers, measured, mirror, place};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// Libraries that every Debian has: those of `libc6` and of `libgcc-s1`, which apt and dpkg themselves depend on.
const EVERYWHERE: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

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

/// The version of glibc of a release of Debian; that of the symbols that programs built on it need, at most.
const GLIBC: [(&str, (u32, u32)); 2] = [("12", (2, 36)), ("13", (2, 41))];

/// `GLIBC_2.34` as a number that can be compared.
fn version(symbols: &str) -> Option<(u32, u32)> {
    let (major, minor) = symbols.strip_prefix("GLIBC_")?.split_once('.')?;
    // Some have a third number.
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// A program runs where glibc has all the versions of symbols that it needs (`.gnu.version_r`), so that one that was built
/// on Debian 12 runs on all later ones; README.md says so.
#[test]
fn it_runs_on_the_release_that_it_was_built_on_and_on_later_ones() {
    let binary = std::fs::read(place::binary()).unwrap();
    let header = FileHeader64::<LittleEndian>::parse(&*binary).unwrap();
    let sections = header.sections(LittleEndian, &*binary).unwrap();
    let (mut libraries, index) = sections.gnu_verneed(LittleEndian, &*binary).unwrap().unwrap();
    let strings = sections.strings(LittleEndian, &*binary, index).unwrap();
    let mut needed = Vec::new();
    while let Some((_, mut versions)) = libraries.next().unwrap() {
        while let Some(auxiliary) = versions.next().unwrap() {
            let name = auxiliary.name(LittleEndian, strings).unwrap();
            needed.extend(version(&String::from_utf8_lossy(name)));
        }
    }
    let newest = needed.into_iter().max().expect("it needs nothing of glibc");
    measured("portable", "newest glibc that it needs", format!("{}.{}", newest.0, newest.1));
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let field =
        |name: &str| release.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'));
    let debian = field("VERSION_ID=").filter(|_| field("ID=") == Some("debian"));
    if let Some((debian, most)) = GLIBC.into_iter().find(|(known, _)| debian == Some(known)) {
        assert!(newest <= most, "built on Debian {debian}, whose glibc is {most:?}, it needs {newest:?}");
    }
}

#[test]
fn it_builds_with_nothing_beside_it_but_qemu() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.recipe("").replace("[raw]", "[raw, qcow2]"));
    // Away from the folder that it was built in, and no other program within reach.
    let bin = place.nothing_but_qemu();
    let copy = place.path().join("particle-vm");
    // By another program: a file that is open for writing in this one, or in a child of it that was forked meanwhile, is not
    // executed (ETXTBSY).
    assert!(Command::new("cp").arg(place::binary()).arg(&copy).status().unwrap().success());
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
