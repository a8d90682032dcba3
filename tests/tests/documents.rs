//! What the documents say about the sources has to hold.

use particle_vm_tests::{Place, leftovers, place};
use std::process::{Command, Output};
use std::time::Duration;

/// Standard output of `particle-vm ARGUMENTS`.
fn output_of(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(place::binary()).args(arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The verbs that `particle-vm --help` lists.
fn verbs() -> Vec<String> {
    let help = output_of(&["--help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // The first word of a line is a verb, unless the line goes on with what the one before has begun.
    let verbs = lines.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    verbs.filter_map(|line| Some(line.split(' ').next()?.to_owned())).filter(|verb| verb != "help").collect()
}

#[test]
fn every_verb_is_completed() {
    let verbs = verbs();
    assert!(verbs.len() >= 13 && verbs.contains(&"build".to_owned()), "{verbs:?}");
    for shell in ["bash", "fish", "zsh"] {
        let script = output_of(&["completions", shell]);
        assert!(verbs.iter().all(|verb| script.contains(verb.as_str())), "{shell}:\n{script}");
        assert!(script.contains("on-failure") && !script.contains("internal"), "{shell}:\n{script}");
    }
    let script = output_of(&["completions", "bash"]);
    let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    // What bash makes of it: the verbs that begin with `b`, in any order.
    let complete = format!(
        "{script}\nset -- $(complete -p particle-vm)\nCOMP_WORDS=(particle-vm b) COMP_CWORD=1\n\
         while [ \"$1\" != -F ]; do shift; done\n\"$2\" particle-vm b particle-vm\necho ${{COMPREPLY[@]}}"
    );
    let completed = Command::new("bash").args(["--norc", "-c", &complete]).output().unwrap();
    let completed = String::from_utf8(completed.stdout).unwrap();
    let mut words: Vec<_> = completed.split_whitespace().collect();
    words.sort_unstable();
    assert_eq!(words, ["boot", "build"]);
}

#[test]
fn every_verb_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    output_of(&["man", "--dir", dir.path().to_str().unwrap()]);
    let pages = leftovers::names(dir.path());
    for name in
        std::iter::once("particle-vm".to_owned()).chain(verbs().iter().map(|verb| format!("particle-vm-{verb}")))
    {
        assert!(pages.contains(&format!("{name}.1")), "{pages:?}");
        let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
        let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(title.starts_with(&format!(".TH {name} 1")), "{title}");
        assert!(page.contains("\n.SH NAME\n") && page.contains("\n.SH OPTIONS\n"), "{page}");
    }
    assert!(!pages.iter().any(|page| page.contains("internal")), "{pages:?}");
    assert!(output_of(&["man"]).contains("\n.TH particle-vm 1"));
}

/// Each test that `docs/threat-model.md` names as a proof is there, in the file that it names.
#[test]
fn the_proofs_of_the_threat_model_exist() {
    let root = place::root();
    let text = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut proofs = 0;
    // In a row of a table, code between backticks is a file, or a function of the file before it.
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let mut source: Option<(&str, String)> = None;
        for code in row.split('`').skip(1).step_by(2) {
            if code.ends_with(".rs") {
                let content =
                    std::fs::read_to_string(root.join(code)).unwrap_or_else(|error| panic!("{code}: {error}"));
                source = Some((code, content));
            } else if let Some((file, content)) = &source {
                assert!(content.contains(&format!("fn {code}(")), "there is no test {code} in {file}");
                proofs += 1;
            }
        }
    }
    assert!(proofs >= 30, "only {proofs} proofs were found");
}

/// The example of a mistake in `README.md` is what the program says.
#[test]
fn the_mistake_of_the_readme_is_shown_like_that() {
    let readme = std::fs::read_to_string(place::root().join("README.md")).unwrap();
    let command = "$ particle-vm check typo.yml\n";
    let shown = readme.split_once(command).unwrap().1.split_once("```").unwrap().0;
    let place = Place::with_empty_cache();
    let recipe = "name: typo\nstages:\n  - { type: debootstrap, options: { suite: trixie } }\n  - type: timezone\n    \
                  options: {zoen: Europe/Berlin}\ndisk: { size: 4GiB }\n";
    std::fs::write(place.path().join("typo.yml"), recipe).unwrap();
    let said = place.start(&["check", "typo.yml"]).finish(Duration::from_secs(60)).exits(2).stderr;
    assert_eq!(said.trim(), shown.trim());
}

/// The recipes in the documents have nothing wrong with them.
#[test]
fn the_recipes_of_the_documents_are_good() {
    let mut checked = 0;
    for entry in std::fs::read_dir(place::root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for recipe in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let place = Place::with_empty_cache();
            // What a recipe copies has to be there.
            std::fs::create_dir_all(place.path().join("overlay/etc")).unwrap();
            std::fs::write(place.path().join("recipe.yml"), recipe).unwrap();
            let _ = place.start(&["check", "recipe.yml"]).finish(Duration::from_secs(60)).exits(0);
            checked += 1;
        }
    }
    assert!(checked >= 1, "no document has a recipe");
}

#[test]
fn every_dependency_says_why_it_is_one() {
    let root = place::root();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let mut used: Vec<_> = lines.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    used.retain(|name| *name != "particle-vm-protocol");
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let rows = text.lines().skip_while(|line| *line != "| crate | why this one |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut told: Vec<_> = rows.flat_map(|row| row.split('|').nth(1).unwrap().trim().split(", ")).collect();
    used.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, used);
}

/// Variables of the build, of the documents and of tests.
const NOT_FOR_USERS: [&str; 4] =
    ["PARTICLE_VM_AGENT", "PARTICLE_VM_TEST", "PARTICLE_VM_TEST_RESTRICTED", "PARTICLE_VM_WRITE_REFERENCE"];

/// Every variable of its own that the program reads is in the table of `README.md`.
#[test]
fn the_readme_has_every_variable() {
    let root = place::root();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut grep = Command::new("grep");
    grep.args(["-rhoE", "--include=*.rs", "\"PARTICLE_VM_[A-Z_]+\""]).arg(root.join("host/src"));
    let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
    let mut names: Vec<_> = found.lines().map(|name| name.trim_matches('"')).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 8, "{names:?}");
    for name in names.iter().filter(|name| !NOT_FOR_USERS.contains(name)) {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in README.md");
    }
}
