//! The small verbs, and what is told how loudly.

use particle_vm_tests::{Outcome, Place, leftovers, measured, place};
use serde_json::Value;
use std::time::Duration;

/// Longer than a VM takes to start and to end under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// What needs no VM.
const AT_ONCE: Duration = Duration::from_secs(60);

fn run(place: &Place, arguments: &[&str], deadline: Duration) -> Outcome {
    place.start(arguments).finish(deadline)
}

#[test]
fn doctor_names_everything_it_looks_at() {
    let place = Place::new();
    let outcome = run(&place, &["doctor", "--json"], DEADLINE);
    let checks: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let names: Vec<_> = checks.iter().map(|check| text(check, "name")).collect();
    for name in
        ["QEMU", "KVM", "VM", "qemu-img", "apt", "mirror", "appliance", "cache", "work folder", "memory", "user"]
    {
        assert!(names.iter().any(|own| own == name), "{name} is not among {names:?}");
    }
    assert!(checks.iter().all(|check| !text(check, "finding").is_empty()), "{checks:?}");
    for check in checks.iter().filter(|check| check["verdict"] != "ok") {
        assert!(!text(check, "mend").is_empty(), "{check}");
    }
    let problems = checks.iter().any(|check| check["verdict"] == "problem");
    assert_eq!(outcome.code, if problems { 3 } else { 0 }, "{}", outcome.stdout);
    leftovers::no_processes(&place);
}

#[test]
fn doctor_ends_with_3_where_no_build_would_work() {
    let place = Place::with_empty_cache();
    let mut command = place.command(&["doctor"]);
    command.env("PATH", place.path());
    let outcome = particle_vm_tests::Running::start(command).finish(AT_ONCE).exits(3);
    assert!(outcome.stdout.contains("QEMU"), "{}", outcome.stdout);
}

#[test]
fn a_command_keeps_its_exit_code_and_its_output() {
    let place = Place::new();
    let script = "printf 'one\\ntwo  three\\n'; echo aside >&2; exit 3";
    let outcome = run(&place, &["-v", "shell", "--", "sh", "-c", script], DEADLINE).exits(3).says(&["aside"]);
    assert_eq!(outcome.stdout, "one\ntwo  three\n");
    leftovers::no_processes(&place);
}

#[test]
fn init_writes_a_recipe_and_touches_none() {
    let place = Place::with_empty_cache();
    let _ = run(&place, &["init"], AT_ONCE).exits(0);
    let _ = run(&place, &["check", "recipe.yml"], AT_ONCE).exits(0);
    std::fs::write(place.path().join("recipe.yml"), "mine").unwrap();
    let _ = run(&place, &["init"], AT_ONCE).exits(2).says(&["recipe.yml", "name another file"]);
    assert_eq!(std::fs::read_to_string(place.path().join("recipe.yml")).unwrap(), "mine");
    for file in leftovers::names(&place::root().join("recipes")) {
        let template = file.strip_suffix(".yml").unwrap();
        let _ = run(&place, &["init", "--template", template, &file], AT_ONCE).exits(0);
        let shipped = std::fs::read(place::root().join("recipes").join(&file)).unwrap();
        assert!(std::fs::read(place.path().join(&file)).unwrap() == shipped, "{file}");
        let _ = run(&place, &["check", &file], AT_ONCE).exits(0);
    }
}

#[test]
fn the_cache_is_listed_and_pruned() {
    let place = Place::with_empty_cache();
    let listed = |place: &Place| run(place, &["cache", "ls"], AT_ONCE).exits(0).stdout;
    let before = listed(&place);
    for what in ["appliances", "downloads", "logs", "builds under way"] {
        assert!(before.lines().any(|line| line.starts_with(what)), "{before}");
    }
    let logs = place.cache().join("particle-vm/logs");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join("failed.log"), vec![b'x'; 1 << 20]).unwrap();
    let size = |text: &str| text.lines().find(|line| line.starts_with("logs")).unwrap().to_owned();
    assert!(size(&listed(&place)).contains("1 MiB") || size(&listed(&place)).contains("1.0 MiB"), "{}", listed(&place));
    let pruned = run(&place, &["cache", "prune"], AT_ONCE).exits(0).stdout;
    assert!(pruned.contains("logs: 1"), "{pruned}");
    assert!(!logs.join("failed.log").exists());
}

/// Recipes from osbuild are planned as if they had our names.
#[test]
fn an_alias_of_a_stage_means_the_stage() {
    let place = Place::with_empty_cache();
    let text = std::fs::read_to_string(place::root().join("recipes/simple-cli-bootable.yml")).unwrap();
    let mut renamed = text.clone();
    for (name, alias) in [
        ("debootstrap", "org.osbuild.debian.debootstrap"),
        ("apt", "org.osbuild.apt"),
        ("locale", "org.osbuild.locale"),
        ("kernel", "org.osbuild.debian.kernel"),
        ("users", "org.osbuild.users"),
        ("bootloader", "org.osbuild.debian.grub"),
    ] {
        assert!(renamed.contains(&format!("type: {name}\n")), "{name}");
        renamed = renamed.replace(&format!("type: {name}\n"), &format!("type: {alias}\n"));
    }
    let plan = |name: &str, text: &str| {
        let recipe = place.write(name, text);
        run(&place, &["plan", recipe.to_str().unwrap()], AT_ONCE).exits(0).stdout
    };
    assert_eq!(plan("own.yml", &text), plan("osbuild.yml", &renamed));
}

/// A recipe that names no mirror gets that of the command line, else that of the environment; one that does keeps it.
#[test]
fn the_mirror_of_a_recipe_is_the_one_that_is_named() {
    let place = Place::with_empty_cache();
    let text = std::fs::read_to_string(place::root().join("recipes/minimal-debug-locale.yml")).unwrap();
    let own = text.replace("suite: trixie", "suite: trixie\n      mirror: http://recipe.example.org/debian");
    let (without, with) = (place.write("without.yml", &text), place.write("with.yml", own));
    let mirror = |recipe: &std::path::Path, arguments: &[&str]| {
        let mut command = place.command(&[&["plan", recipe.to_str().unwrap()], arguments].concat());
        command.env("PARTICLE_VM_MIRROR", "http://environment.example.org/debian");
        let outcome = particle_vm_tests::Running::start(command).finish(AT_ONCE).exits(0);
        let plan: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let text = plan.to_string();
        let url = text.split(r#""mirror":""#).nth(1).and_then(|rest| rest.split('"').next());
        url.unwrap_or_else(|| panic!("no mirror in {plan:#}")).to_owned()
    };
    let named = ["--mirror", "http://option.example.org/debian"];
    assert_eq!(mirror(&without, &[]), "http://environment.example.org/debian");
    assert_eq!(mirror(&without, &named), "http://option.example.org/debian");
    assert_eq!(mirror(&with, &named), "http://recipe.example.org/debian");
    measured("the mirror of a recipe", "with an option beside the environment", mirror(&without, &named));
}
