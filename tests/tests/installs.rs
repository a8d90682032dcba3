//! Packages and stages in a tree in which they really work: dpkg, apt and useradd run in it.

use particle_vm_tests::{Fault, Mirror, Outcome, Place, leftovers, measured, mirror};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Longer than any of these builds takes under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

fn build(place: &Place, what: &str, stages: &str) -> Outcome {
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = place.write("tiny.yml", mirror.working_recipe(stages));
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE);
    measured(what, "seconds", outcome.took.as_secs_f64());
    leftovers::no_processes(place);
    outcome
}

/// A stage that installs a package.
fn apt(package: &str) -> String {
    format!("  - type: apt\n    options: {{ packages: [{package}] }}\n")
}

/// What the commands of a stage have said, line by line, as the log of the build has it.
fn said(place: &Place, stage: &str) -> Vec<String> {
    let log = std::fs::read_to_string(place.out().join("build.log")).unwrap();
    let (begins, ends) = (format!("] stage {stage}"), format!("] stage {stage}: done in "));
    let lines = log.lines().skip_while(|line| !line.ends_with(&begins)).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.contains(&ends)).collect();
    assert!(!lines.is_empty(), "nothing of {stage} in {log}");
    lines.iter().filter_map(|line| Some(line.split_once("]   ")?.1.to_owned())).collect()
}

/// Once where nothing has been installed yet, and once where something has.
#[test]
fn a_maintainer_script_that_asks_a_question() {
    let place = Place::new();
    let stages = apt("asks") + "  - type: run\n    options: { script: \"true\" }\n" + &apt("inquires");
    let _ = build(&place, "a maintainer script that asks", &stages).exits(0);
    for stage in ["2/4 apt", "4/4 apt"] {
        let said = said(&place, stage);
        for line in ["Really?", "nobody answered, debconf is noninteractive"] {
            assert_eq!(said.iter().filter(|own| *own == line).count(), 1, "{line:?} in {stage}: {said:#?}");
        }
    }
    let packages = place.manifest()["packages"].clone();
    assert!(packages["asks:amd64"] == "1.0" && packages["inquires:amd64"] == "1.0", "{packages:#}");
}

/// The first stage takes the packages of the others with it, and leaves them to these when apt refuses one.
#[test]
fn a_package_that_does_not_exist_is_a_fault_of_the_stage_that_names_it() {
    let place = Place::new();
    let outcome = build(&place, "a package that apt does not know", &(apt("asks") + &apt("no-such-package"))).exits(1);
    let report = outcome.stderr.split("error (build): ").nth(1).unwrap_or_default().to_owned();
    assert!(report.starts_with("stage 3/3 apt failed: ") && report.contains("no-such-package"), "{}", outcome.stderr);
    assert!(report.contains("Unable to locate package"), "{report}");
    let _ = outcome.says(&["1/3 debootstrap: done in ", "2/3 apt: done in "]);
    leftovers::no_files(&place, &[]);
}

const STAGES: &str = r#"
  - type: users
    options:
      users:
        keeper:
          uid: 1600
          gid: 1700
          groups: [fixtures]
          description: Keeper of the fixtures
          home: /home/keep
          shell: /bin/sh
          password: "$6$particlevm$M.oBDOMoD6mWKaJM5wnrZfDKopP5PtO0UZKO2.V3STF9ZdRkd5l/aK3szW5EhEW0Behza7mXOKFXpj.H8Ltci."
          ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBERERERERERERERERERERERERERERERERERERERERERERER keeper@example.org]
  - type: copy
    options: { source: site, destination: /srv/site, owner: keeper, group: keeper }
  - type: copy
    options: { source: site/page.html, destination: /srv/, mode: "0604" }
  - type: files
    options:
      files:
        /etc/fixtures/kept: { content: "kept\n", mode: "0640", owner: keeper, group: "1700" }
        /etc/fixtures/usual: { content: "" }
  - type: run
    options: { file: set-up, environment: { GREETING: hello } }
  - type: run
    options:
      script: |
        grep keeper /etc/passwd
        grep fixtures /etc/group | cut -d : -f 1,4
        grep keeper /etc/shadow | cut -d : -f 1,2
        cd /home/keep
        stat -c '%n %u:%g' .
        stat -c '%n %a %u:%g' .ssh .ssh/authorized_keys
        cat .ssh/authorized_keys
        cd /srv
        stat -c '%n %a %u:%g %F' site site/bin site/bin/tool site/page.html site/latest.html page.html
        readlink site/latest.html
        cat site/latest.html page.html
        cd /etc/fixtures
        stat -c '%n %a %u:%g %s' kept usual
        cat kept
        cat /etc/set-up
"#;

/// What the last stage of these finds, line by line.
const FOUND: &str = "keeper:x:1600:1700:Keeper of the fixtures:/home/keep:/bin/sh
fixtures:keeper
keeper:$6$particlevm$M.oBDOMoD6mWKaJM5wnrZfDKopP5PtO0UZKO2.V3STF9ZdRkd5l/aK3szW5EhEW0Behza7mXOKFXpj.H8Ltci.
. 1600:1700
.ssh 700 1600:1700
.ssh/authorized_keys 600 1600:1700
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBERERERERERERERERERERERERERERERERERERERERERERER keeper@example.org
site 755 1600:1700 directory
site/bin 750 1600:1700 directory
site/bin/tool 751 1600:1700 regular file
site/page.html 640 1600:1700 regular file
site/latest.html 777 1600:1700 symbolic link
page.html 604 0:0 regular file
page.html
<p>a page</p>
<p>a page</p>
kept 640 1600:1700 5
usual 644 0:0 0
kept
hello from a file, run by /usr/bin/busybox
";

#[test]
fn stages_write_what_the_recipe_says() {
    let place = Place::new();
    let folder = place.path().join("recipe");
    std::fs::create_dir_all(folder.join("site/bin")).unwrap();
    place.write("site/page.html", "<p>a page</p>\n");
    place.write("site/bin/tool", "#!/bin/sh\n");
    std::os::unix::fs::symlink("page.html", folder.join("site/latest.html")).unwrap();
    place.write(
        "set-up",
        "#!/bin/busybox ash\necho \"$GREETING from a file, run by $(readlink /proc/$$/exe)\" > /etc/set-up\n",
    );
    for (file, mode) in
        [("site/page.html", 0o640), ("site/bin/tool", 0o751), ("site/bin", 0o750), ("site", 0o755), ("set-up", 0o600)]
    {
        std::fs::set_permissions(folder.join(file), PermissionsExt::from_mode(mode)).unwrap();
    }
    let _ = build(&place, "stages in a small tree", STAGES.trim_start_matches('\n')).exits(0);
    assert_eq!(said(&place, "7/7 run"), FOUND.lines().collect::<Vec<_>>());
}
