//! Each way in which a recipe can be wrong: the message, the place it points at, exit code 2, and no VM started.

use particle_vm_tests::{Place, leftovers};
use std::fmt::Write;
use std::time::Duration;

/// Longer than reading any recipe may take.
const DEADLINE: Duration = Duration::from_secs(20);

const HEAD: &str = "name: bad\nstages:\n  - type: debootstrap\n    options: { suite: trixie }\n";

const DISK: &str = "disk: { size: 2GiB }\n";

/// `build` refuses `recipe`, points at `at` (`line:column`; empty for the file as a whole) and says each of `texts`, which
/// are words of the message and of the advice: those of the recipe stand in the report anyway.
fn refused(recipe: &str, at: &str, texts: &[&str]) {
    refused_in(&Place::with_empty_cache(), recipe, at, texts);
}

fn refused_in(place: &Place, recipe: &str, at: &str, texts: &[&str]) {
    let echoed = texts.iter().find(|text| recipe.contains(**text));
    assert_eq!(echoed, None, "the report echoes that");
    let path = place.write("bad.yml", recipe);
    let outcome = place.start_build(&path, &[]).finish(DEADLINE).exits(2).says(texts);
    let position = if at.is_empty() { "bad.yml".to_owned() } else { format!("bad.yml:{at}]") };
    assert!(outcome.stderr.contains(&position), "no {position:?} in stderr:\n{}", outcome.stderr);
    leftovers::no_files(place, &[]);
    leftovers::no_processes(place);
}

#[test]
fn not_yaml() {
    refused("name: [never closed\nstages:\n", "2:7", &["this is not YAML", "illegal placement of ':'"]);
}

#[test]
fn empty() {
    refused("", "1:1", &["the recipe is empty"]);
}

#[test]
fn wrong_types() {
    refused("name: bad\nstages: yes\n", "2:9", &["`stages` is a list, and not a text"]);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    refused(&format!("{HEAD}dsik: {{ size: 2GiB }}\n"), "5:1", &["has no key `dsik`", "did you mean `disk`"]);
}

#[test]
fn an_unknown_option_names_the_nearest_known_one() {
    let recipe = format!("{HEAD}  - type: apt\n    options: {{ pacakges: [sudo] }}\n");
    refused(&recipe, "6:16", &["has no key `pacakges`", "did you mean `packages`"]);
}

#[test]
fn an_unknown_stage_names_the_nearest_known_one() {
    refused(
        &format!("{HEAD}  - type: timezoen\n    options: {{ zone: UTC }}\n"),
        "5:11",
        &["no stage type", "did you mean `timezone`"],
    );
}

#[test]
fn duplicate_keys() {
    refused(&format!("{HEAD}name: again\n"), "5:1", &["the key `name` is given a second time", "in line 1 already"]);
}

#[test]
fn an_alias_bomb() {
    let mut bomb = String::from("name: bad\na: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (of, name) in "abcdefghi".chars().zip("bcdefghij".chars()) {
        let aliases = vec![format!("*{of}"); 10].join(", ");
        writeln!(bomb, "{name}: &{name} [{aliases}]").unwrap();
    }
    refused(&bomb, "7:4", &["with its aliases unfolded", "write out what the aliases"]);
}

#[test]
fn a_file_of_100_megabytes() {
    refused(&"# 0123456789012345678901234567890123456789\n".repeat((100 << 20) / 43), "", &["bytes", "is the most"]);
}

#[test]
fn a_disk_of_no_size() {
    refused(&format!("{HEAD}disk: {{ size: 0 }}\n"), "5:15", &["the disk has a size of 0"]);
}

#[test]
fn a_disk_of_an_exbibyte() {
    refused(&format!("{HEAD}disk: {{ size: 1EiB }}\n"), "5:15", &["a disk of 1EiB is more than"]);
}

#[test]
fn a_disk_smaller_than_its_content() {
    refused(&format!("{HEAD}disk: {{ size: 16MiB }}\n"), "5:15", &["is too little", "make it larger by at least"]);
}

