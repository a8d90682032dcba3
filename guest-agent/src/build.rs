//! Building an image: the stages in order, then the disk.

use crate::context::Context;
use crate::disk;
use crate::ostree;
use crate::paths;
use crate::plain;
use crate::report::{self, Explain};
use crate::stage::Site;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::plan::STEP_DEADLINE;
use particle_vm_protocol::{Engine, Failure, FailureKind, Plan};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// dpkg's database.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// Run the stages of `plan` and assemble the disk.
///
/// # Errors
/// The failure of the first stage or step that fails.
pub fn run(context: &Context, plan: &Plan) -> Result<Built, Failure> {
    let target = context.machine().target.as_ref();
    let target = target.ok_or_else(|| report::plain(FailureKind::Agent, "the machine has no target disk"))?;
    remove(Path::new(paths::TREE))?;
    let deadline = Some(Duration::from_secs(STEP_DEADLINE));
    let mut site = Site::new(context, plan);
    match plan.base.as_ref().map(|base| (base.engine, base)) {
        None => {}
        Some((Engine::Plain, base)) => context.stage(0, "unpack", deadline, |context| {
            plain::unpack(context, base, Path::new(paths::TREE))?;
            site.enter()
        })?,
        Some((Engine::NativeOstree, base)) => return ostree::build(context, plan, base, target),
        Some((engine, _)) => {
            return Err(report::plain(FailureKind::Agent, format!("the agent has no engine `{engine}`")));
        }
    }
    let before = plan.steps_before_stages();
    for (index, planned) in plan.stages.iter().enumerate() {
        let deadline = Some(site.deadline(index));
        context.stage(before + index, &planned.title, deadline, |_| site.perform(index))?;
    }
    let after = before + plan.stages.len();
    context.stage(after, "initramfs", deadline, |_| site.complete())?;
    let (tree, empty) = context.stage(after + 1, "disk", deadline, |context| {
        let tree = site.leave()?;
        Ok((tree, disk::format(context, &plan.disk, target, false)?))
    })?;
    let filled = context.stage(after + 2, "files", deadline, |context| empty.fill(context, tree.root()))?;
    let content_bytes = context.stage(after + 3, "boot", deadline, |context| filled.finish(context, plan))?;
    let packages = packages(&tree.read_text(DPKG_STATUS)?);
    Ok(Built { packages, content_bytes, scratch_bytes: context.scratch_peak() })
}

/// Remove the tree of a build before this one.
fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).explain(FailureKind::Agent, || format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The installed packages in dpkg's database, as `name:architecture` and version.
pub(crate) fn packages(status: &str) -> BTreeMap<String, String> {
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
        assert_eq!(packages(status), BTreeMap::from([("a:amd64".into(), "1:2-3".into())]));
    }
}
