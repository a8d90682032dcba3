//! `tools/setup` where it can install nothing: an ordinary user without sudo is told what is missing and the one line to
//! run as root.

use particle_vm_tests::{Outcome, Place, Running, measured, place};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Far longer than it takes to ask for some packages.
const DEADLINE: Duration = Duration::from_secs(60);

/// Run it with the programs of this machine, but no sudo, and a `dpkg-query` that is the shell script `answers`.
fn set_up(answers: &str) -> Outcome {
    let place = Place::with_empty_cache();
    // Also where the tests run as root.
    let bin = place.programs(&["sudo"], &[("dpkg-query", answers), ("id", "echo 1000")]);
    let mut command = Command::new(script());
    command.env_clear().env("PATH", &bin).env("LC_ALL", "C.UTF-8");
    let outcome = Running::start(command).finish(DEADLINE).exits(1);
    measured("tools/setup", "seconds until it says what is missing", outcome.took.as_secs_f64());
    let line = format!("    sh {} packages", script().display());
    assert_eq!(outcome.stderr.lines().last(), Some(line.as_str()), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    outcome.says(&["Run this line as root, then call make again:"])
}

fn script() -> std::path::PathBuf {
    place::root().join(Path::new("tools/setup"))
}

/// The packages that it says are missing.
fn missing(outcome: &Outcome) -> Vec<&str> {
    let line = outcome.stderr.lines().find_map(|line| line.strip_prefix("Missing packages:"));
    line.unwrap_or_else(|| panic!("{}", outcome.stderr)).split_whitespace().collect()
}

#[test]
fn a_user_who_can_install_nothing_is_told_the_line_to_run() {
    let outcome = set_up("exit 1");
    let missing = missing(&outcome);
    for package in ["qemu-system-x86", "qemu-utils", "gcc", "libseccomp-dev", "busybox-static", "skopeo"] {
        assert!(missing.contains(&package), "no {package} in {missing:?}");
    }
}

#[test]
fn a_qemu_that_is_too_old_is_missing() {
    let with = |version: &str, others: &str| {
        set_up(&format!(
            "case \"$*\" in *Version*) echo '{version}' ;; *' skopeo') echo {others} ;; *) echo installed ;; esac"
        ))
    };
    assert_eq!(missing(&with("1:7.2+dfsg-7+deb12u16", "installed")), ["qemu-system-x86"]);
    // Any newer one will do.
    assert_eq!(missing(&with("1:10.0.2+ds-2", "unknown")), ["skopeo"]);
}
