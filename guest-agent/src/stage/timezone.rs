//! `timezone`: set the time zone.

use super::{Site, apt, wrong};
use crate::near;
use crate::tree::Tree;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Timezone;

/// The tz database.
const ZONES: &str = "/usr/share/zoneinfo";

/// A file that every version of the tz database has.
const TABLE: &str = "/usr/share/zoneinfo/tzdata.zi";

/// Set it.
pub(super) fn perform(site: &mut Site<'_>, options: &Timezone) -> Result<(), Failure> {
    let zone = &options.zone;
    if zone.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong(format!("`{zone}` is no time zone; one looks like `Europe/Berlin`")));
    }
    if !site.tree()?.is_file(TABLE) {
        apt::install(site, &["tzdata"], false)?;
    }
    let tree = site.tree()?;
    if !tree.is_file(&format!("{ZONES}/{zone}")) {
        return Err(wrong(unknown(tree, zone)?));
    }
    tree.symlink(&format!("{ZONES}/{zone}"), "/etc/localtime")?;
    Ok(tree.write("/etc/timezone", format!("{zone}\n"), 0o644)?)
}

/// What to say about a zone that is not there. The database lists names in lines like `Z Europe/Berlin 0:53:28 ...`
/// (zones) and `L Europe/Berlin Arctic/Longyearbyen` (second names).
fn unknown(tree: &Tree, zone: &str) -> Result<String, Failure> {
    let table = tree.read_text(TABLE)?;
    let mut known = Vec::new();
    for line in table.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Z") => known.extend(words.next()),
            Some("L") => known.extend(words.nth(1)),
            _ => {}
        }
    }
    if known.contains(&zone) {
        return Ok(format!("the time zone `{zone}` is an old name; the package `tzdata-legacy` has it"));
    }
    known.retain(|name| tree.is_file(&format!("{ZONES}/{name}")));
    Ok(format!("there is no time zone `{zone}`{}", near::hint(zone, known)))
}
