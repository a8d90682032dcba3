//! Container images become bootable disks: built by an ordinary user, booted with each firmware, updated and rolled back.

use particle_vm_tests::image::{Image, bootable};
use particle_vm_tests::{Fault, Mirror, Place, Upstream, base_image, leftovers, measured, not_run, place};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A whole build and its tests on each firmware under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(2 * 3600);

/// A build that is refused.
const REFUSED: Duration = Duration::from_secs(600);

const STAGES: &str = include_str!("../fixtures/containers/stages.yml");
const TESTS: &str = include_str!("../fixtures/containers/update.yml");

/// Build a recipe with `lines` on top of an image, and run its tests.
fn build_and_test(name: &str, reference: &str, lines: &str, firmwares: &[&str]) -> Value {
    let place = Place::new();
    let recipe = place.write(&format!("{name}.yml"), format!("name: {name}\nbase-image: {reference}\n{lines}"));
    let outcome = place.start_build(&recipe, &["--test"]).finish(BUILD).exits(0);
    for firmware in firmwares {
        let title = format!("boot {name}.raw on {firmware}: ");
        assert!(outcome.stderr.contains(&title), "{}", outcome.stderr);
    }
    measured(name, "seconds to build and test", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
    place.manifest()
}

/// The same with an image that becomes a deployment.
fn deploy_and_test(name: &str, lines: &str, firmwares: &[&str]) {
    let manifest = build_and_test(name, base_image(), lines, firmwares);
    assert!(manifest["packages"]["ostree:amd64"].is_string(), "{}", manifest["packages"]);
}

/// The recipe that ships, with the container where the tests have it.
#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn particle_os_disk() {
    let text = std::fs::read_to_string(place::root().join("recipes/particle-os-disk.yml")).unwrap();
    let (name, rest) =
        text.split_once("base-image: oci-archive:../out/particle-os-base/particle-os-base.oci.tar").unwrap();
    assert!(name.contains("name: particle-os-disk\n"));
    deploy_and_test("particle-os-disk", rest, &["BIOS", "UEFI"]);
}

/// Debian as most containers are made of it, without anything to boot.
const SLIM: &str = "name: slim
stages: [{ type: debootstrap, options: { suite: trixie, variant: minbase } }]
output: { formats: [oci] }
";

/// What makes a system of it.
const SYSTEM: &str = "stages:
  - { type: sources, options: { sources: [{ name: debian, suites: [trixie] }] } }
  - { type: apt, options: { packages: [systemd-sysv, dbus, e2fsprogs] } }
  - { type: kernel, options: { package: linux-image-cloud-amd64, cmdline: [console=ttyS0] } }
  - { type: bootloader, options: { firmware: [bios, uefi] } }
disk: { size: 3GiB }
tests:
  - name: it came up
    timeout: 10min
    run: systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager
  - { name: the root is no deployment, run: test ! -e /run/ostree-booted && findmnt --noheadings --output FSTYPE /, expect: ext4 }
";

#[test]
#[ignore = "takes two builds and two boots: make check-all"]
fn a_container_without_a_kernel_becomes_a_system_by_stages() {
    let place = Place::new();
    let recipe = place.write("slim.yml", SLIM);
    let built = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("slim", "seconds to build", built.took.as_secs_f64());
    let reference = format!("oci:{}", place.out().join("slim.oci").display());
    let manifest = build_and_test("plain", &reference, SYSTEM, &["BIOS", "UEFI"]);
    assert!(manifest["packages"]["systemd-sysv:amd64"].is_string(), "{}", manifest["packages"]);
}

#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn a_deployment_with_grub_is_updated_and_rolled_back() {
    deploy_and_test("grub", &format!("{STAGES}{TESTS}"), &["BIOS", "UEFI"]);
}

#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn a_deployment_with_systemd_boot_is_updated_and_rolled_back() {
    let bootloader = "  - type: bootloader\n    options: { type: systemd-boot, firmware: [uefi] }\n";
    deploy_and_test("systemd-boot", &format!("{STAGES}{bootloader}{TESTS}"), &["UEFI"]);
}

/// The tree of the base image as a commit of the build's own, which becomes the system. It follows one of another repository.
const COMMITTED: &str = "engine: plain
stages:
  - type: ostree.remotes
    options: { remotes: [{ name: updates, url: 'http://127.0.0.1:8080/', unsigned: true }] }
  - { type: ostree.pull, options: { path: before, refs: [particle/before] } }
  - { type: ostree.commit, options: { ref: particle/test, version: '1.0', parent: particle/before } }
  - { type: ostree.deploy, options: { ref: particle/test, stateroot: particle, remote: updates } }
  - { type: hostname, options: { hostname: committed } }
  - { type: kernel, options: { cmdline: [console=ttyS0] } }
