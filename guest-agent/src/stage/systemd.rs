//! `systemd`: enable, disable and mask units, and set the default target.

use super::{Site, wrong};
use crate::near;
use crate::tree::Tree;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Systemd;
use std::collections::BTreeSet;

/// Where units of the system lie, systemd.unit(5).
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Where scripts lie that systemd makes services of.
const SCRIPTS: &str = "/etc/init.d";

/// Change the state of each unit.
pub(super) fn perform(site: &mut Site<'_>, options: &Systemd) -> Result<(), Failure> {
    if !site.has_program("systemctl")? {
        return Err(wrong("the image has no systemd; the package `systemd-sysv` makes it the init of the system"));
    }
    let tree = site.tree()?;
    let named = [&options.enable, &options.disable, &options.mask].into_iter().flatten().chain(&options.default_target);
    for unit in named {
        check(tree, unit)?;
    }
    for (verb, units) in [("enable", &options.enable), ("disable", &options.disable), ("mask", &options.mask)] {
        if !units.is_empty() {
            site.context.run(&site.command("systemctl")?.arg(verb).arg("--").args(units))?;
        }
    }
    if let Some(target) = &options.default_target {
        site.context.run(&site.command("systemctl")?.args(["set-default", "--", target]))?;
    }
    Ok(())
}

/// Fails with near names when there is no such unit.
fn check(tree: &Tree, unit: &str) -> Result<(), Failure> {
    let file = file_of(unit);
    if UNITS.iter().any(|folder| tree.exists(&format!("{folder}/{file}"))) {
        return Ok(());
    }
    if let Some(script) = file.strip_suffix(".service")
        && tree.is_file(&format!("{SCRIPTS}/{script}"))
    {
        return Ok(());
    }
    let mut known = BTreeSet::new();
    for folder in UNITS {
        known.extend(tree.names(folder)?);
    }
    let known = known.iter().map(String::as_str).filter(|name| !name.ends_with(".wants") && !name.ends_with(".d"));
    Err(wrong(format!("the image has no unit `{file}`{}", near::hint(&file, known))))
}

/// The file of a unit: systemctl(1) takes a name without a suffix for a service; an instance comes from its template.
fn file_of(unit: &str) -> String {
    let suffixes =
        [".service", ".socket", ".target", ".timer", ".mount", ".automount", ".path", ".swap", ".slice", ".device"];
    let suffix = suffixes.iter().find(|suffix| unit.ends_with(**suffix));
    let stem = suffix.map_or(unit, |suffix| unit.trim_end_matches(suffix));
    let suffix = suffix.unwrap_or(&".service");
    match stem.split_once('@') {
        Some((template, _)) => format!("{template}@{suffix}"),
        None => format!("{stem}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_a_file() {
        assert_eq!(file_of("ssh"), "ssh.service");
        assert_eq!(file_of("serial-getty@ttyS0.service"), "serial-getty@.service");
        assert_eq!(file_of("getty@tty1"), "getty@.service");
        assert_eq!(file_of("multi-user.target"), "multi-user.target");
    }
}
