//! Finishing a freshly unpacked appliance.

use crate::context::Context;
use crate::report;
use particle_vm_protocol::{Failure, FailureKind};

/// Run the maintainer scripts of the appliance's packages.
///
/// # Errors
/// The failure of the first package.
pub fn run(_context: &Context) -> Result<(), Failure> {
    Err(report::plain(FailureKind::Agent, "the appliance cannot be finished"))
}