disk: { size: 4GiB }
output: { formats: [raw, ostree-repo] }
";

/// What was committed elsewhere becomes a system by itself, from a server, `URL`. It has its remote from the commit.
const PULLED: &str = "stages:
  - { type: ostree.init, options: { mode: bare } }
  - { type: ostree.config, options: { set: { core.min-free-space-percent: '1' } } }
  - { type: ostree.pull, options: { url: 'URL', refs: [particle/test], unsigned: true } }
  - { type: ostree.deploy, options: { ref: particle/test, remote: updates } }
  - { type: hostname, options: { hostname: committed } }
  - { type: kernel, options: { cmdline: [console=ttyS0] } }
  - { type: bootloader, options: { type: systemd-boot } }
disk: { size: 6GiB }
";

/// What both have to tell.
const DEPLOYED: &str = "tests:
  - name: it came up
    timeout: 10min
    run: systemctl is-system-running --wait && hostname
    expect: committed
    diag: systemctl --failed --no-pager; ostree admin status
  - { name: its version, run: ostree admin status, expect: 'Version: 1.0' }
  - { name: its origin, run: ostree admin status, expect: 'origin refspec: updates:particle/test' }
  - { name: the rest is read-only, run: '! touch /usr/x && touch /etc/x /var/x' }
";

/// The next version, published in the system itself by `SERVE`, where its remote is.
const UPGRADED: &str = "  - name: it is upgraded from its remote
    timeout: 40min
    run: |
      set -e
      mkdir -p /var/tmp/new/usr/share
      echo next > /var/tmp/new/usr/share/particle-update
      booted=$(ostree admin status | sed -n 's/^\\* [^ ]* \\([0-9a-f]*\\)\\.[0-9]*.*/\\1/p')
      ostree init --repo=/var/tmp/repo --mode=archive
      ostree pull-local --repo=/var/tmp/repo /sysroot/ostree/repo \"$booted\"
      ostree commit --repo=/var/tmp/repo --no-bindings --bootable --branch=particle/test --parent=\"$booted\" \\
          --tree=ref=\"$booted\" --tree=dir=/var/tmp/new --add-metadata-string=version=1.1
SERVE      for attempt in 1 2 3 4 5; do
          ostree admin upgrade && break
          sleep 2
      done
      rm -rf /var/tmp/repo /var/tmp/new
      ostree admin status
    expect: 'Version: 1.1'
    diag: ostree admin status; df -h; journalctl --boot --no-pager | tail -n 40
  - name: the next version boots
    reboot: true
    timeout: 10min
    run: systemctl is-system-running --wait && cat /usr/share/particle-update
    expect: next
    diag: ostree admin status; systemctl --failed --no-pager; journalctl --boot=-1 --no-pager | tail -n 60
  - { name: it is the one that was published, run: \"ostree admin status | grep -A 1 '^\\\\*'\", expect: 'Version: 1.1' }
";

/// The lines of the other tests that serve a repository in the booted system.
fn serving() -> &'static str {
    let (_, rest) = TESTS.split_once("      cat > /run/serve").unwrap();
    let end = rest.find("--listen=127.0.0.1:8080 /run/serve\n").unwrap() + "--listen=127.0.0.1:8080 /run/serve\n".len();
    let begin = TESTS.len() - rest.len() - "      cat > /run/serve".len();
    &TESTS[begin..TESTS.len() - rest.len() + end]
}

