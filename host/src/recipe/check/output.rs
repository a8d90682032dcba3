//! The parts beside stages and disk: name, variables, network, outputs, tests, resources.

use super::{Checker, names};
use crate::error::Classify;
use crate::output::Format;
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use crate::recipe::size::{GIB, MIB, Size, Timeout};
use crate::recipe::types::{Disk, Output, RecipeStage, Resources, Test};
use crate::vm::proxy::Rule;
use particle_vm_protocol::SectorSize;
use std::time::Duration;

/// Longest time that a stage or a test can be given.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Largest disk that QEMU writes as a growing VHD (`VHD_MAX_SECTORS` of its block/vpc.c), rounded down.
const MAX_VHD: u64 = 2040 * GIB;

pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let root = Path::root();
    if let Some(name) = sections.name.as_ref().filter(|name| !names::image(name)) {
        let help = "small letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 63 characters";
        checker.advise(&root.key("name"), format!("`{name}` is not a name of an image"), help);
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

/// What every stage has beside its options.
pub fn stage(checker: &mut Checker<'_>, path: &Path, stage: &RecipeStage) {
    if let Some(name) = &stage.name {
        title(checker, &path.key("name"), name);
    }
    timeout(checker, &path.key("timeout"), stage.timeout);
}

fn formats(checker: &mut Checker<'_>, path: &Path, output: &Output, disk: Option<&Disk>) {
    if output.formats.is_empty() {
        checker.advise(path, "`formats` is an empty list", "name at least one, for instance `[qcow2]`");
    }
    for (index, format) in output.formats.iter().enumerate() {
        if output.formats[..index].contains(format) {
            checker.advise(&path.index(index), format!("the format `{format}` is named twice"), "remove one");
        }
        if *format == Format::Vhd && disk.is_some_and(|disk| disk.size.0 > MAX_VHD) {
            let help = "use `vhdx`, or a smaller disk";
            checker.advise(&path.index(index), format!("a vhd holds at most {}", Size(MAX_VHD)), help);
        }
        // Whoever starts a raw or qcow2 image says its sector size; the other formats imply it, as QEMU writes them.
        let any_sector_size = matches!(format, Format::Raw | Format::Qcow2);
        if !any_sector_size && disk.is_some_and(|disk| disk.sector_size == SectorSize::B4096) {
            let help = "use `raw` or `qcow2`, or a sector size of 512";
            checker.advise(&path.index(index), format!("the format `{format}` has sectors of 512 bytes only"), help);
        }
    }
}

fn resources(checker: &mut Checker<'_>, path: &Path, resources: &Resources) {
    let limits = [("memory", resources.memory, 512 * MIB, 1024 * GIB), ("scratch", resources.scratch, GIB, 8192 * GIB)];
    for (key, size, least, most) in limits {
        let Some(size) = size else { continue };
        if size.0 < least || size.0 > most {
            let message = format!("`{key}` is between {} and {}, and not {size}", Size(least), Size(most));
            checker.advise(&path.key(key), message, "leave it out for a size that follows from the recipe");
        } else if !size.0.is_multiple_of(MIB) {
            let near = Size(size.0.next_multiple_of(MIB));
            checker.advise(&path.key(key), format!("`{key}` is not a multiple of 1MiB"), format!("write `{near}`"));
        }
    }
    if resources.cpus.is_some_and(|cpus| !(1..=255).contains(&cpus)) {
        checker.report(&path.key("cpus"), "`cpus` is between 1 and 255");
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
    if let Some(timeout) = timeout
        && (timeout.0 < Duration::from_secs(1) || timeout.0 > MAX_TIMEOUT)
    {
        checker.report(path, format!("a timeout is between 1s and 7days, and not {timeout}"));
    }
}