#[test]
fn two_partitions_on_one_mount_point() {
    let disk = "disk:\n  size: 4GiB\n  partitions:\n    - { kind: root, mountpoint: /, size: 2GiB }\n    \
                - { kind: linux, mountpoint: /, grow: true }\n";
    refused(&format!("{HEAD}{disk}"), "9:34", &["two partitions are mounted on `/`"]);
}

#[test]
fn a_missing_file_to_copy() {
    let stage = "  - type: copy\n    options: { source: missing.txt, destination: /etc/motd }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["there is no file `missing.txt`"]);
}

#[test]
fn a_path_above_the_recipes_folder() {
    let stage = "  - type: copy\n    options: { source: ../out, destination: /srv }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["`../out` leads out of the recipe's folder"]);
}

#[test]
fn an_absolute_path() {
    let stage = "  - type: copy\n    options: { source: /etc/passwd, destination: /srv }\n";
    refused(&format!("{HEAD}{stage}{DISK}"), "6:24", &["`/etc/passwd` is an absolute path"]);
}

#[test]
fn a_symlink_out_of_the_recipes_folder() {
    let place = Place::with_empty_cache();
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("recipe/link")).unwrap();
    let stage = "  - type: copy\n    options: { source: link, destination: /srv }\n";
    refused_in(
        &place,
        &format!("{HEAD}{stage}{DISK}"),
        "6:24",
        &["leads out of the recipe's folder by a symbolic link"],
    );
}

#[test]
fn all_problems_are_told_together() {
    let recipe = format!(
        "{HEAD}  - type: apt\n    options: {{ pacakges: [sudo] }}\n  - type: timezoen\ndisk: {{ size: 0, partitions: [{{ \
         kind: root, size: 1GiB, grow: true, lable: x }}] }}\noutput: {{ formats: [qcow3] }}\n"
    );
    let place = Place::with_empty_cache();
    let path = place.write("bad.yml", recipe);
    let said = [
        "bad.yml:6:16]",
        "has no key `pacakges`",
        "bad.yml:7:11]",
        "no stage type `timezoen`",
        "bad.yml:8:15]",
        "the disk has a size of 0",
        "bad.yml:8:69]",
        "this partition has a size and grows",
        "has no key `lable`",
        "bad.yml:9:21]",
        "cannot be `qcow3`",
    ];
    let outcome = place.start(&["check".as_ref(), path.as_os_str()]).finish(DEADLINE).exits(2).says(&said);
    assert!(outcome.took < DEADLINE);
}

#[test]
fn a_format_of_the_command_line_that_cannot_hold_the_disk() {
    let place = Place::with_empty_cache();
    let path = place.write("bad.yml", format!("{HEAD}disk: {{ size: 4TiB }}\n"));
    let options = ["--mirror", "http://192.0.2.1/debian", "--format", "vhd"];
    let _ = place.start_build(&path, &options).finish(DEADLINE).exits(2).says(&["a vhd holds at most 2040GiB"]);
    leftovers::no_files(&place, &[]);
}

#[test]
fn the_last_line_of_json_is_the_error() {
    let place = Place::with_empty_cache();
    let bad = place.write("bad.yml", "name: [\n");
    let worse = place.write("worse.yml", "");
    let arguments = ["--progress".as_ref(), "json".as_ref(), "check".as_ref(), bad.as_os_str(), worse.as_os_str()];
    let outcome = place.start(&arguments).finish(DEADLINE).exits(2);
    let events: Vec<_> =
        outcome.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["problem", "error"]);
    assert_eq!(events[1]["findings"][0]["message"], "the recipe is empty");
}

#[test]
fn an_image_in_a_folder_that_is_copied() {
    let place = Place::with_empty_cache();
    let stage = "  - type: copy\n    options: { source: ., destination: /srv }\n";
    let path = place.write("bad.yml", format!("{HEAD}{stage}{DISK}"));
    let output = place.path().join("recipe/out");
    let arguments = ["build".as_ref(), path.as_os_str(), "--output".as_ref(), output.as_os_str()];
    let _ = place.start(&arguments).finish(DEADLINE).exits(2).says(&["bad.yml:6:24]", "where the build writes"]);
    leftovers::no_files(&place, &[]);
}
