//! `kernel`: a kernel and its command line.

use super::{Site, apt};
use crate::boot;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Kernel;

/// Where kernel-install(8) reads the command line; GRUB's is written with its other settings.
pub(super) const CMDLINE: &str = "/etc/kernel/cmdline";

/// Write the command line and install the package.
pub(super) fn perform(site: &mut Site<'_>, options: &Kernel) -> Result<(), Failure> {
    let mut arguments = boot::root_arguments(site.plan)?;
    arguments.extend(boot::arguments(site.plan));
    site.tree()?.write(CMDLINE, format!("{}\n", arguments.join(" ")), 0o644)?;
    apt::install(site, &[&options.package], false)
}
