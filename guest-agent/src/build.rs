//! Building an image: the stages in order, then the disk.

use crate::bootc;
use crate::container::{Archives, REPOSITORY};
use crate::context::Context;
use crate::deployment;
use crate::disk;
use crate::link::Input;
use crate::paths;
use crate::plain;
use crate::report::{self, Explain};
use crate::stage::Site;
use crate::tree::Tree;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::plan::STEP_DEADLINE;
use particle_vm_protocol::{ArchiveKind, Engine, Failure, FailureKind, FromGuest, Plan, Stage};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Where the database of dpkg is: in images that keep it with the packages, and not in `/var`, that is the true one.
const DPKG_STATUS: [&str; 3] =
    ["/usr/lib/sysimage/dpkg/status", "/usr/share/dpkg/database/status", "/var/lib/dpkg/status"];

/// How long the host is waited for between two looks at whether the job is cancelled.
const LOOK: Duration = Duration::from_millis(200);

/// Run the stages of `plan` that are not done yet, assemble the disk, and write the archives. `input` tells when the host has
/// kept what a stage has left.
///
/// # Errors
/// The failure of the first stage or step that fails.
pub fn run(context: &Context, plan: &Plan, input: &Receiver<Input>) -> Result<Built, Failure> {
    let deadline = Some(Duration::from_secs(STEP_DEADLINE));
    let before = plan.steps_before_stages();
    let mut site = if plan.done > 0 {
        Site::resume(context, plan)?
    } else {
        for left in [paths::TREE, bootc::IMAGE, REPOSITORY, deployment::COMMITTED] {
            remove(Path::new(left))?;
        }
        Site::new(context, plan)
    };
    match plan.base.as_ref().map(|base| (base.engine, base)) {
        None => {}
        Some((Engine::Plain, _)) if plan.done > 0 => {}
        Some((Engine::Plain, base)) => context.stage(0, "unpack", deadline, |context| {
            plain::unpack(context, base, Path::new(paths::TREE))?;
            site.enter()
        })?,
        Some((Engine::NativeOstree | Engine::Bootc, base)) => {
            let (Some(disk), []) = (&plan.disk, plan.archives.as_slice()) else {
                return Err(report::plain(FailureKind::Agent, "of a deployment there is a disk, and nothing else"));
            };
            return deployment::of_image(context, plan, base, disk, target(context)?);
        }
    }
    let begin = site.begin();
    for (index, planned) in plan.stages.iter().enumerate().skip(plan.done) {
        if matches!(planned.stage, Stage::OstreeDeploy(_)) {
            return deployment::of_commit(context, plan, site, index, begin);
        }
        let deadline = Some(site.deadline(index));
        context.stage(before + index, &planned.title, deadline, |_| site.perform(index))?;
        if planned.keep {
            site.settle(|indexes| kept(context, input, index, indexes))?;
        }
    }
    let mut next = before + plan.stages.len();
    let mut step = |title: &'static str| {
        next += 1;
        (next - 1, title)
    };
    let (index, title) = step("initramfs");
    context.stage(index, title, deadline, |_| site.complete())?;
    let mut built = Built::default();
    let tree = if let Some(planned) = &plan.disk {
        let target = target(context)?;
        let (index, title) = step("disk");
        let (tree, empty) = context.stage(index, title, deadline, |context| {
            let tree = site.leave()?;
            Ok((tree, disk::format(context, planned, target, false)?))
        })?;
        let (index, title) = step("files");
        let filled = context.stage(index, title, deadline, |context| empty.fill(context, tree.root()))?;
        let (index, title) = step("boot");
        built.content_bytes = context.stage(index, title, deadline, |context| filled.finish(context, plan))?;
        tree
    } else {
        site.leave()?
    };
    built.packages = packages(&tree)?;
    if !plan.archives.is_empty() {
        let mut archives = Archives::new(context, plan, tree, begin)?;
        for &kind in &plan.archives {
            let (index, title) = step(kind.title());
            context.stage(index, title, deadline, |_| archives.write(kind))?;
        }
        archives.finish(&mut built);
    }
    if plan.disk.is_none() {
        let tree = built.archives.iter().find(|archive| archive.kind == ArchiveKind::Tree);
        built.content_bytes = tree.map_or(0, |archive| archive.length);
    }
    Ok(Built { scratch_bytes: context.scratch_peak(), ..built })
}

/// Have the host keep what the scratch disk holds after the stage at `stage`, and wait until it has. The digests of the
/// indexes of its package lists are `indexes`.
fn kept(context: &Context, input: &Receiver<Input>, stage: usize, indexes: Vec<String>) -> Result<(), Failure> {
    context.outbox().send(&FromGuest::Settled { stage, indexes });
    loop {
        context.check()?;
        match input.recv_timeout(LOOK) {
            Ok(Input::Kept) => return Ok(()),
            // Nobody types into a build.
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            // The machine is being powered off.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(report::plain(FailureKind::Cancelled, "the host has gone"));
            }
        }
    }
}

/// The device of the target disk.
///
/// # Errors
/// When the machine has none.
pub(crate) fn target(context: &Context) -> Result<&Path, Failure> {
    let target = context.machine().target.as_deref();
    target.ok_or_else(|| report::plain(FailureKind::Agent, "the machine has no target disk"))
}

/// Remove the tree of a build before this one.
///
/// # Errors
/// When it is there and cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).explain(FailureKind::Agent, || format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The installed packages in dpkg's database, as `name:architecture` and version.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn packages(tree: &Tree) -> Result<BTreeMap<String, String>, Failure> {
    let Some(path) = DPKG_STATUS.iter().find(|path| tree.is_file(path)) else { return Ok(BTreeMap::new()) };
    Ok(installed(&tree.read_text(path)?))
}

fn installed(status: &str) -> BTreeMap<String, String> {
    let stanza = |stanza: &str| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        // The third word is the state; a package that was removed leaves a stanza.
        let installed = field("Status")?.ends_with(" installed");
        let name = format!("{}:{}", field("Package")?, field("Architecture")?);
        installed.then_some((name, field("Version")?.to_owned()))
    };
    status.split("\n\n").filter_map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nDescription: x\n \
                      Version: 9\n\nPackage: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";
        assert_eq!(installed(status), BTreeMap::from([("a:amd64".into(), "1:2-3".into())]));
    }
}
