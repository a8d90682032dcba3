//! The recipes that ship: each is built by an ordinary user, booted with its firmware, and looked into.

use particle_vm_tests::pty::OnTerminal;
use particle_vm_tests::{Fault, Mirror, Place, leftovers, measured, mirror, place};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A whole build and its tests on each firmware under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// One boot under emulation, with another one beside it.
const BOOT: Duration = Duration::from_secs(420);

/// Fetches the packages of the installed kernel and of the bootloaders, so that they can be installed again without a
/// network.
const FETCH: &str = r#"
  - type: run
    name: fetch packages to install again
    options:
      script: |
        apt-get update
        # The package manager also knows names that are not installed.
        names() {
            dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' "$@" | sed -n 's/^ii *//p'
        }
        mkdir -p /var/lib/again/kernel /var/lib/again/bootloader
        (cd /var/lib/again/kernel && apt-get download $(names 'linux-image-[0-9]*'))
        (cd /var/lib/again/bootloader && apt-get download $(names 'grub*' 'systemd-boot*'))
        apt-get clean
        rm -rf /var/lib/apt/lists/*
disk:"#;

/// What the booted image does with the kernel then.
const KERNEL_AGAIN: &str = "
  - name: the kernel's package is installed again
    timeout: 20min
    run: apt-get --yes install --reinstall /var/lib/again/kernel/*.deb && echo installed again
    expect: installed again
    diag: df -h; ls -lR /boot
";

/// Everything of GRUB on the disk that an update has to replace is spoilt: without it, neither firmware would come up.
const GRUB_AGAIN: &str = r#"
  - name: GRUB is installed again, over one that does not start
    timeout: 10min
    run: |
      set -e
      for file in /boot/efi/EFI/BOOT/BOOTX64.EFI /boot/efi/EFI/debian/grubx64.efi /boot/grub/i386-pc/normal.mod; do
          test -s "$file"
          echo of another version > "$file"
      done
      dd if=/dev/zero of=/dev/disk/by-partlabel/bios-boot bs=64K count=16 conv=notrunc
      apt-get --yes install --reinstall /var/lib/again/bootloader/*.deb
      cmp /usr/lib/grub/i386-pc/normal.mod /boot/grub/i386-pc/normal.mod
      dpkg --audit
      echo installed again
    expect: installed again
    diag: ls -l /var/lib/again/bootloader; ls -lR /boot/efi /boot/grub/i386-pc; cat /var/log/apt/term.log
"#;

/// systemd-boot replaces older versions of itself.
const SYSTEMD_BOOT_AGAIN: &str = r#"
  - name: systemd-boot is installed again, over an older one
    timeout: 10min
    run: |
      set -e
      packaged=/usr/lib/systemd/boot/efi/systemd-bootx64.efi
      # What bootctl takes before the other one.
      if test -e "$packaged.signed"; then packaged=$packaged.signed; fi
      for file in /boot/efi/EFI/BOOT/BOOTX64.EFI /boot/efi/EFI/systemd/systemd-bootx64.efi; do
          cmp "$file" "$packaged"
          sed -i 's/LoaderInfo: systemd-boot 2/LoaderInfo: systemd-boot 1/' "$file"
          if cmp "$file" "$packaged"; then exit 1; fi
      done
      apt-get --yes install --reinstall /var/lib/again/bootloader/*.deb
      cmp /boot/efi/EFI/BOOT/BOOTX64.EFI "$packaged"
      cmp /boot/efi/EFI/systemd/systemd-bootx64.efi "$packaged"
      dpkg --audit
      echo installed again
    expect: installed again
    diag: ls -l /var/lib/again/bootloader; bootctl --no-pager status; cat /var/log/apt/term.log
"#;

/// The proof that it is whole.
const COMES_UP: &str = "
  - name: the machine comes up with it
    reboot: true
    timeout: 10min
    run: systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager
";

/// Build `recipes/NAME.yml` as it ships and run its tests on `firmwares`.
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
    let manifest = place.checked_manifest();
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

/// A recipe that ships, with a stage that fetches packages, and further tests.
fn with_updates(place: &Place, name: &str, tests: &str) -> PathBuf {
    let recipe = std::fs::read_to_string(place::root().join("recipes").join(format!("{name}.yml"))).unwrap();
    let changed = recipe.replacen("\ndisk:", FETCH, 1);
    assert_ne!(recipe, changed);
    assert!(changed.contains("\ntests:"));
    place.write(&format!("{name}.yml"), changed.trim_end().to_owned() + tests + COMES_UP)
}

/// Tests, the second of which fails.
const FAILING: &str = r#"
tests:
  - name: the one that passes
    run: echo passed
    expect: passed
    timeout: 5min
  - name: the one that fails
    run: echo what it says; exit 7
    expect: something else
    diag: echo what was found out
  - name: the one after it
    run: touch /never
"#;

/// `test` with tests of which one fails.
fn a_test_fails(place: &Place, recipe: &Path) {
    let text = std::fs::read_to_string(recipe).unwrap();
    let failing = place.write("failing.yml", text.split("\ntests:").next().unwrap().to_owned() + FAILING);
    let (out, work) = (place.out(), place.work());
    let arguments: [&std::ffi::OsStr; 8] = [
        "test".as_ref(),
        failing.as_os_str(),
        "--output".as_ref(),
        out.as_os_str(),
        "--firmware".as_ref(),
        "uefi".as_ref(),
        "--work-dir".as_ref(),
        work.as_os_str(),
    ];
    let outcome = place.start(&arguments).finish(BUILD).exits(1);
    measured("a test that fails", "seconds", outcome.took.as_secs_f64());
    let _ = outcome.says(&["the one that fails", "what it says", "7", "what was found out"]);
    leftovers::no_processes(place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
}

#[test]
fn minimal_debug_locale() {
    let place = Place::new();
    let manifest = build(&place, "minimal-debug-locale", &["BIOS", "UEFI"], &[]);
    let log = std::fs::read_to_string(place.out().join("build.log")).unwrap();
    assert!(!log.contains("cannot check its"), "{log}");
    assert!(manifest["packages"].as_object().unwrap().len() > 50, "{manifest:#}");
    let raw = std::fs::metadata(place.out().join("minimal-debug-locale.raw")).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&raw) * 512;
    measured("minimal-debug-locale", "bytes allocated by the raw image", allocated);
    assert!(allocated < raw.len(), "the raw image is not sparse");
    logs_in(&place, "minimal-debug-locale.raw");
    a_test_fails(&place, &place::root().join("recipes/minimal-debug-locale.yml"));
}

#[test]
fn simple_cli_bootable() {
    build(&Place::new(), "simple-cli-bootable", &["BIOS", "UEFI"], &[]);
}

#[test]
fn systemd_boot() {
    build(&Place::new(), "systemd-boot", &["UEFI"], &[]);
}

#[test]
#[ignore = "makes an initramfs in an emulated system: make check-all"]
fn an_installed_system_updates_its_kernel_and_grub() {
    let place = Place::new();
    // Both firmwares start the same kernel and read the same menu: to make its initramfs on one of them is enough.
    let kernel_again = KERNEL_AGAIN.replacen("run: ", "run: test -e /sys/firmware/efi || ", 1);
    let recipe = with_updates(&place, "simple-cli-bootable", &[&kernel_again, GRUB_AGAIN].concat());
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
#[ignore = "makes an initramfs in an emulated system: make check-all"]
fn an_installed_system_updates_its_kernel_and_systemd_boot() {
    let place = Place::new();
    let recipe = with_updates(&place, "systemd-boot", &[KERNEL_AGAIN, SYSTEMD_BOOT_AGAIN].concat());
    build_file(&place, "systemd-boot", &recipe, &["UEFI"], &["--format", "raw"]);
}

/// Not one that ships: what the others do not use, in one build, see the recipe.
#[test]
#[ignore = "takes a quarter of an hour: make check-all"]
fn large_sectors() {
    let place = Place::new();
    let fixture = place::root().join("tests/fixtures/large-sectors");
    let folder = place.path().join("recipe");
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--no-dereference", "--no-target-directory"]).arg(fixture).arg(&folder);
    assert!(copy.status().unwrap().success());
    // Not what a checkout makes of them.
    for (file, mode) in [("site/page.html", 0o640), ("site/bin/tool", 0o750), ("site/bin", 0o755), ("set-up", 0o600)] {
        std::fs::set_permissions(folder.join(file), PermissionsExt::from_mode(mode)).unwrap();
    }
    let key = place::root().join("appliance/keys/debian-archive-bookworm-automatic.gpg");
    place.write("archive.gpg", std::fs::read(key).unwrap());
    place.write("extra.gpg", mirror::keyring());
    let mirror = Mirror::start(Fault::None);
    let variable = format!("EXTRA={}", mirror.url());
    build_file(&place, "large-sectors", &folder.join("large-sectors.yml"), &["UEFI"], &["--set", &variable]);
    let log = std::fs::read_to_string(place.out().join("build.log")).unwrap();
    assert!(log.contains("Really?") && log.contains("nobody answered"), "{log}");
    // The raw image is what was tested; here the size of the sectors is found in another format.
    boots(&place, "large-sectors.qcow2");
}

/// GRUB for BIOS alone, which is another package than beside the one for UEFI, on the least system that it starts. UEFI
/// finds nothing on the disk.
#[test]
#[ignore = "takes long, and no recipe that ships is like that: make check-all"]
fn bios_only() {
    let place = Place::new();
    let recipe = place::root().join("tests/fixtures/bios-only.yml");
    let outcome = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("bios-only", "seconds to build", outcome.took.as_secs_f64());
    let manifest = place.manifest();
    let packages = manifest["packages"].as_object().unwrap();
    let has = |package: &str| packages.contains_key(&format!("{package}:amd64"));
    assert!(has("grub-pc") && !has("grub-efi-amd64"), "{packages:#?}");
    let image = place.out().join("bios-only.raw");
    let boot = |firmware: &str| {
        let timeout = format!("{}s", BOOT.as_secs());
        let expect = ["--firmware", firmware, "--expect", "the firmware is BIOS", "--timeout", &timeout];
        place.start(&[&["boot", image.to_str().unwrap()][..], &expect].concat()).finish(BOOT + Duration::from_secs(30))
    };
    let outcome = boot("bios").exits(0);
    measured("bios-only", "seconds until its init runs", outcome.took.as_secs_f64());
    let _ = boot("uefi").exits(1).says(&["the firmware found nothing to boot"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "bios-only.raw", "build.log", "manifest.json"]);
}
