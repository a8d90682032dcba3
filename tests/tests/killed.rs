//! Signals and `kill -9` in every phase: the message, the exit code, no process after five seconds, no partial output,
//! no temporary file, and a next build that succeeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use particle_vm_tests::{Fault, Mirror, Place, leftovers, measured, mirror};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// When the build is interrupted.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Boot,
    Stage,
    Convert,
}

impl Phase {
    /// A line that is written when the phase begins, with `--progress json`.
    fn begins_with(self) -> &'static str {
        match self {
            Self::Boot => r#""step":"start VM""#,
            Self::Stage => "in the middle of a stage",
            Self::Convert => r#""event":"step-started","step":"convert"#,
        }
    }
}

/// A place with a recipe that takes its time in each phase, and an output of an earlier build.
struct Scene {
    place: Place,
    recipe: PathBuf,
    _mirror: Mirror,
}

const EARLIER: &[u8] = b"the output of an earlier build";

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let mirror = Mirror::start(Fault::None);
        place.write("tiny.gpg", mirror::keyring());
        let stage = "  - type: run\n    options: { script: \"echo in the middle of a stage; sleep ${PAUSE}\" }\n";
        let recipe = mirror.recipe(stage).replace("[raw]", "[raw, qcow2, vmdk]");
        let recipe = recipe.replace("128MiB", "256MiB") + "variables: { PAUSE: \"0\" }\n";
        let recipe = place.write("tiny.yml", recipe);
        std::fs::write(place.out().join("tiny.raw"), EARLIER).unwrap();
        Self { place, recipe, _mirror: mirror }
    }

    fn start(&self, pause: &str) -> particle_vm_tests::Running {
        self.place.start_build(&self.recipe, &["--progress", "json", "--set", &format!("PAUSE={pause}")])
    }

    /// Nothing has happened to the earlier output, and nothing lies about.
    fn is_clean(&self) {
        leftovers::no_processes(&self.place);
        leftovers::no_files(&self.place, &["tiny.raw"]);
        assert_eq!(std::fs::read(self.place.out().join("tiny.raw")).unwrap(), EARLIER);
    }

    fn builds(&self) {
        let _ = self.start("0").finish(DEADLINE).exits(0);
        leftovers::no_processes(&self.place);
        leftovers::no_files(
            &self.place,
            &["SHA256SUMS", "build.log", "manifest.json", "tiny.qcow2", "tiny.raw", "tiny.vmdk"],
        );
    }
}

/// A signal to particle-vm in `phase`.
fn interrupted(signal: Signal, phase: Phase) {
    let scene = Scene::new();
    let mut running = scene.start(if matches!(phase, Phase::Convert) { "0" } else { "1000" });
    running.wait_for(phase.begins_with(), DEADLINE);
    running.signal(signal);
    let outcome =
        running.finish(Duration::from_secs(10)).exits(130).says(&[signal.as_str(), "particle-vm/logs/tiny.log"]);
    measured(
        "interrupted",
        &format!("seconds from the start to the end by {signal}, {phase:?}"),
        outcome.took.as_secs_f64(),
    );
    scene.is_clean();
}

/// `kill -9` of the child whose command line contains `program`, in `phase`.
fn child_killed(program: &str, phase: Phase, texts: &[&str]) {
    let scene = Scene::new();
    let mut running = scene.start(if matches!(phase, Phase::Convert) { "0" } else { "1000" });
    running.wait_for(phase.begins_with(), DEADLINE);
    let victim = wait_for_process(&scene.place, program);
    kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
    let outcome = running.finish(Duration::from_secs(20));
    assert!([1, 3].contains(&outcome.code), "{outcome:#?}");
    let _ = outcome.says(texts);
    scene.is_clean();
}

fn wait_for_process(place: &Place, program: &str) -> i32 {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let alive = leftovers::processes(place);
        if let Some((pid, _)) = alive.iter().find(|(_, command)| is_program(command, program)) {
            return *pid;
        }
        assert!(std::time::Instant::now() < end, "no {program} among {alive:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_program(command: &str, program: &str) -> bool {
    let name = command.split(' ').next().unwrap_or_default();
    Path::new(name).file_name().is_some_and(|name| name == program) || command.contains(&format!(" {program} "))
}

/// `kill -9` of particle-vm itself in `phase`; the next run sweeps.
fn killed(phase: Phase) {
    let scene = Scene::new();
    let mut running = scene.start(if matches!(phase, Phase::Convert) { "0" } else { "1000" });
    running.wait_for(phase.begins_with(), DEADLINE);
    running.signal(Signal::SIGKILL);
    let _ = running.finish(Duration::from_secs(10)).exits(137);
    leftovers::no_processes(&scene.place);
    assert_eq!(std::fs::read(scene.place.out().join("tiny.raw")).unwrap(), EARLIER);
    scene.builds();
}

#[test]
fn sigint_at_boot() {
    interrupted(Signal::SIGINT, Phase::Boot);
}

#[test]
fn sigterm_in_a_stage() {
    interrupted(Signal::SIGTERM, Phase::Stage);
}

#[test]
fn sighup_in_a_stage() {
    interrupted(Signal::SIGHUP, Phase::Stage);
}

#[test]
fn sigint_in_a_stage() {
    interrupted(Signal::SIGINT, Phase::Stage);
}

#[test]
fn sigint_while_converting() {
    interrupted(Signal::SIGINT, Phase::Convert);
}

#[test]
fn sigterm_at_boot() {
    interrupted(Signal::SIGTERM, Phase::Boot);
}

#[test]
fn sigterm_while_converting() {
    interrupted(Signal::SIGTERM, Phase::Convert);
}

#[test]
fn sighup_while_converting() {
    interrupted(Signal::SIGHUP, Phase::Convert);
}

#[test]
fn qemu_is_killed_at_boot() {
    child_killed("qemu-system-x86_64", Phase::Boot, &["QEMU"]);
}

#[test]
fn qemu_is_killed_in_a_stage() {
    child_killed("qemu-system-x86_64", Phase::Stage, &["QEMU"]);
}

#[test]
fn virtiofsd_is_killed_at_boot() {
    child_killed("internal-virtiofsd", Phase::Boot, &["the file server for"]);
}

#[test]
fn virtiofsd_is_killed_in_a_stage() {
    child_killed("internal-virtiofsd", Phase::Stage, &["the file server for"]);
}

#[test]
fn qemu_img_is_killed_while_converting() {
    child_killed("qemu-img", Phase::Convert, &["qemu-img"]);
}

#[test]
fn particle_vm_is_killed_at_boot() {
    killed(Phase::Boot);
}

#[test]
fn particle_vm_is_killed_in_a_stage() {
    killed(Phase::Stage);
}

#[test]
fn particle_vm_is_killed_while_converting() {
    killed(Phase::Convert);
}