/// `ostree` of this machine.
fn ostree(arguments: &[&str]) -> String {
    let output = Command::new("ostree").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit of nothing; its checksum.
fn before(repo: &Path) -> String {
    let at = format!("--repo={}", repo.display());
    ostree(&["init", &at, "--mode=archive"]);
    let empty = tempfile::tempdir().unwrap();
    let tree = format!("--tree=dir={}", empty.path().display());
    ostree(&["commit", &at, "--branch=particle/before", "--owner-uid=0", "--owner-gid=0", &tree])
}

/// A commit is signed, published and deployed in one build; another build deploys what was published, and the system that
/// it makes is upgraded from there.
#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn commits_are_deployed() {
    let place = Place::new();
    let key = place.path().join("key.pem");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status().unwrap();
    assert!(made.success());
    let recipe =
        place.write("commit.yml", format!("name: commit\nbase-image: {}\n{COMMITTED}{DEPLOYED}", base_image()));
    let parent = before(&recipe.with_file_name("before"));
    let sign = ["--test", "--sign", key.to_str().unwrap()];
    let outcome = place.start_build(&recipe, &sign).finish(BUILD).exits(0);
    measured("commit", "seconds to build and test", outcome.took.as_secs_f64());
    let manifest = place.manifest();
    let published = manifest["outputs"].as_array().unwrap().iter().find_map(|output| output["commit"].as_object());
    assert_eq!(published.unwrap()["signed_by"].as_str().map(str::len), Some(44), "{manifest}");
    let checksum = published.unwrap()["checksum"].as_str().unwrap();
    let repo = place.path().join("published");
    std::fs::rename(place.out().join("commit.repo"), &repo).unwrap();
    assert!(repo.join(format!("objects/{}/{}.commitmeta", &checksum[..2], &checksum[2..])).is_file());
    assert_eq!(ostree(&["rev-parse", &format!("--repo={}", repo.display()), "particle/test^"]), parent);

    let server = Mirror::of(Upstream::Folder(repo), Fault::None);
    let text = format!("name: pulled\n{PULLED}{DEPLOYED}{UPGRADED}");
    let recipe = place.write("pulled.yml", text.replace("URL", &server.url()).replace("SERVE", serving()));
    let outcome = place.start_build(&recipe, &["--test", "--replace"]).finish(BUILD).exits(0);
    assert!(outcome.stderr.contains("boot pulled.raw on UEFI: "), "{}", outcome.stderr);
    measured("pulled", "seconds to build and test", outcome.took.as_secs_f64());
    measured("pulled", "files from the server", server.requests().len());
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
}

/// bootupd and what it installs, in an image that has neither. GRUB reads the entries of OSTree from 2.14 on.
const BOOTUPD: &str = "engine: plain
stages:
  # The mirror may be reached then.
  - { type: sources, options: { keep: true, sources: [{ name: forky, suites: [forky] }] } }
  - type: files
    options:
      files:
        /etc/apt/preferences.d/grub:
          content: |
            Package: grub-common grub2-common grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-unsigned libefiboot1t64 libefivar1t64
            Pin: release n=forky
            Pin-Priority: 990
  - { type: apt, options: { packages: [grub-pc-bin, grub-efi-amd64-bin, grub2-common, shim-unsigned] } }
  - { type: copy, options: { source: bootupd, destination: /usr/libexec/bootupd, mode: '0755' } }
  - { type: run, options: { script: ln -s ../libexec/bootupd /usr/bin/bootupctl } }
  - type: bootupd
  - type: bootc
output: { formats: [oci-archive] }
";

/// What bootupd has to tell in a system that it has made bootable.
const INSTALLED_BY_BOOTUPD: &str = "tests:
  - name: it came up
    timeout: 10min
    run: systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager
  - { name: bootupd knows BIOS, run: bootupctl status | grep -A 2 'Component BIOS', expect: At latest version }
  - { name: bootupd knows UEFI, run: bootupctl status | grep -A 2 'Component EFI', expect: At latest version }
  - { name: what it has installed is as it was, run: bootupctl validate, expect: 'Validated: EFI' }
";

/// `PARTICLE_VM_TEST_BOOTUPD` names the program, which Debian has no package of; `make check-all` makes it of its crate.
#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn bootupd_installs_the_bootloader_of_an_image_that_has_it() {
    let Some(program) = std::env::var_os("PARTICLE_VM_TEST_BOOTUPD") else {
        not_run("bootupd", "PARTICLE_VM_TEST_BOOTUPD names no program");
        return;
    };
    let place = Place::new();
    let recipe = place.write("updated.yml", format!("name: updated\nbase-image: {}\n{BOOTUPD}", base_image()));
    std::fs::copy(program, recipe.with_file_name("bootupd")).unwrap();
    let built = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("bootupd", "seconds to build the image", built.took.as_secs_f64());
    let reference = format!("oci-archive:{}", place.out().join("updated.oci.tar").display());
    build_and_test("bootupd", &reference, INSTALLED_BY_BOOTUPD, &["BIOS", "UEFI"]);
}

/// What an installed system of an image with bootc has to tell of itself.
const INSTALLED: &str = "stages:
  - { type: hostname, options: { hostname: installed } }
  - { type: users, options: { users: { admin: { password: particle } } } }
