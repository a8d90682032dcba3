//! Stages that an earlier build has run already.

use particle_vm_tests::image::{Image, layer};
use particle_vm_tests::{Fault, Mirror, Outcome, Place, leftovers, measured, mirror};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than any of these builds takes under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

const STAGES: &str = r#"
  - type: files
    options: { files: { /etc/one: { content: "1 ${MORE}\n" } } }
  - type: copy
    options: { source: site, destination: /srv/site }
  - type: run
    name: look
    options: { script: "ls /run /tmp > /etc/found; touch /run/mine /tmp/mine" }
  - type: hostname
    options: { hostname: a }
variables: { MORE: x }
"#;

/// A place with the files that the stages use, and a store of its own.
fn place() -> Place {
    let place = Place::with_shared_appliance();
    std::fs::create_dir(place.path().join("recipe/site")).unwrap();
    place.write("site/page.html", "<p>a page</p>\n");
    place.write("tiny.gpg", mirror::keyring());
    place
}

/// The recipe with `stages` after its first one.
fn recipe(place: &Place, mirror: &Mirror, stages: &str) -> PathBuf {
    let (stages, variables) = stages.trim_start_matches('\n').split_once("variables").unwrap_or((stages, ": {}\n"));
    place.write("tiny.yml", format!("{}variables{variables}", mirror.recipe(stages)))
}

fn build(place: &Place, recipe: &Path, arguments: &[&str]) -> Outcome {
    let mut command = place.build_command(recipe, &[&["--format", "tar"], arguments].concat());
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    let outcome = particle_vm_tests::Running::start(command).finish(DEADLINE);
    leftovers::no_processes(place);
    outcome
}

/// The numbers of the stages that were run.
fn ran(outcome: &Outcome) -> Vec<usize> {
    numbers(outcome, ": done in ")
}

/// The numbers of those that were not.
fn reused(outcome: &Outcome) -> Vec<usize> {
    numbers(outcome, ": as an earlier build has made it")
}

fn numbers(outcome: &Outcome, says: &str) -> Vec<usize> {
    let lines = outcome.stderr.lines().filter(|line| line.contains(says));
    lines.filter_map(|line| line.split_once('/')?.0.parse().ok()).collect()
}

/// What `explain` says of each stage.
fn explained(place: &Place, recipe: &Path, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<_> = if arguments.contains(&"--set") { arguments.to_vec() } else { Vec::new() };
    let all = [&["explain", recipe.to_str().unwrap(), "--format", "tar"], &arguments[..]].concat();
    let outcome = place.start(&all).finish(DEADLINE).exits(0);
    outcome.stdout.lines().map(str::to_owned).collect()
}

