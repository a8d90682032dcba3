//! Each way in which a recipe can be wrong: the message, the place it points at, exit code 2, and no VM started.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use particle_vm_tests::{Place, leftovers};
use std::fmt::Write;
use std::time::Duration;

/// Longer than reading any recipe may take.
const DEADLINE: Duration = Duration::from_secs(20);

const HEAD: &str = "name: bad\nstages:\n  - type: debootstrap\n    options: { suite: trixie }\n";

const DISK: &str = "disk: { size: 2GiB }\n";

/// `build` refuses `recipe`, points at `at` (`line:column`) and says each of `texts`.
fn refused(recipe: &str, at: &str, texts: &[&str]) {
    refused_in(&Place::with_empty_cache(), recipe, at, texts);
}

fn refused_in(place: &Place, recipe: &str, at: &str, texts: &[&str]) {
    let path = place.write("bad.yml", recipe);
    let outcome = place.start_build(&path, &[]).finish(DEADLINE).exits(2).says(texts);
    let position = format!("bad.yml:{at}");
    assert!(outcome.stderr.contains(&position), "no {position:?} in stderr:\n{}", outcome.stderr);
    leftovers::no_files(place, &[]);
    leftovers::no_processes(place);
}

#[test]
fn not_yaml() {
    refused("name: [never closed\nstages:\n", "", &["YAML"]);
}

#[test]
fn empty() {
    refused("", "", &["empty"]);
}

#[test]
fn wrong_types() {
    refused("name: bad\nstages: yes\n", "2:9", &["stages"]);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    refused(&format!("{HEAD}dsik: {{ size: 2GiB }}\n"), "5:1", &["dsik", "disk"]);
}

#[test]
fn an_unknown_option_names_the_nearest_known_one() {
    let recipe = format!("{HEAD}  - type: apt\n    options: {{ pacakges: [sudo] }}\n");
    refused(&recipe, "6:16", &["pacakges", "packages"]);
}

#[test]
fn an_unknown_stage_names_the_nearest_known_one() {
    refused(&format!("{HEAD}  - type: timezoen\n    options: {{ zone: UTC }}\n"), "5:11", &["timezoen", "timezone"]);
}

#[test]
fn duplicate_keys() {
    refused(&format!("{HEAD}name: again\n"), "5:1", &["name"]);
}

#[test]
fn an_alias_bomb() {
    let mut bomb = String::from("name: bad\na: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (of, name) in "abcdefghi".chars().zip("bcdefghij".chars()) {
        let aliases = vec![format!("*{of}"); 10].join(", ");
        writeln!(bomb, "{name}: &{name} [{aliases}]").unwrap();
    }
    refused(&bomb, "", &["alias"]);
}

#[test]
fn a_file_of_100_megabytes() {
    refused(&"# 0123456789012345678901234567890123456789\n".repeat((100 << 20) / 43), "", &["bytes", "end at"]);
}

#[test]
fn a_disk_of_no_size() {
    refused(&format!("{HEAD}disk: {{ size: 0 }}\n"), "5:15", &["size"]);
}

#[test]
fn a_disk_of_an_exbibyte() {
    refused(&format!("{HEAD}disk: {{ size: 1EiB }}\n"), "5:15", &["size"]);
}

#[test]
fn a_disk_smaller_than_its_content() {
    refused(&format!("{HEAD}disk: {{ size: 16MiB }}\n"), "5:15", &["too little"]);
}

#[test]
fn two_partitions_on_one_mount_point() {
    let disk = "disk:\n  size: 4GiB\n  partitions:\n    - { kind: root, mountpoint: /, size: 2GiB }\n    \
                - { kind: linux, mountpoint: /, grow: true }\n";
    refused(&format!("{HEAD}{disk}"), "9:", &["two partitions are mounted on `/`"]);
}

#[test]
fn a_missing_file_to_copy() {
    let stage = "  - type: copy\n    options: { source: missing.txt, destination: /etc/motd }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["missing.txt"]);
}

#[test]
fn a_path_above_the_recipes_folder() {
    let stage = "  - type: copy\n    options: { source: ../out, destination: /srv }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["../out"]);
}

#[test]
fn an_absolute_path() {
    let stage = "  - type: copy\n    options: { source: /etc/passwd, destination: /srv }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["/etc/passwd"]);
}

#[test]
fn a_symlink_out_of_the_recipes_folder() {
    let place = Place::with_empty_cache();
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("recipe/link")).unwrap();
    let stage = "  - type: copy\n    options: { source: link, destination: /srv }\n";
    refused_in(&place, &format!("{HEAD}{stage}{DISK}"), "6:24", &["link"]);
}

#[test]
fn all_problems_are_told_together() {
    let recipe = format!(
        "{HEAD}  - type: apt\n    options: {{ pacakges: [sudo] }}\n  - type: timezoen\ndisk: {{ size: 0 }}\noutput: {{ \
         formats: [qcow3] }}\n"
    );
    let place = Place::with_empty_cache();
    let path = place.write("bad.yml", recipe);
    let said = ["pacakges", "timezoen", "size", "qcow3", "bad.yml:6:", "bad.yml:7:", "bad.yml:8:", "bad.yml:9:"];
    let outcome = place.start(&["check".as_ref(), path.as_os_str()]).finish(DEADLINE).exits(2).says(&said);
    assert!(outcome.took < DEADLINE);
}
