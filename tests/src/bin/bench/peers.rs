//! The peers, which are installed and measured by scripts of their own.

use crate::measure::{Run, median};
use particle_vm_tests::place;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the peers' scripts.
pub fn scripts() -> PathBuf {
    std::env::var_os("PARTICLE_VM_PEERS").map_or_else(|| place::root().join("../shared/peers"), PathBuf::from)
}

/// What the peers' scripts measured: label to the median of its runs.
pub fn measure() -> BTreeMap<String, Run> {
    let scripts = scripts();
    if !scripts.is_dir() || !nix::unistd::geteuid().is_root() {
        return BTreeMap::new();
    }
    let base = std::env::var_os("PEERS").map_or_else(|| "/var/tmp/particle-vm-peers".into(), PathBuf::from);
    let results = base.join("bench-results.tsv");
    let _ = std::fs::remove_file(&results);
    std::fs::create_dir_all(base.join("work")).unwrap();
    let scripts = writable(&scripts, &base);
    for script in ["00-setup.sh", "11-boot-guestfish.sh", "10-boot-fakemachine.sh", "12-boot-vng.sh"] {
        peer(&scripts, script, &[], &base, &results);
    }
    peer(&scripts, "20-build-debos.sh", &["debos-bench"], &base, &results);
    peer(&scripts, "21-build-mkosi.sh", &["mkosi-bench"], &base, &results);
    let mut runs: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    let lines = std::fs::read_to_string(&results).unwrap_or_else(|error| {
        eprintln!("no results of the peers in {}: {error}", results.display());
        String::new()
    });
    for line in lines.lines().skip(1) {
        match parse(line) {
            Some((label, "0", run)) => runs.entry(label.to_owned()).or_default().push(run),
            Some((label, code, _)) => {
                eprintln!("{label} ended with exit code {code}; see {}", base.join("logs").display());
            }
            None => eprintln!("not a line of results in {}: {line:?}", results.display()),
        }
    }
    runs.into_iter().map(|(label, runs)| (label, median(runs))).collect()
}

/// Label, exit code and run of a line of the results; none of one that was cut off.
fn parse(line: &str) -> Option<(&str, &str, Run)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some((fields[0], fields.get(7)?, Run { wall: number(2)?, cpu: number(5)? }))
}

/// A copy of the scripts in which the peers can write: they build in a copy of what lies beside them, with its modes.
fn writable(scripts: &Path, base: &Path) -> PathBuf {
    let copy = base.join("scripts");
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("rm").arg("-rf").arg(&copy));
    run(Command::new("cp").arg("-a").arg(scripts).arg(&copy));
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&copy));
    copy
}

fn peer(scripts: &Path, script: &str, arguments: &[&str], base: &Path, results: &Path) {
    let mut command = Command::new("bash");
    command.arg(scripts.join(script)).args(arguments).env("PEERS", base).env("RES", results);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    if !status.success() {
        eprintln!("{script} failed ({status})");
    }
}
