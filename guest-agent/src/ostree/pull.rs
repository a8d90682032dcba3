//! A commit of the repository of the build, in one on the disk.

use super::import::{Merged, init, ostree};
use super::{Commit, settings};
use crate::container::REPOSITORY;
use crate::context::Context;
use crate::report::Explain;
use crate::tree::Tree;
use particle_vm_protocol::stage::OstreeDeploy;
use particle_vm_protocol::{Failure, FailureKind};
use std::path::Path;

/// Make a repository in `sysroot` and copy the commit to it that `options` name.
///
/// # Errors
/// When there is none, or it is none of a bootable system.
pub fn pull(context: &Context, sysroot: &Path, options: &OstreeDeploy) -> Result<Commit, Failure> {
    init(context, sysroot)?;
    let mut command = ostree(sysroot, "pull-local").arg("--untrusted");
    let mut reference = options.reference.clone();
    if let Some(remote) = &options.remote {
        // By this name ostree writes into the origin of the deployment where it comes from.
        command = command.arg(format!("--remote={remote}"));
        reference = format!("{remote}:{reference}");
    }
    context.run(&command.args(["--", REPOSITORY, &options.reference]))?;
    let files = Merged::in_sysroot(sysroot);
    context.run(&ostree(sysroot, "checkout").args(["--require-hardlinks", &reference]).arg(&files.0))?;
    let tree = Tree::open(&files.0).explain(FailureKind::Agent, || "cannot open the tree of the commit")?;
    let mut settings = settings::read(&tree, "the commit")?;
    if let Some(stateroot) = &options.stateroot {
        settings.stateroot.clone_from(stateroot);
    }
    Ok(Commit { reference, settings })
}
