//! Answers to the questions of packages.

use super::Site;
use particle_vm_protocol::Failure;

/// Give debconf answers in the form of debconf-set-selections(1), unless it has them.
pub(super) fn select(site: &mut Site<'_>, selections: &str) -> Result<(), Failure> {
    if selections.is_empty() || site.left.selections == selections {
        return Ok(());
    }
    let command = site.command("debconf-set-selections")?.input(selections);
    site.context.run(&command)?;
    site.left.selections = selections.into();
    Ok(())
}