/// The digest of the tree that was built.
fn tree(place: &Place) -> String {
    place.manifest()["outputs"][0]["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn only_what_was_changed_runs_again_and_what_comes_after_it() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let all = recipe(&place, &mirror, STAGES);
    let first = build(&place, &all, &[]).exits(0);
    assert_eq!((ran(&first), reused(&first)), (vec![1, 2, 3, 4, 5], vec![]), "{}", first.stderr);
    let made = tree(&place);
    let again = build(&place, &all, &[]).exits(0);
    assert_eq!((ran(&again), reused(&again)), (vec![], vec![1, 2, 3, 4, 5]), "{}", again.stderr);
    assert_eq!(tree(&place), made);
    for (what, outcome) in [("of a build", &first), ("of one that runs none of them", &again)] {
        measured("five small stages", &format!("seconds {what}"), outcome.took.as_secs_f64());
    }
    let manifest = place.manifest();
    assert_eq!(manifest["reused"].as_array().unwrap().len(), 5, "{manifest:#}");
    // What the first stage has fetched belongs to this image too.
    let inputs = manifest["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["url"].as_str().unwrap().ends_with(".deb")), "{inputs:#?}");

    for (what, arguments, runs) in [
        ("the last stage", &[][..], 5..=5),
        ("a file that is copied", &[], 3..=5),
        ("a variable", &["--set", "MORE=y"], 2..=5),
        ("nothing, from a stage on", &["--from", "look"], 4..=5),
        ("nothing, without what was kept", &["--no-cache"], 1..=5),
        ("the archive", &[], 1..=5),
    ] {
        match what {
            "the last stage" => drop(recipe(&place, &mirror, &STAGES.replace("hostname: a", "hostname: b"))),
            "a file that is copied" => drop(place.write("site/page.html", "<p>a pagE</p>\n")),
            "the archive" => mirror.replace_package(),
            _ => {}
        }
        let told = explained(&place, &all, arguments);
        let changed = build(&place, &all, arguments).exits(0);
        let runs: Vec<usize> = runs.collect();
        assert_eq!(ran(&changed), runs, "{what}: {}", changed.stderr);
        // It has no word of options that run a stage all the same.
        if !what.starts_with("nothing") {
            let first = told.iter().position(|line| line.contains(": runs, because ")).unwrap();
            assert_eq!(first + 1, runs[0], "{what}: {told:#?}");
            let because = match what {
                "the last stage" => "`hostname` is another",
                "a file that is copied" => "the file site/page.html is another",
                "a variable" => "`files./etc/one.content` is another",
                _ => "the archive has something else: http://127.0.0.1:",
            };
            assert!(told[first].contains(because), "{what}: {told:#?}");
            assert!(told[first + 1..].iter().all(|line| line.ends_with("because a stage before it does")), "{told:#?}");
        }
        let before = if what.contains("without") { vec![] } else { (1..runs[0]).collect() };
        assert_eq!(reused(&changed), before, "{what}: {}", changed.stderr);
        // The same as when all of it is run.
        if what == "a file that is copied" {
            let made = tree(&place);
            let _ = build(&place, &all, &["--no-cache"]).exits(0);
            assert_eq!(tree(&place), made, "{what}");
        }
    }
    // A stage finds nothing of those before it where only a running system has something.
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xOf").arg(place.out().join("tiny.tar")).args(["--wildcards", "*etc/found"]);
    let said = tar.output().unwrap();
    assert!(said.status.success() && !String::from_utf8_lossy(&said.stdout).contains("mine"), "{said:?}");
}

#[test]
fn a_build_that_failed_is_taken_up_where_it_failed() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let stages = STAGES.replace("ls /run", "test -e /etc/one && exit 3; ls /run");
    let outcome = build(&place, &recipe(&place, &mirror, &stages), &[]).exits(1);
    assert_eq!(ran(&outcome), [1, 2, 3], "{}", outcome.stderr);
    let outcome = build(&place, &recipe(&place, &mirror, STAGES), &[]).exits(0);
    assert_eq!((ran(&outcome), reused(&outcome)), (vec![4, 5], vec![1, 2, 3]), "{}", outcome.stderr);
}

#[test]
fn a_stage_that_is_not_to_be_kept_runs_each_time() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let stages = STAGES.replace("name: look", "name: look\n    cache: false");
    let all = recipe(&place, &mirror, &stages);
    let _ = build(&place, &all, &[]).exits(0);
    let outcome = build(&place, &all, &[]).exits(0);
    assert_eq!((ran(&outcome), reused(&outcome)), (vec![4, 5], vec![1, 2, 3]), "{}", outcome.stderr);
    let unknown = build(&place, &all, &["--from", "looks"]).exits(2);
    let _ = unknown.says(&["the recipe has no stage `looks`", "1 debootstrap, 2 files, 3 copy, 4 look, 5 hostname"]);
}

/// The objects of the store that lie beneath `folder`, the largest first.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().blocks()));
    found
}

