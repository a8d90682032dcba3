//! Signals and `kill -9` in every phase: the message, the exit code, no process after five seconds, no partial output,
//! no temporary file, and a next build that succeeds.

use nix::sys::signal::Signal;
use particle_vm_tests::{Fault, Mirror, Place, Running, leftovers, measured, mirror};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(240);

/// When the build is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Boot,
    Stage,
    /// The image that was built runs, for its tests.
    Test,
    Convert,
}

impl Phase {
    /// A line that is written when the phase begins, with `--progress json`.
    fn begins_with(self) -> &'static str {
        match self {
            Self::Boot => r#""step":"start VM""#,
            Self::Stage => "in the middle of a stage",
            Self::Test => r#""step":"boot tiny.raw on UEFI"#,
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

/// Make a `qemu-img` that begins to convert and does not end: the real one needs no longer for this image than it takes
/// to send a signal.
fn slow_conversion(place: &Place) {
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = bin.join("qemu-img");
    let script = "#!/bin/bash\n\
                  [ \"$1\" = convert ] || { PATH=${PATH#*:}; exec qemu-img \"$@\"; }\n\
                  echo begun > \"${!#}\"\n\
                  exec -a qemu-img sleep 1000\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
}

const EARLIER: &[u8] = b"the output of an earlier build";

/// What makes of a recipe that of an image with a bootloader, which does nothing, and a test, which takes its time because
/// the firmware does.
fn with_test(recipe: &str) -> String {
    let bootloader = "  - type: bootloader\n    options: { type: systemd-boot, firmware: [uefi] }\ndisk:";
    let recipe = recipe.replace("\ndisk:", &format!("\n{bootloader}")).replace("[tiny]", "[tiny, apt]");
    let recipe = recipe.replace("script: \"", "script: \"mkdir -p /boot/efi/loader; echo ID=tiny > /etc/os-release; ");
    recipe.replace("partitions: [", "partitions: [ { kind: esp, size: 128MiB },")
        + "tests: [ { name: it is there, run: \"true\" } ]\n"
}

impl Scene {
    fn new(phase: Phase) -> Self {
        let place = Place::with_shared_appliance();
        let mirror = Mirror::start(Fault::None);
        place.write("tiny.gpg", mirror::keyring());
        let stage = "  - type: run\n    options: { script: \"echo in the middle of a stage; sleep ${PAUSE}\" }\n";
        let recipe = mirror.recipe(stage).replace("[raw]", "[raw, qcow2, vmdk]");
        let recipe = recipe.replace("128MiB", "256MiB") + "variables: { PAUSE: \"0\" }\n";
        let recipe = place.write("tiny.yml", if phase == Phase::Test { with_test(&recipe) } else { recipe });
        std::fs::write(place.out().join("tiny.raw"), EARLIER).unwrap();
        slow_conversion(&place);
        Self { place, recipe, _mirror: mirror }
    }

    /// Start a build that stays in `phase`, and wait until it is there.
    fn reach(&self, phase: Phase) -> Running {
        let pause = format!("PAUSE={}", if phase == Phase::Stage { 1000 } else { 0 });
        let mut command = self.place.build_command(&self.recipe, &["--progress", "json", "--set", &pause]);
        if phase == Phase::Convert {
            let path = std::env::var_os("PATH").unwrap();
            let folders = std::iter::once(self.place.path().join("bin")).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders).unwrap());
        }
        if phase == Phase::Test {
            command.arg("--test");
        }
        let mut running = Running::start(command);
        running.wait_for(phase.begins_with(), DEADLINE);
        // It begins with the files that a VM is made of.
        if phase == Phase::Boot {
            leftovers::find(&self.place, QEMU.0);
        }
        running
    }

    /// Nothing has happened to the earlier output, and nothing lies about but the log.
    fn is_clean(&self) {
        leftovers::no_processes(&self.place);
        leftovers::no_files(&self.place, &["tiny.raw"]);
        leftovers::logs(&self.place, &["tiny.log"]);
        assert_eq!(std::fs::read(self.place.out().join("tiny.raw")).unwrap(), EARLIER);
    }

    /// The next build succeeds.
    fn builds(&self) {
        let _ = self.place.start_build(&self.recipe, &[]).finish(DEADLINE).exits(0);
        self.has_built();
    }

    /// The outputs are there, and nothing else.
    fn has_built(&self) {
        leftovers::no_processes(&self.place);
        leftovers::no_files(
            &self.place,
            &["SHA256SUMS", "build.log", "manifest.json", "tiny.qcow2", "tiny.raw", "tiny.vmdk"],
        );
        leftovers::logs(&self.place, &[]);
    }
}

/// Signals to particle-vm in `phase`, one build after the other.
fn interrupted(phase: Phase) {
    let scene = Scene::new(phase);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        println!("{signal}");
        let running = scene.reach(phase);
        running.signal(signal);
        let outcome = running.finish(Duration::from_secs(10)).exits(130);
        let outcome = outcome.says(&[signal.as_str(), "particle-vm/logs/tiny.log"]);
        let what = format!("seconds from the start to the end by {signal}, {phase:?}");
        measured("interrupted", &what, outcome.took.as_secs_f64());
        scene.is_clean();
    }
    scene.builds();
}

