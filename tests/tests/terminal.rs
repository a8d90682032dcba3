//! What a person at a terminal has: consoles and shells in raw mode, and bars. The terminal is given back as it was.

use nix::sys::signal::Signal;
use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags};
use particle_vm_tests::pty::{OnTerminal, SIZE};
use particle_vm_tests::{Fault, Mirror, Place, leftovers, measured, mirror};
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any of this takes under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// The key that ends an interactive machine, `Ctrl-]`.
const ESCAPE: &str = "\u{1d}";

/// An empty disk: the firmware is all that runs.
fn empty_image(place: &Place) -> PathBuf {
    let path = place.write("empty.raw", "");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
    path
}

fn boot_interactively(place: &Place) -> OnTerminal {
    let image = empty_image(place);
    OnTerminal::start(place.command(&["boot", image.to_str().unwrap(), "--interactive"]))
}

fn assert_raw(machine: &OnTerminal) {
    let raw = machine.settings();
    let not = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN;
    assert!(!raw.local_flags.intersects(not), "{raw:?}");
    assert!(!raw.input_flags.intersects(InputFlags::IXON | InputFlags::ICRNL), "{raw:?}");
    assert!(!raw.output_flags.contains(OutputFlags::OPOST), "{raw:?}");
}

#[test]
fn an_interactive_machine_gets_every_key_and_gives_the_terminal_back() {
    let place = Place::new();
    let mut machine = boot_interactively(&place);
    let before = machine.settings();
    // The firmware's own shell, since there is nothing else to boot.
    machine.wait_for("Shell> ", DEADLINE);
    assert_raw(&machine);
    // Ctrl-C is a key like others.
    machine.press("\u{3}");
    machine.press("ver\r");
    machine.wait_for("UEFI Interactive Shell", DEADLINE);
    machine.press(ESCAPE);
    let ended = machine.finish(Duration::from_secs(10)).exits(0);
    assert_eq!(ended.settings, before);
    measured("an interactive machine", "seconds from the start to the escape", ended.took.as_secs_f64());
    leftovers::no_processes(&place);
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let place = Place::new();
    let mut machine = boot_interactively(&place);
    let before = machine.settings();
    machine.wait_for("BdsDxe", DEADLINE);
    assert_raw(&machine);
    machine.signal(Signal::SIGTERM);
    let ended = machine.finish(Duration::from_secs(10)).exits(130);
    assert_eq!(ended.settings, before);
    assert!(ended.shown.contains("SIGTERM"), "{}", ended.shown);
    leftovers::no_processes(&place);
}

#[test]
fn a_failed_stage_opens_a_shell_below_the_bars() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let stage = "  - type: run\n    options: { script: \"echo here > /left; exit 7\" }\n";
    let recipe = place.write("tiny.yml", mirror.recipe(stage));
    let (recipe, out) = (recipe.to_str().unwrap(), place.out());
    let arguments = ["build", recipe, "--output", out.to_str().unwrap(), "--on-failure", "shell"];
    let mut build = OnTerminal::start(place.command(&arguments));
    let before = build.settings();
    build.wait_for("error (build):", DEADLINE);
    build.wait_for("2/2 run", DEADLINE);
    build.wait_for("# ", DEADLINE);
    assert_raw(&build);
    // What the terminal shows of the command itself is not what is waited for.
    build.press("echo $((6*7)) is $(cat /left); stty size\r");
    build.wait_for("42 is here", DEADLINE);
    build.wait_for(&format!("{} {}", SIZE.0, SIZE.1), DEADLINE);
    build.press("exit\r");
    let ended = build.finish(Duration::from_secs(20)).exits(1);
    assert_eq!(ended.settings, before);
    measured("a shell in the failed stage", "seconds", ended.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);

    // A bar is drawn again and again, with the name of its stage.
    let bars = ended.shown.split("error (build):").next().unwrap();
    assert!(bars.matches("1/2 debootstrap").count() > 3 && bars.contains("\u{1b}["), "{bars}");
    let done = bars.lines().find(|line| line.contains('✓') && line.contains("1/2 debootstrap: done in "));
    let done = done.unwrap_or_else(|| panic!("{bars}"));
    // The first build of a mirror has nothing of it in the store.
    assert!(done.contains(", fetched ") && done.contains("iB"), "{done:?}");
}

#[test]
fn a_shell_in_the_appliance() {
    let place = Place::new();
    place.write("note", "a file of the folder");
    let work = place.path().join("recipe");
    let mut shell = OnTerminal::start(place.command(&["shell", "--work", work.to_str().unwrap()]));
    let before = shell.settings();
    shell.wait_for("# ", DEADLINE);
    assert_raw(&shell);
    shell.press("cat /work/note; echo $((6*7)) | sed s/4/four/\r");
    shell.wait_for("a file of the folder", DEADLINE);
    shell.wait_for("four2", DEADLINE);
    // The recipe's folder is for reading only.
    shell.press("if touch /work/new; then echo taken; else echo re''fused; fi\r");
    shell.wait_for("refused", DEADLINE);
    shell.press("exit 3\r");
    let ended = shell.finish(Duration::from_secs(20)).exits(3);
    assert_eq!(ended.settings, before);
    assert_eq!(leftovers::names(&work), ["note"]);
    measured("a shell in the appliance", "seconds", ended.took.as_secs_f64());
    leftovers::no_processes(&place);
}
