//! Container images with the flags and the blueprint of bootc-image-builder: what is refused is refused before anything
//! starts, with exit code 2 and the place, and all else is done.

use particle_vm_tests::{Place, base_image, leftovers, measured, place};
use std::path::Path;
use std::time::Duration;

/// Longer than reading any blueprint may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A whole build under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// `build` and `plan` refuse `arguments` in the same words, and leave nothing behind.
fn refused(place: &Place, arguments: &[&str], texts: &[&str]) {
    for verb in ["build", "plan"] {
        let all = [&[verb], arguments].concat();
        let outcome = place.start(&all).finish(DEADLINE).exits(2).says(texts);
        assert_eq!(outcome.stdout, "", "{verb}");
    }
    leftovers::no_files(place, &[]);
    leftovers::no_processes(place);
}

/// The same for a blueprint called `name`.
fn refused_blueprint(name: &str, text: &str, texts: &[&str]) {
    let place = Place::with_empty_cache();
    let config = place.write(name, text);
    refused(&place, &["--config", config.to_str().unwrap(), "oci:image"], texts);
}

#[test]
fn a_key_that_cannot_be_honoured() {
    refused_blueprint(
        "config.toml",
        "[customizations]\nhostname = \"a\"\n\n[customizations.firewall]\nports = [\"22:tcp\"]\n",
        &["config.toml:4:17]", "`customizations.firewall` cannot be honoured", "into the container image"],
    );
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    refused_blueprint(
        "config.toml",
        "[[customizations.user]]\nname = \"deb\"\ngruops = [\"sudo\"]\n",
        &["config.toml:3:1]", "there is no `customizations.user.gruops`", "did you mean `groups`"],
    );
}

#[test]
fn a_value_that_no_recipe_may_have() {
    refused_blueprint(
        "config.json",
        "{\n  \"blueprint\": {\n    \"customizations\": { \"timezone\": { \"timezone\": \"Europe/Berln\" } }\n  }\n}\n",
        &["config.json:3:51]", "there is no time zone `Europe/Berln`", "did you mean `Europe/Berlin`"],
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let place = Place::with_empty_cache();
    let config = place.write("config.toml", "[customizations]\nhostname = \"-\"\nfips = true\n");
    let texts = ["config.toml:2:12]", "config.toml:3:1]", "the command line:1:1]", "this is no reference of an image"];
    refused(&place, &["--config", config.to_str().unwrap(), "oci:a b"], &texts);
}

#[test]
fn text_that_is_none_of_the_languages() {
    refused_blueprint("config.toml", "[customizations\n", &["config.toml:1:16]", "this is not TOML"]);
    refused_blueprint("config.json", "{\n\"a\": }\n", &["config.json:2:6]", "this is not JSON"]);
    refused_blueprint("config.yml", "customizations: {}\n", &["nothing tells in which language this is"]);
}

#[test]
fn flags_that_cannot_be_honoured() {
    let place = Place::with_empty_cache();
    for (arguments, texts) in [
        (&["--type", "qcow2,gce", "oci:image"][..], &["'gce'", "make `raw`"][..]),
        (&["--type", "anaconda-iso", "oci:image"], &["no installer is made"]),
        (&["--rootfs", "zfs", "oci:image"], &["'zfs'", "it is ext4, xfs or btrfs"]),
        (&["--target-arch", "arm64", "oci:image"], &["'arm64'", "for amd64 (x86_64) only"]),
        (&["--type", "raw", "--format", "qcow2", "oci:image"], &["cannot be used with"]),
        (&["--set", "A=b", "oci:image"], &["`--set` is for the variables of a recipe", "`base-image`"]),
        (&["--type", "raw", "recipe.yml"], &["`--type` is for a container image", "`--format`"]),
        (&["--type", "raw", "debian:trixie"], &["it names no registry"]),
        (&["https://example.org/a"], &["it is a URL"]),
        (&["nothing"], &["cannot read the recipe"]),
    ] {
        refused(&place, arguments, texts);
    }
}

/// The base image with a division of the disk of its own.
const DIVIDED: &str = "engine: plain
stages:
  - { type: copy, options: { source: disk.yaml, destination: /usr/lib/bootc-image-builder/disk.yaml } }
  - { type: bootc }
output: { formats: [oci-archive] }
";

/// A whole order: the flags, the blueprint, the names of the outputs, and the image's own `disk.yaml` but for what
/// `--rootfs` says.
#[test]
#[ignore = "takes the build of a base image and two boots: make check-all"]
fn an_image_is_made_to_order() {
    let place = Place::new();
    let fixtures = place::root().join("tests/fixtures/blueprint");
    let recipe = place.write("divided.yml", format!("name: divided\nbase-image: {}\n{DIVIDED}", base_image()));
    place.write("disk.yaml", std::fs::read(fixtures.join("disk.yaml")).unwrap());
    let built = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("divided", "seconds to build", built.took.as_secs_f64());
    let image = place.path().join("divided.oci.tar");
    std::fs::rename(place.out().join("divided.oci.tar"), &image).unwrap();

    let (config, reference) = (fixtures.join("config.toml"), format!("oci-archive:{}", image.display()));
    let flags = ["--type", "qcow2", "--type", "raw", "--rootfs", "btrfs", "--output-layout", "bib", "--replace"];
    let order = [&flags[..], &["--config", config.to_str().unwrap()]].concat();
    let ordered = place.start_build(Path::new(&reference), &order).finish(BUILD).exits(0);
    measured("an order", "seconds to build", ordered.took.as_secs_f64());
    for (file, firmware) in [("image/disk.raw", "bios"), ("qcow2/disk.qcow2", "uefi")] {
        let image = place.out().join(file);
        let told = "it is server: deb sudo data, 750:data, btrfs, xfs data";
        let boot = ["boot", image.to_str().unwrap(), "--firmware", firmware, "--expect", told, "--timeout", "10min"];
        let booted = place.start(&boot).finish(BUILD).exits(0);
        measured(file, "seconds until it tells what it is", booted.took.as_secs_f64());
    }
    leftovers::no_processes(&place);
    assert_eq!(leftovers::names(&place.work()), Vec::<String>::new());
}
