//! `ostree.deploy`: a commit of the build's own repository as the system on the disk.

use super::configure;
use crate::build;
use crate::container::Archives;
use crate::context::Context;
use crate::disk;
use crate::ostree;
use crate::paths;
use crate::report::{self, Explain};
use crate::stage::Site;
use crate::tree::Tree;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::plan::STEP_DEADLINE;
use particle_vm_protocol::{Failure, FailureKind, Plan, Stage};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Where the tree stays of which the commit is made. The deployment takes its place.
pub(crate) const COMMITTED: &str = "/scratch/committed";

/// Build the image of `plan`, of whose stages those before the one at `index` have run: it deploys. What they have made
/// is in `site`, if they have made a tree; their build began at `begin`.
///
/// # Errors
/// The failure of the first step or stage that fails.
pub fn of_commit(
    context: &Context,
    plan: &Plan,
    site: Site<'_>,
    index: usize,
    begin: SystemTime,
) -> Result<Built, Failure> {
    let (Some(planned), Some(disk)) = (plan.stages.get(index), &plan.disk) else { return Err(no_disk()) };
    let Stage::OstreeDeploy(options) = &planned.stage else { return Err(no_disk()) };
    let target = build::target(context)?;
    let step = plan.steps_before_stages() + index;
    let own = site.own().clone();
    let done = context.stage(step, &planned.title, Some(site.deadline(index)), |_| {
        let archives = if site.has_tree() {
            site.complete()?;
            drop(site.leave()?);
            let mut archives = Archives::new(context, plan, aside()?, begin)?;
            if commits(plan) {
                archives.commit()?;
            }
            Some(archives)
        } else if plan.archives.is_empty() {
            None
        } else {
            return Err(report::plain(FailureKind::Input, "no stage makes a tree that an archive could be made of"));
        };
        let mounted = disk::format(context, disk, target, true)?.mount_sysroot()?;
        let sysroot = Path::new(paths::TARGET);
        let commit = ostree::pull(context, sysroot, options)?;
        let deployment = ostree::deploy(context, sysroot, plan, &commit)?;
        Ok(((mounted, deployment), archives))
    });
    let (system, archives) = done.inspect_err(|_| back())?;
    let mut built = configure(context, plan, system, (index + 1, own))?;
    let after = plan.steps_before_stages() + plan.stages.len() + 1;
    if let Some(mut archives) = archives {
        for (index, &kind) in plan.archives.iter().enumerate() {
            let deadline = Some(Duration::from_secs(STEP_DEADLINE));
            context.stage(after + index, kind.title(), deadline, |_| archives.write(kind))?;
        }
        archives.finish(&mut built);
    }
    Ok(Built { scratch_bytes: context.scratch_peak(), ..built })
}

/// Whether a commit is made of the tree.
fn commits(plan: &Plan) -> bool {
    plan.stages.iter().any(|planned| matches!(planned.stage, Stage::OstreeCommit(_)))
}

/// Take the tree from where the deployment comes.
fn aside() -> Result<Tree, Failure> {
    fs::rename(paths::TREE, COMMITTED)
        .and_then(|()| Tree::open(Path::new(COMMITTED)))
        .explain(FailureKind::Agent, || format!("cannot move {} to {COMMITTED}", paths::TREE))
}

/// Put it back, for a shell in a build that failed.
fn back() {
    if Path::new(COMMITTED).exists() {
        // An empty folder may have come into its place.
        let _ = fs::rename(COMMITTED, paths::TREE);
    }
}

fn no_disk() -> Failure {
    report::plain(FailureKind::Agent, "a commit is deployed on a disk, and the plan has none")
}
