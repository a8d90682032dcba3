//! Copying the tree to the disk.

use crate::context::Context;
use crate::process::Command;
use particle_vm_protocol::Failure;
use std::path::Path;

/// Copy everything in `from` to `to`, with owners, permissions, times, extended attributes, ACLs, hard links and holes.
///
/// # Errors
/// When the disk is full, or a file cannot be read.
pub fn copy(context: &Context, from: &Path, to: &Path) -> Result<(), Failure> {
    let command = Command::new("cp").args(["--archive", "--sparse=auto", "--no-target-directory", "--"]);
    context.run(&command.arg(from).arg(to))
}
