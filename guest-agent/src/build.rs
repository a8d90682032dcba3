//! Building an image.

use crate::context::Context;
use crate::report;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::{Failure, FailureKind, Plan};

/// Run the stages of `plan` and assemble the disk.
///
/// # Errors
/// The failure of the first stage that fails.
pub fn run(_context: &Context, plan: &Plan) -> Result<Built, Failure> {
    Err(report::plain(FailureKind::Agent, format!("`{}` cannot be built", plan.name)))
}
