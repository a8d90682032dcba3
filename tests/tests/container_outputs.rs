//! Containers and repositories: made by an ordinary user, and looked into with the tools that others have for them.

use particle_vm_tests::{Fault, Mirror, Place, Running, base_image, leftovers, measured, mirror};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A whole build under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// The base image once more, with a commit, in every form.
const ALL: &str = "engine: plain
stages:
  - type: ostree.remotes
    options:
      remotes: [{ name: updates, url: 'https://updates.example.org/repo', branches: [particle/13/amd64], unsigned: true }]
  - type: ostree.commit
    options: { ref: particle/13/amd64, version: '13.1', subject: first, metadata: { purpose: test } }
output:
  formats: [oci-archive, oci, docker-archive, ostree-repo, tar]
  container: { tag: 'particle-os-base:13' }
";

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(arguments: &[&str]) -> Value {
    serde_json::from_str(&output("skopeo", arguments)).unwrap()
}

/// The names in the archive of the tree.
fn names(tar: &Path) -> Vec<String> {
    output("tar", &["--list", "--file", tar.to_str().unwrap()]).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "takes the build of a base image: make check-all"]
fn a_bootable_container_is_what_others_expect() {
    let place = Place::new();
    let base = skopeo(&["inspect", "--config", base_image()]);
    assert_eq!(base["config"]["Labels"]["containers.bootc"], "1", "{base}");
    let all = format!("name: particle-os-base\nbase-image: {}\n{ALL}", base_image());
    let recipe = place.write("particle-os-base.yml", all);
    let outcome = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("containers", "seconds to build", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    let at = |name: &str| place.out().join(format!("particle-os-base.{name}")).display().to_string();

    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(place.out());
    assert!(sums.status().unwrap().success());
    let manifest = place.manifest();
    assert!(manifest["packages"]["ostree:amd64"].is_string(), "the packages are those of the tree");

    for image in [
        format!("oci-archive:{}:particle-os-base:13", at("oci.tar")),
        format!("oci:{}:particle-os-base:13", at("oci")),
        format!("docker-archive:{}", at("docker.tar")),
    ] {
        let config = skopeo(&["inspect", "--config", &image]);
        assert_eq!(config["config"]["Labels"]["containers.bootc"], "1", "{image}");
        assert_eq!(config["config"]["Cmd"][0], "/sbin/init", "{image}");
        let diff_id = output("sha256sum", &[&at("tar")]);
        let diff_id = format!("sha256:{}", diff_id.split(' ').next().unwrap());
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([diff_id]), "{image}");
    }
    let digest = skopeo(&["inspect", &format!("oci:{}:particle-os-base:13", at("oci"))])["Digest"].clone();
    assert_eq!(manifest["outputs"][0]["container"]["digest"], digest);

    let names = names(Path::new(&at("tar")));
    for suffix in ["/vmlinuz", "/initramfs.img"] {
        let there = names.iter().filter(|name| name.starts_with("usr/lib/modules/") && name.ends_with(suffix));
        assert_eq!(there.count(), 1, "{suffix}");
    }
    for name in ["boot/", "sysroot/", "ostree", "etc/", "usr/lib/sysimage/dpkg/status", "var/lib/dpkg", "var/tmp/"] {
        assert!(names.iter().any(|own| own == name), "{name}");
    }
    for folder in ["boot/", "dev/", "run/", "tmp/", "usr/etc/"] {
        assert!(!names.iter().any(|name| name.starts_with(folder) && name.len() > folder.len()), "{folder}");
    }

    let repo = format!("--repo={}", at("repo"));
    output("ostree", &["fsck", &repo]);
    let commit = output("ostree", &["rev-parse", &repo, "particle/13/amd64"]);
    assert_eq!(manifest["outputs"][3]["commit"]["checksum"], commit.trim());
    assert_eq!(output("ostree", &["show", &repo, "--print-metadata-key=version", commit.trim()]).trim(), "'13.1'");
    assert!(output("ostree", &["show", &repo, "--print-metadata-key=ostree.bootable", commit.trim()]).contains("true"));
    let remote = output("ostree", &["cat", &repo, commit.trim(), "/usr/etc/ostree/remotes.d/updates.conf"]);
    assert!(remote.contains("url=https://updates.example.org/repo"), "{remote}");
}

/// The same recipe at the same date is the same image, to the byte; at another date it is another.
#[test]
fn a_container_that_is_built_again_is_the_same() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let recipe = mirror.recipe("  - { type: run, options: { script: 'echo made > /made' } }\n");
    let (recipe, _) = recipe.split_once("disk:").unwrap();
    let recipe = place.write("tiny.yml", format!("{recipe}output: {{ formats: [oci-archive] }}\n"));
    let build = |date: &str| {
        let mut command = place.build_command(&recipe, &["--replace"]);
        command.env("SOURCE_DATE_EPOCH", date);
        let outcome = Running::start(command).finish(BUILD).exits(0);
        measured("a small container", "seconds to build", outcome.took.as_secs_f64());
        let file = output("sha256sum", &[place.out().join("tiny.oci.tar").to_str().unwrap()]);
        let digest = place.manifest()["outputs"][0]["container"]["digest"].as_str().unwrap().to_owned();
        assert_eq!(digest.len(), "sha256:".len() + 64, "{digest}");
        (digest, file)
    };
    let first = build("1700000000");
    assert_eq!(build("1700000000"), first);
    assert_ne!(build("1600000000").0, first.0, "the date does not count");
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.oci.tar"]);
}

/// A container without anything to boot, and what is wrong with one that should.
#[test]
fn a_tree_that_cannot_boot_is_no_bootable_container() {
    let place = Place::new();
    let text = "name: bare
stages:
  - { type: debootstrap, options: { suite: trixie, variant: essential } }
  - { type: bootc }
output: { formats: [oci] }
";
    let recipe: PathBuf = place.write("bare.yml", text);
    let outcome = place.start_build(&recipe, &[]).finish(BUILD).exits(1);
    let _ = outcome.says(&["there is no kernel in the tree", "`kernel`"]);
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &[]);
}
