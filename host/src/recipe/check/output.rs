//! The parts beside stages and disk: name, variables, network, outputs, tests, resources.

use super::{Checker, names};
use crate::error::Classify;
use crate::output::Format;
use crate::recipe::limits;
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use crate::recipe::size::{GIB, Size, Timeout};
use crate::recipe::types::{Disk, Output, RecipeStage, Resources, Test};
use crate::vm::proxy::Rule;
use particle_vm_protocol::SectorSize;

/// Largest disk that QEMU writes as a growing VHD (`VHD_MAX_SECTORS` of its block/vpc.c), rounded down.
const MAX_VHD: u64 = 2040 * GIB;

/// Everything but stages and disk.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let root = Path::root();
    if let Some(name) = sections.name.as_ref().filter(|name| !names::image(name)) {
        let help = "small letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 63 characters";
        checker.advise(&root.key("name"), format!("`{name}` is not a name of an image"), help);
    }
    let image = root.key("base-image");
    match &sections.base_image {
        Some(reference) => base_image(checker, &image, reference),
        None if checker.reads(&image) && checker.is_written(&root.key("engine")) => {
            let message = "`engine` says how a container image becomes a system, and there is none";
            checker.advise(&root.key("engine"), message, "add a `base-image`, or remove the key");
        }
        None => {}
    }
    let allow = sections.network.iter().flat_map(|network| &network.allow).enumerate();
    for (index, entry) in allow {
        if let Err(error) = entry.parse::<Rule>() {
            let path = root.key("network").key("allow").index(index);
            checker.advise(&path, error.to_string(), error.advice().unwrap_or_default());
        }
    }
    if let Some(output) = &sections.output {
        formats(checker, &root.key("output").key("formats"), output, sections.disk.as_ref());
    }
    if let Some(resources) = &sections.resources {
        self::resources(checker, &root.key("resources"), resources);
    }
    for (index, test) in sections.tests.iter().enumerate() {
        if let Some(test) = test {
            let earlier = sections.tests[..index].iter().flatten().any(|other| other.name == test.name);
            self::test(checker, &root.key("tests").index(index), test, earlier);
        }
    }
}

fn base_image(checker: &mut Checker<'_>, path: &Path, reference: &str) {
    if reference.trim().is_empty() || reference.contains(char::is_control) || reference.contains(char::is_whitespace) {
        checker.advise(path, "this is no reference of an image", "for instance `oci:./image:latest`");
    }
}

/// What every stage has beside its options.
pub fn stage(checker: &mut Checker<'_>, path: &Path, stage: &RecipeStage) {
    if let Some(name) = &stage.name {
        title(checker, &path.key("name"), name);
    }
    timeout(checker, &path.key("timeout"), stage.timeout);
}

fn formats(checker: &mut Checker<'_>, path: &Path, output: &Output, disk: Option<&Disk>) {
    if output.formats.is_empty() && checker.is_written(path) {
        checker.advise(path, "`formats` is an empty list", "name at least one, for instance `[qcow2]`");
    }
    let mut earlier = Vec::new();
    for (index, format) in output.formats.iter().enumerate() {
        let path = path.index(index);
        if !checker.reads(&path) {
            continue;
        }
        if let Some((message, help)) = unfit(*format, &earlier, disk) {
            checker.advise(&path, message, help);
        } else {
            earlier.push(*format);
        }
    }
}

/// Why an image with `disk` cannot be written in `format` beside the `earlier` ones, and what to do.
pub fn unfit(format: Format, earlier: &[Format], disk: Option<&Disk>) -> Option<(String, &'static str)> {
    // Whoever starts a raw or qcow2 image says its sector size; the other formats imply it, as QEMU writes them.
    let any_sector_size = matches!(format, Format::Raw | Format::Qcow2) || !format.is_disk();
    if earlier.contains(&format) {
        Some((format!("the format `{format}` is named twice"), "remove one"))
    } else if format == Format::Vhd
        && disk.and_then(|disk| disk.size.or(disk.min_size)).is_some_and(|size| size.0 > MAX_VHD)
    {
        Some((format!("a vhd holds at most {}", Size(MAX_VHD)), "use `vhdx`, or a smaller disk"))
    } else if !any_sector_size && disk.is_some_and(|disk| disk.sector_size == SectorSize::B4096) {
        let help = "use `raw` or `qcow2`, or a sector size of 512";
        Some((format!("the format `{format}` has sectors of 512 bytes only"), help))
    } else {
        None
    }
}

fn resources(checker: &mut Checker<'_>, path: &Path, resources: &Resources) {
    let sizes = [("memory", resources.memory, limits::MEMORY), ("scratch", resources.scratch, limits::SCRATCH)];
    for (key, size, range) in sizes {
        if let Some(message) = size.and_then(|size| limits::size(&format!("`{key}`"), size, &range)) {
            checker.advise(&path.key(key), message, "leave it out for a size that follows from the recipe");
        }
    }
    if resources.cpus.is_some_and(|cpus| !limits::CPUS.contains(&cpus)) {
        let (least, most) = (limits::CPUS.start(), limits::CPUS.end());
        checker.report(&path.key("cpus"), format!("`cpus` is between {least} and {most}"));
    }
}

fn test(checker: &mut Checker<'_>, path: &Path, test: &Test, earlier: bool) {
    title(checker, &path.key("name"), &test.name);
    if earlier {
        checker.report(&path.key("name"), format!("two tests are called `{}`", test.name));
    }
    if test.run.trim().is_empty() {
        checker.report(&path.key("run"), "the test runs nothing");
    }
    if test.expect.as_ref().is_some_and(String::is_empty) {
        checker.advise(
            &path.key("expect"),
            "every output contains an empty text",
            "remove the key, or say what to expect",
        );
    }
    timeout(checker, &path.key("timeout"), test.timeout);
}

/// A name that progress shows in its line.
fn title(checker: &mut Checker<'_>, path: &Path, name: &str) {
    if name.trim().is_empty() || name.contains(char::is_control) || name.chars().count() > 100 {
        checker.report(path, "a name is one line of at most 100 characters");
    }
}

fn timeout(checker: &mut Checker<'_>, path: &Path, timeout: Option<Timeout>) {
    if let Some(message) = timeout.and_then(limits::timeout) {
        checker.report(path, message);
    }
}