/// `kill -9` in `phase` of the children whose command lines contain the programs, one build after the other, with what
/// is said then, beside the signal.
fn children_killed(phase: Phase, programs: &[(&str, &str)]) {
    let scene = Scene::new(phase);
    for (program, text) in programs {
        println!("{program}");
        let running = scene.reach(phase);
        // What a guest could take over; before, a program has not come that far.
        if [Phase::Stage, Phase::Test].contains(&phase) {
            leftovers::is_confined(leftovers::find(&scene.place, program));
        }
        leftovers::send(&scene.place, program, Signal::SIGKILL);
        let outcome = running.finish(Duration::from_secs(20)).exits(3).says(&[text, "SIGKILL"]);
        let what = format!("seconds from the start to the end by the end of {program}, {phase:?}");
        measured("killed", &what, outcome.took.as_secs_f64());
        scene.is_clean();
    }
    scene.builds();
}

/// `kill -9` of particle-vm itself in `phase`; the next run sweeps.
fn killed(phase: Phase) {
    let scene = Scene::new(phase);
    let running = scene.reach(phase);
    running.signal(Signal::SIGKILL);
    let _ = running.finish(Duration::from_secs(10)).exits(137);
    let since = Instant::now();
    leftovers::no_processes(&scene.place);
    measured("killed", &format!("seconds until all has ended, {phase:?}"), since.elapsed().as_secs_f64());
    // What a sweep is for. While the image is tested and converted, there is no scratch disk any more.
    if [Phase::Boot, Phase::Stage].contains(&phase) {
        let folders = leftovers::names(&scene.place.work());
        assert_eq!(folders.len(), 1, "{folders:?}");
        let folder = scene.place.work().join(&folders[0]);
        // Those of stages that have ended are in the store.
        let layers: Vec<_> = leftovers::names(&folder).into_iter().filter(|name| name.starts_with("scratch")).collect();
        let occupied: u64 =
            layers.iter().map(|name| std::fs::metadata(folder.join(name)).unwrap().blocks() * 512).sum();
        measured("killed", &format!("bytes of the scratch disk, {phase:?}"), occupied);
        assert!(!layers.is_empty(), "the scratch disk does not lie there");
    }
    assert!(leftovers::names(&scene.place.out()).len() > 1, "the image was not made in the output folder");
    assert_eq!(std::fs::read(scene.place.out().join("tiny.raw")).unwrap(), EARLIER);
    scene.builds();
}

const QEMU: (&str, &str) = ("qemu-system-x86_64", "QEMU");
const VIRTIOFSD: (&str, &str) = ("internal-virtiofsd", "the file server for");

#[test]
fn signals_at_boot() {
    interrupted(Phase::Boot);
}

#[test]
fn signals_in_a_stage() {
    interrupted(Phase::Stage);
}

/// Left to `make check-all`: the same signals as in the other phases, at the price of three builds that are tested.
#[test]
#[ignore = "takes long"]
fn signals_while_testing() {
    interrupted(Phase::Test);
}

#[test]
fn signals_while_converting() {
    interrupted(Phase::Convert);
}

#[test]
fn children_are_killed_at_boot() {
    children_killed(Phase::Boot, &[QEMU, VIRTIOFSD]);
}

/// Hundredths of seconds that a process has used the processors, see proc_pid_stat(5).
fn ticks(process: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

/// As the emulation of several processors does in one start of some thousand.
#[test]
fn qemu_stands_still_at_boot() {
    let scene = Scene::new(Phase::Boot);
    let mut running = Running::start(scene.place.build_command(&scene.recipe, &["--accel", "tcg"]));
    running.wait_for("start VM", DEADLINE);
    // Past its own start, and in that of the guest, which takes about three seconds of a processor.
    let qemu = leftovers::find(&scene.place, QEMU.0);
    while ticks(qemu) < 80 {
        std::thread::sleep(Duration::from_millis(10));
    }
    leftovers::send(&scene.place, QEMU.0, Signal::SIGSTOP);
    let outcome = running.finish(DEADLINE).exits(0).says(&["did not come up within 60 s; it is started once more"]);
    measured("QEMU that stands still", "seconds to build", outcome.took.as_secs_f64());
    scene.has_built();
}

#[test]
fn children_are_killed_in_a_stage() {
    children_killed(Phase::Stage, &[QEMU, VIRTIOFSD]);
}

#[test]
fn qemu_is_killed_while_testing() {
    children_killed(Phase::Test, &[QEMU]);
}

#[test]
fn qemu_img_is_killed_while_converting() {
    children_killed(Phase::Convert, &[("qemu-img", "qemu-img")]);
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
fn particle_vm_is_killed_while_testing() {
    killed(Phase::Test);
}

#[test]
fn particle_vm_is_killed_while_converting() {
    killed(Phase::Convert);
}
