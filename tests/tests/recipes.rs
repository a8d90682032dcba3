//! The recipes that ship: each is built by an ordinary user, booted with its firmware, and looked into.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

use particle_vm_tests::pty::OnTerminal;
use particle_vm_tests::{Place, leftovers, measured, place};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A whole build and its tests on each firmware under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// One boot under emulation, with another one beside it.
const BOOT: Duration = Duration::from_secs(420);

/// Fetches the package of the installed kernel, so that it can be installed again without a network.
const FETCH_KERNEL: &str = r#"
  - type: run
    name: fetch the kernel's package
    options:
      script: |
        apt-get update
        mkdir /var/lib/kernel-package
        cd /var/lib/kernel-package
        # The package manager also knows names that are not installed.
        packages=$(dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' 'linux-image-[0-9]*')
        apt-get download $(echo "$packages" | sed -n 's/^ii *//p')
        apt-get clean
        rm -rf /var/lib/apt/lists/*
disk:"#;

/// What the booted image does then.
const KERNEL_UPDATE: &str = r#"
  - name: the kernel's package is installed again
    timeout: 20min
    run: dpkg --install /var/lib/kernel-package/*.deb && echo installed again
    expect: installed again
    diag: df -h; ls -lR /boot
  - name: the machine comes up with it
    reboot: true
    timeout: 10min
    run: systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager
"#;

/// Build `recipes/NAME.yml` and run its tests on `firmwares`.
fn build(place: &Place, name: &str, firmwares: &[&str], arguments: &[&str]) -> serde_json::Value {
    let recipe = place::root().join("recipes").join(format!("{name}.yml"));
    build_file(place, name, &recipe, firmwares, arguments)
}

fn build_file(place: &Place, name: &str, recipe: &Path, firmwares: &[&str], arguments: &[&str]) -> serde_json::Value {
    let outcome = place.start_build(recipe, &[&["--test"], arguments].concat()).finish(BUILD).exits(0);
    let boots = outcome.stderr.lines().filter(|line| line.starts_with("boot ") && line.contains(": done in "));
    let boots: Vec<_> = boots.collect();
    assert_eq!(boots.len(), firmwares.len(), "{boots:#?}");
    for firmware in firmwares {
        let title = format!("boot {name}.raw on {firmware}: ");
        assert!(boots.iter().any(|line| line.starts_with(&title)), "{boots:#?}");
    }
    measured(name, "seconds to build and test", outcome.took.as_secs_f64());
    println!("{}", outcome.stderr);
    leftovers::no_processes(place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
    let sums = Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(place.out()).output();
    let sums = sums.unwrap();
    assert!(sums.status.success(), "{}", String::from_utf8_lossy(&sums.stdout));
    let manifest = std::fs::read(place.out().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    measured(name, "timings", &manifest["timings"]);
    manifest
}

/// Boot an output and wait for its login prompt.
fn boots(place: &Place, file: &str) {
    let image = place.out().join(file);
    let before = std::fs::metadata(&image).and_then(|data| data.modified()).unwrap();
    let timeout = format!("{}s", BOOT.as_secs());
    let arguments = ["boot", image.to_str().unwrap(), "--expect", "login:", "--timeout", &timeout];
    let outcome = place.start(&arguments).finish(BOOT + Duration::from_secs(30)).exits(0);
    measured(file, "seconds to the login prompt", outcome.took.as_secs_f64());
    let after = std::fs::metadata(&image).and_then(|data| data.modified()).unwrap();
    assert_eq!(after, before, "the image was written to");
    leftovers::no_processes(place);
}

/// A person logs in at the console of an image, as the user `debug`.
fn logs_in(place: &Place, file: &str) {
    let image = place.out().join(file);
    let mut console = OnTerminal::start(place.command(&["boot", image.to_str().unwrap(), "--interactive"]));
    let before = console.settings();
    console.wait_for("login: ", BOOT);
    console.press("debug\r");
    // In the language of the image.
    console.wait_for("Passwor", BOOT);
    console.wait_for(": ", BOOT);
    console.press("debug\r");
    console.wait_for("$ ", BOOT);
    console.press("echo $((6*7)) on $(tty)\r");
    console.wait_for("42 on /dev/ttyS0", BOOT);
    console.press("\u{1d}");
    let ended = console.finish(Duration::from_secs(30)).exits(0);
    assert_eq!(ended.settings, before, "the terminal was not given back");
    measured(file, "seconds until a person has logged in", ended.took.as_secs_f64());
    leftovers::no_processes(place);
}

/// A recipe that ships, with a stage that fetches the kernel's package, and tests that install it again and restart.
fn with_kernel_update(place: &Place, name: &str) -> PathBuf {
    let recipe = std::fs::read_to_string(place::root().join("recipes").join(format!("{name}.yml"))).unwrap();
    let changed = recipe.replacen("\ndisk:", FETCH_KERNEL, 1);
    assert_ne!(recipe, changed);
    assert!(changed.contains("\ntests:"));
    place.write(&format!("{name}.yml"), changed.trim_end().to_owned() + KERNEL_UPDATE)
}

#[test]
fn minimal_debug_locale() {
    let place = Place::new();
    let manifest = build(&place, "minimal-debug-locale", &["BIOS", "UEFI"], &[]);
    assert!(manifest["packages"].as_object().unwrap().len() > 50, "{manifest:#}");
    let raw = std::fs::metadata(place.out().join("minimal-debug-locale.raw")).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&raw) * 512;
    measured("minimal-debug-locale", "bytes allocated by the raw image", allocated);
    assert!(allocated < raw.len(), "the raw image is not sparse");
    logs_in(&place, "minimal-debug-locale.raw");
}

#[test]
fn simple_cli_bootable() {
    let place = Place::new();
    let recipe = with_kernel_update(&place, "simple-cli-bootable");
    build_file(&place, "simple-cli-bootable", &recipe, &["BIOS", "UEFI"], &["--format", "raw"]);
}

#[test]
fn qemu_formats() {
    let place = Place::new();
    build(&place, "qemu-formats", &["BIOS", "UEFI"], &[]);
    // The raw image is what was tested.
    for format in ["qcow2", "vmdk", "vdi", "vhd", "vhdx"] {
        boots(&place, &format!("qemu-formats.{format}"));
    }
}

#[test]
fn systemd_boot() {
    let place = Place::new();
    let recipe = with_kernel_update(&place, "systemd-boot");
    build_file(&place, "systemd-boot", &recipe, &["UEFI"], &["--format", "raw"]);
}