tests:
  - name: it came up
    timeout: 10min
    run: systemctl is-system-running --wait && hostname
    expect: installed
    diag: systemctl --failed --no-pager; journalctl -b --priority=warning --no-pager
  - { name: bootc knows the image, timeout: 5min, run: bootc status --format=humanreadable, expect: 'Booted image: oci-archive:' }
  - { name: the machine's own is there, run: su --login admin --command pwd, expect: /home/admin }
  - { name: the rest is read-only, run: '! touch /usr/x && touch /etc/x /var/x' }
";

/// An installation that a stage asks for, on a disk whose root has an option.
const ASKED_FOR: &str = "stages:
  - type: bootc.install
    options: { target_imgref: 'registry.example.org/os:13', kernel_args: [particle.asked=1] }
disk:
  size: 6GiB
  partitions:
    - { kind: bios-boot, size: 1MiB }
    - { kind: esp, size: 512MiB }
    - { kind: root, filesystem: ext4, grow: true, options: [noatime] }
tests:
  - name: it came up
    timeout: 10min
    run: systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager; journalctl -b --priority=warning --no-pager
  - { name: bootc knows where updates are, timeout: 5min, run: bootc status --format=humanreadable, expect: 'registry.example.org/os:13' }
  - { name: the kernel is told so, run: cat /proc/cmdline, expect: particle.asked=1 }
  - { name: and of the root's option, run: cat /proc/cmdline, expect: rootflags=noatime }
  - { name: which it has, run: 'findmnt --noheadings --output OPTIONS /sysroot', expect: noatime }
";

/// Archives of images with bootc in them, which Debian has no package of: `PARTICLE_VM_BOOTC_IMAGE` has their paths, with
/// colons between them.
#[test]
fn an_image_with_bootc_installs_itself() {
    let Some(archives) = std::env::var_os("PARTICLE_VM_BOOTC_IMAGE") else {
        not_run("bootc", "PARTICLE_VM_BOOTC_IMAGE names no archive");
        return;
    };
    for (number, archive) in std::env::split_paths(&archives).enumerate() {
        let reference = format!("oci-archive:{}", archive.display());
        let place = Place::new();
        let inspected = place.start(&["inspect", "--json", &reference]).finish(REFUSED).exits(0);
        let report: Value = serde_json::from_str(&inspected.stdout).unwrap();
        let composefs = report["engine"]["backend"] == "composefs";
        let firmwares: &[&str] = if composefs { &["UEFI"] } else { &["BIOS", "UEFI"] };
        let name = format!("bootc-{number}");
        println!("{name}: {} with {}", archive.display(), report["engine"]["backend"]);
        build_and_test(&name, &reference, &format!("engine: bootc\n{INSTALLED}"), firmwares);
        // A unified kernel cannot be told anything.
        if report["kernels"][0]["uki"].is_null() {
            build_and_test(&format!("{name}-asked-for"), &reference, ASKED_FOR, firmwares);
        }
    }
}

#[test]
#[ignore = "takes the build of a base image and several boots: make check-all"]
fn further_partitions_are_mounted_in_a_deployment() {
    let disk = "disk:
  size: 6GiB
  partitions:
    - { kind: bios-boot, size: 1MiB }
    - { kind: boot, size: 512MiB }
    - { kind: root, size: 3GiB, options: [noatime, data=journal] }
    - { kind: home, grow: true }
    - { kind: linux, label: data, mountpoint: /var/lib/data, size: 512MiB }
";
    let lines = format!("{STAGES}  - type: bootloader\n    options: {{ firmware: [bios] }}\n{disk}");
    let tests = "tests:
  - name: each is in its place
    run: findmnt --noheadings --output TARGET,SOURCE && test -e /var/home/deb/.ssh/authorized_keys
    expect: /var/lib/data
  - name: the root has its options
    run: findmnt --noheadings --output OPTIONS /sysroot
    expect: noatime
  - name: also those of its first mount
    run: findmnt --noheadings --output OPTIONS /sysroot
    expect: data=journal
  - name: boot has the entries
    run: findmnt --noheadings --mountpoint /boot && ls /boot/loader/entries && systemctl is-system-running --wait
    expect: running
    diag: systemctl --failed --no-pager; cat /etc/fstab; findmnt
";
    deploy_and_test("partitions", &format!("{lines}{tests}"), &["BIOS"]);
}

/// An image layout whose layers are `layers`, with a label for the engine, in the folder of a place's recipe.
fn layout(place: &Place, layers: &[Vec<u8>], labels: &Value) {
    let folder = place.path().join("recipe/image");
    let _ = std::fs::remove_dir_all(&folder);
    Image::labelled("amd64", layers, labels).write_layout(&folder, "latest");
}

/// An archive with one entry whose name is written as it is.
fn entry(name: &str, kind: tar::EntryType, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.write_all(content).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// What an image is, its layers, and what is said about it.
type Refused<'a> = (&'a str, Vec<Vec<u8>>, &'a [&'a str]);

/// Each kind of layer that no image may have, and of image that no disk can be made of: told by name, and nothing stays.
#[test]
fn images_that_are_none_are_refused() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let place = Place::new();
    let bootc = serde_json::json!({ "containers.bootc": "1" });
    let plain = serde_json::json!({});
    let file = |name: &str| entry(name, Regular, "", b"x");
    let kernel = |release: &str| file(&format!("usr/lib/modules/{release}/vmlinuz"));
    let cases: [Refused; 7] = [
        ("a name that leads out", vec![file("../x")], &["the name \"../x\" has `..` in it"]),
        ("a hard link out", vec![entry("x", Link, "../../etc/shadow", b"")], &["../../etc/shadow", "has `..` in it"]),
        (
            "through a link",
            vec![[entry("a", Symlink, "/etc", b""), file("a/x")].concat()],
            &["/a/x is to lie beneath /a, which is a symlink"],
        ),
        (
            "no kernel",
            vec![entry("usr/", Directory, "", b"")],
            &["warning: ", "is tried for the `engine` of the recipe", "the image has no kernel"],
        ),
        ("no initramfs", vec![kernel("6.1")], &["no initramfs", "/usr/lib/modules/6.1/initramfs.img"]),
        ("two kernels", vec![[kernel("6.1"), kernel("6.2")].concat()], &["the image has 2 kernels (6.1, 6.2)"]),
        ("both configurations", vec![[file("etc/a"), file("usr/etc/a")].concat()], &["both /etc and /usr/etc"]),
    ];
    for (name, layers, says) in &cases {
        println!("{name}");
        layout(&place, layers, &bootc);
        refused(&place, "base-image: oci:image\nengine: native-ostree\ndisk: { size: 1GiB }\n", says);
    }
    for (name, layers, says) in &cases[..3] {
        println!("{name}, plain");
        layout(&place, layers, &plain);
        let lines = "base-image: oci:image\nengine: plain\ndisk: { size: 1GiB }\nstages: [{ type: bootloader }]\n";
        refused(&place, lines, says);
    }
}

