//! Systems whose `/usr` is read-only and updated as a whole: deployments of container images and of OSTree commits.
//!
//! An engine ([`crate::ostree`], [`crate::bootc`]) puts the image on the disk itself, so that each file is written once.
//! What the recipe's stages change they change in the deployment, as if it had booted: `/etc` and `/var` can be written to,
//! everything else comes from the image and cannot.

mod commit;
mod mounted;

pub(crate) use commit::COMMITTED;
pub use commit::of_commit;
pub use mounted::{Deployment, only_folder};

use crate::bootc;
use crate::build;
use crate::context::Context;
use crate::disk::{self, Mounted};
use crate::ostree;
use crate::paths;
use crate::report::Explain;
use crate::stage::Site;
use crate::tree::Tree;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::plan::STEP_DEADLINE;
use particle_vm_protocol::{Backend, Base, Disk, Engine, Failure, FailureKind, Plan};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Build the image of `plan` from `base` on the device `target`, which becomes `disk`.
///
/// # Errors
/// The failure of the first step or stage that fails.
pub fn of_image(context: &Context, plan: &Plan, base: &Base, disk: &Disk, target: &Path) -> Result<Built, Failure> {
    let sysroot = Path::new(paths::TARGET);
    let deadline = Some(Duration::from_secs(STEP_DEADLINE));
    let mounted =
        context.stage(0, "disk", deadline, |context| disk::format(context, disk, target, true)?.mount_sysroot())?;
    let deployment = if base.engine == Engine::Bootc {
        context.stage(1, "unpack", deadline, |context| bootc::unpack(context, base))?;
        context.stage(2, "install", deadline, |context| bootc::install(context, sysroot, plan, base))?
    } else {
        let commit =
            context.stage(1, "import", deadline, |context| ostree::import(context, sysroot, base, disk.size))?;
        context.stage(2, "deploy", deadline, |context| ostree::deploy(context, sysroot, plan, &commit))?
    };
    configure(context, plan, (mounted, deployment), (0, BTreeSet::new()))
}

/// Run the stages of `plan` from the one at `first` in a deployment, and make it bootable. Those before have put the files
/// `own` into it.
///
/// # Errors
/// The failure of the first one that fails, or of the last step.
fn configure(
    context: &Context,
    plan: &Plan,
    (mounted, deployment): (Mounted<'_>, Deployment),
    (first, own): (usize, BTreeSet<String>),
) -> Result<Built, Failure> {
    let tree = Tree::open(Path::new(paths::TREE)).explain(FailureKind::Agent, || "cannot open the deployment")?;
    deployment.prepare(&tree)?;
    let others = mounted.mount_others(context, &tree)?;
    let mut site = Site::in_deployment(context, plan, own)?;
    let before = plan.steps_before_stages();
    for (index, planned) in plan.stages.iter().enumerate().skip(first) {
        let deadline = Some(site.deadline(index));
        context.stage(before + index, &planned.title, deadline, |_| site.perform(index))?;
    }
    // An open folder would keep the deployment from being unmounted.
    drop(tree);
    let deadline = Some(Duration::from_secs(STEP_DEADLINE));
    let (packages, content_bytes, deployed) =
        context.stage(before + plan.stages.len(), "boot", deadline, |context| {
            // In the order in which they have to go when something fails, from the last.
            let (mut mounted, deployment, others) = (mounted, deployment, others);
            let tree = site.leave_deployment()?;
            deployment.write_fstab(&tree, plan)?;
            let mut deployed = None;
            if plan.base.as_ref().is_none_or(|base| base.backend == Backend::Ostree) {
                deployment.mount_by_table_only(&tree)?;
                deployed = Some(ostree::identify(context, Path::new(paths::TARGET))?);
            }
            let others = others.finish()?;
            let packages = build::packages(&tree)?;
            mounted.make_bootable(context, plan, &tree)?;
            drop(tree);
            deployment.unmount()?;
            Ok((packages, mounted.write_out()? + others, deployed))
        })?;
    Ok(Built { packages, content_bytes, scratch_bytes: context.scratch_peak(), deployed, ..Built::default() })
}