#[test]
fn a_stage_that_has_rotted_is_run_again() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let all = recipe(&place, &mirror, STAGES);
    let _ = build(&place, &all, &[]).exits(0);
    let made = tree(&place);
    // The tree itself is most of what there is.
    let largest = objects(&place.cache().join("particle-vm/store/content-v2")).swap_remove(0);
    std::fs::set_permissions(&largest, PermissionsExt::from_mode(0o600)).unwrap();
    let mut content = std::fs::read(&largest).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(&largest, content).unwrap();
    let outcome = build(&place, &all, &[]).exits(0);
    assert_eq!((ran(&outcome), reused(&outcome)), (vec![1, 2, 3, 4, 5], vec![]), "{}", outcome.stderr);
    assert_eq!(tree(&place), made);
    leftovers::no_unfinished(&place);
}

#[test]
fn two_builds_make_each_stage_once() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let stages = STAGES.replace("ls /run", "sleep 5; ls /run");
    let one = recipe(&place, &mirror, &stages);
    let two = place.write("two.yml", std::fs::read_to_string(&one).unwrap().replace("name: tiny", "name: two"));
    let out = place.path().join("out-of-two");
    let command = place.command(&["-v", "build", two.to_str().unwrap(), "--output", out.to_str().unwrap()]);
    let first = place.start_build(&one, &[]);
    let second = particle_vm_tests::Running::start(command);
    let outcomes = [first.finish(DEADLINE).exits(0), second.finish(DEADLINE).exits(0)];
    let (mut ran, mut reused) =
        ([ran(&outcomes[0]), ran(&outcomes[1])].concat(), [reused(&outcomes[0]), reused(&outcomes[1])].concat());
    ran.sort_unstable();
    reused.sort_unstable();
    assert_eq!((ran, reused), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]), "{outcomes:#?}");
    leftovers::no_processes(&place);
}

/// The tree of a container image is unpacked once.
#[test]
fn stages_on_a_container_image_are_taken_over_with_its_tree() {
    let place = place();
    let layers = [
        layer("etc/os-release", b"ID=debian\n"),
        layer("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        layer("etc/group", b"root:x:0:\n"),
    ];
    Image::of("amd64", &layers).write_layout(&place.path().join("recipe/image"), "1");
    let text = |host: &str| {
        format!(
            "name: tiny\nbase-image: 'oci:image:1'\nengine: plain\noutput: {{ formats: [tar] }}\nstages:\n  - {{ type: files, \
             options: {{ files: {{ /srv/made: {{ content: made }} }} }} }}\n  - {{ type: hostname, options: {{ hostname: \
             {host} }} }}\n"
        )
    };
    let first = build(&place, &place.write("tiny.yml", text("a")), &[]).exits(0);
    assert_eq!(ran(&first), [1, 2], "{}", first.stderr);
    assert!(first.stderr.contains("unpack: done in "), "{}", first.stderr);
    let second = build(&place, &place.write("tiny.yml", text("b")), &[]).exits(0);
    assert_eq!((ran(&second), reused(&second)), (vec![2], vec![1]), "{}", second.stderr);
    assert!(!second.stderr.contains("unpack: done in "), "{}", second.stderr);
    let made = tree(&place);
    let _ = build(&place, &place.write("tiny.yml", text("b")), &["--no-cache"]).exits(0);
    assert_eq!(tree(&place), made);
}

/// A store that may hold nothing has nothing for the next build, and no build fails for that.
#[test]
fn what_is_more_than_the_cache_may_hold_is_not_kept() {
    let (place, mirror) = (place(), Mirror::start(Fault::None));
    let all = recipe(&place, &mirror, STAGES);
    for _ in 0..2 {
        let outcome = build(&place, &all, &["-v", "--cache-size", "1MiB"]).exits(0);
        assert_eq!((ran(&outcome), reused(&outcome)), (vec![1, 2, 3, 4, 5], vec![]), "{}", outcome.stderr);
        let _ = outcome.says(&["no further stage is kept for later builds: it is more than --cache-size"]);
    }
    let kept: u64 = objects(&place.cache().join("particle-vm/store/content-v2"))
        .iter()
        .map(|path| std::fs::metadata(path).unwrap().blocks() * 512)
        .sum();
    measured("a small cache", "bytes that it holds", kept);
    assert!(kept <= 1 << 20, "{kept}");
}