/// What `inspect` says that no engine fits is not tried, and what to change is said.
#[test]
fn an_image_that_no_engine_fits_is_refused_before_a_vm_starts() {
    let place = Place::with_empty_cache();
    let init = entry("usr/sbin/init", tar::EntryType::Regular, "", b"x");
    layout(&place, &[init], &serde_json::json!({ "containers.bootc": "1" }));
    let says = [
        "no engine makes a disk of oci:",
        "it has the label containers.bootc",
        "no-kernel: there is no kernel",
        "RUN apt-get install",
        "engine: native-ostree",
    ];
    refused(&place, "base-image: oci:image\n", &says);
    let says = [
        "no engine makes a disk of oci:",
        "the engine `bootc` is asked for",
        "no-bootc: ",
        "bootc-lacks-tools: ",
        "podman",
    ];
    refused(&place, "base-image: oci:image\nengine: bootc\n", &says);
}

/// What a stage lacks in a deployment cannot be installed there: it is told where it can be.
#[test]
fn a_stage_that_lacks_its_program_in_a_deployment_is_refused() {
    let place = Place::new();
    layout(&place, &bootable(), &serde_json::json!({ "containers.bootc": "1" }));
    let lines = "base-image: oci:image\nengine: native-ostree\ndisk: { size: 1GiB }\n\
                 stages: [{ type: keymap, options: { layout: de } }]\n";
    let says = ["there is no `console-setup`", "/usr is read-only in a deployment", "in the container image"];
    refused(&place, lines, &says);
}

fn refused(place: &Place, lines: &str, says: &[&str]) {
    let recipe: PathBuf = place.write("refused.yml", format!("name: refused\n{lines}"));
    let _outcome = place.start_build(&recipe, &[]).finish(REFUSED).exits(1).says(says);
    leftovers::no_processes(place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
    assert!(!Path::new(&place.out()).join("refused.raw").exists());
}
