//! A container image as bootc-image-builder takes it: a reference, some flags, and a blueprint (`config.toml` or
//! `config.json`) with customisations.
//!
//! All of it becomes a recipe, in the very form that the reader of YAML gives, and goes through the same checks. Each
//! value keeps the place where it was written, so that a finding points into the blueprint or at the command line.

mod accounts;
mod disk;
mod files;
mod keys;
mod make;
mod order;
mod read;
mod system;

pub use order::{COMMAND_LINE, Order};

use super::document::{Entry, Node};
use super::finding::{Finding, Findings};
use super::types::Recipe;
use super::{FilePath, variables};
use keys::{Keys, Reader, get};
use particle_vm_protocol::Engine;
use read::Configuration;
use std::collections::BTreeSet;
use std::sync::Arc;

const IN_THE_IMAGE: &str = "packages belong into the container image: install them in its Containerfile";
const NO_INSTALLER: &str = "no installer is made; write the disk image to the machine's disk";

const BLUEPRINT: Keys = Keys {
    taken: &["name", "description", "customizations", "blueprint"],
    refused: &[
        ("version", "images have no version of their own; remove the key"),
        ("packages", IN_THE_IMAGE),
        ("modules", IN_THE_IMAGE),
        ("groups", IN_THE_IMAGE),
        ("enabled_modules", IN_THE_IMAGE),
        ("containers", "put further containers into the container image"),
        ("distro", "the distribution is the one of the container image"),
        ("arch", "write `--target-arch`"),
        ("architecture", "write `--target-arch`"),
        ("minimal", IN_THE_IMAGE),
    ],
};

const CUSTOMIZATIONS: Keys = Keys {
    taken: &[
        "user",
        "group",
        "kernel",
        "filesystem",
        "disk",
        "files",
        "directories",
        "hostname",
        "timezone",
        "locale",
        "services",
    ],
    refused: &[
        ("bootloader", "a serial console is an argument of the kernel: `append = \"console=ttyS0\"`"),
        ("cacerts", "put the certificates into the container image, and run `update-ca-certificates` there"),
        ("containers-storage", "put further containers into the container image"),
        ("dnf", IN_THE_IMAGE),
        ("fdo", "onboarding belongs into the container image"),
        ("fips", "Debian has no FIPS mode"),
        ("firewall", "put the rules into the container image"),
        ("firstboot", "put a unit for the first boot into the container image"),
        ("ignition", "put what the first boot does into the container image, for instance cloud-init"),
        ("installation_device", NO_INSTALLER),
        ("installer", NO_INSTALLER),
        ("iso", NO_INSTALLER),
        ("openscap", "do it in the container image"),
        ("partitioning_mode", "the partitions are those of `filesystem` and `disk`"),
        ("repositories", IN_THE_IMAGE),
        ("rhsm", "Debian has no subscriptions"),
        ("rpm", IN_THE_IMAGE),
        ("sshd", "write a file in `/etc/ssh/sshd_config.d` with `[[customizations.files]]`"),
        ("sshkey", "write it as `key` of a `[[customizations.user]]`"),
        ("subscription", "Debian has no subscriptions"),
    ],
};

/// What makes a stage of customisations.
type Maker = fn(&mut Reader<'_>, &Node) -> Option<Arc<Node>>;

/// Those, in the order of the stages: accounts come before what belongs to them, folders before what lies in them.
const MAKERS: [Maker; 9] = [
    system::kernel,
    system::hostname,
    system::timezone,
    system::locale,
    system::keymap,
    accounts::stage,
    files::directories,
    files::files,
    system::services,
];

/// The recipe that follows from `order`, checked.
///
/// # Errors
/// Everything that is wrong with the command line and with the blueprint.
pub fn load(order: &Order) -> Result<Recipe, Findings> {
    match &order.config {
        Some(path) => of(order, Some(read::read(path)?)),
        None => of(order, None),
    }
}

fn of(order: &Order, configuration: Option<Configuration>) -> Result<Recipe, Findings> {
    let written = order.written(configuration.as_ref().map_or(0, |configuration| configuration.source.end()));
    let mut parts = vec![
        make::entry("base-image", &written.span, Arc::clone(&written.image)),
        make::entry("output", &written.span, {
            let formats = make::entry("formats", &written.formats.span, Arc::clone(&written.formats));
            make::mapping(vec![formats], &written.span)
        }),
    ];
    let (source, findings) = match configuration {
        Some(configuration) => {
            let findings = add(&configuration, &mut parts, written.filesystem);
            (configuration.source.followed_by(written.source), findings)
        }
        None => {
            let nothing = Reader::new(&written.source, Vec::new());
            parts.extend(disk::disk(&mut { nothing }, None, written.filesystem));
            (written.source, Vec::new())
        }
    };
    if !parts.iter().any(|part| part.key == "name") {
        parts.push(make::entry("name", &written.span, written.name));
    }
    let root = make::mapping(parts, &written.span);
    // What looks like a variable of a recipe is a text like any other in a blueprint.
    let replaced = variables::Replaced { root, findings: Vec::new(), without: BTreeSet::new() };
    let mut recipe = super::checked(source, FilePath::new("."), findings, replaced)?;
    recipe.origin.ordered = true;
    // A blueprint has no bootloader, so that nothing but a deployment can come of it: said before anything is fetched.
    recipe.fits(Engine::NativeOstree)?;
    Ok(recipe)
}

/// Adds what the blueprint says to the parts of a recipe, and gives what is wrong with it.
fn add(configuration: &Configuration, parts: &mut Vec<Entry>, filesystem: Option<Entry>) -> Vec<Finding> {
    let mut reader = Reader::new(&configuration.source, configuration.findings.clone());
    let mut blueprint = configuration.root.as_ref();
    reader.known("", blueprint, &BLUEPRINT);
    if let Some(wrapped) = get(blueprint, "blueprint") {
        for beside in keys::entries(blueprint).filter(|entry| entry.key != "blueprint") {
            let message = format!("`{}` stands beside `blueprint`", beside.key);
            reader.advise(&beside.key_span, message, "write it beneath `blueprint`");
        }
        const WRAPPED: Keys = Keys { taken: &["name", "description", "customizations"], ..BLUEPRINT };
        blueprint = match reader.table("blueprint", wrapped, &WRAPPED) {
            Some(table) => table,
            None => return reader.findings,
        };
    }
    let described = ["name", "description"].into_iter().filter_map(|key| get(blueprint, key).cloned());
    // One that is empty names nothing.
    parts.extend(described.filter(|entry| entry.node.text() != Some("")));
    let customizations = get(blueprint, "customizations");
    let customizations = customizations.and_then(|entry| reader.table("customizations", entry, &CUSTOMIZATIONS));
    if let Some(customizations) = customizations {
        let stages: Vec<_> = MAKERS.iter().filter_map(|maker| maker(&mut reader, customizations)).collect();
        parts.push(make::entry("stages", &customizations.span, make::list(stages, &customizations.span)));
    }
    parts.extend(disk::disk(&mut reader, customizations, filesystem));
    reader.findings
}

#[cfg(test)]
mod tests;
