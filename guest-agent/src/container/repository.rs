//! The commit of the finished tree.

use crate::context::Context;
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::Tree;
use particle_vm_protocol::stage::OstreeCommit;
use particle_vm_protocol::{Failure, FailureKind, Plan, Stage};
use std::fs;
use std::path::Path;

/// The OSTree repository of the build.
pub const REPOSITORY: &str = "/scratch/repo";

/// Commit the tree as the plan says. Returns the ref and the checksum.
///
/// # Errors
/// When the plan has no commit, the tree is not one that can be committed, or ostree fails.
pub(super) fn commit(
    context: &Context,
    plan: &Plan,
    tree: &Tree,
    source_date: u64,
) -> Result<(String, String), Failure> {
    let options = plan.stages.iter().find_map(|planned| match &planned.stage {
        Stage::OstreeCommit(options) => Some(options),
        _ => None,
    });
    let options = options.ok_or_else(|| report::plain(FailureKind::Input, "no stage `ostree.commit` names a ref"))?;
    empty_devices(tree)?;
    let _etc = UsrEtc::new(tree)?;
    let command = command(context, tree, options, source_date)?;
    let output = context.capture(&command)?;
    let checksum = output.lines().last().map(str::trim).unwrap_or_default().to_owned();
    if checksum.len() != 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(report::plain(
            FailureKind::Command,
            format!("ostree commit answered `{checksum}`, and no checksum"),
        ));
    }
    let repo = format!("--repo={REPOSITORY}");
    context.run(&Command::new("ostree").args(["summary", "--update", &repo]))?;
    context.output(format!("{} {checksum}", options.reference));
    Ok((options.reference.clone(), checksum))
}

/// The command that commits.
fn command(context: &Context, tree: &Tree, options: &OstreeCommit, source_date: u64) -> Result<Command, Failure> {
    let repo = format!("--repo={REPOSITORY}");
    let parent = match &options.parent {
        None => "none".to_owned(),
        Some(parent) => {
            context.capture(&Command::new("ostree").args(["rev-parse", &repo, "--", parent]))?.trim().into()
        }
    };
    let mut command = Command::new("ostree").args(["commit", &repo, "--no-bindings"]);
    command = command.arg(format!("--tree=dir={}", tree.root().display()));
    command = command.arg(format!("--branch={}", options.reference)).arg(format!("--parent={parent}"));
    command = command.arg(format!("--timestamp=@{source_date}"));
    if options.bootable {
        command = command.arg("--bootable");
    }
    if let Some(subject) = &options.subject {
        command = command.arg(format!("--subject={subject}"));
    }
    let version = options.version.iter().map(|version| ("version", version));
    for (key, value) in version.chain(options.metadata.iter().map(|(key, value)| (key.as_str(), value))) {
        command = command.arg(format!("--add-metadata-string={key}={value}"));
    }
    Ok(command)
}

/// Device nodes cannot be committed, and a running system has its own.
fn empty_devices(tree: &Tree) -> Result<(), Failure> {
    if tree.link_target("/dev").is_none() {
        tree.clear("/dev", |_| false)?;
    }
    Ok(())
}

/// `/etc` of a tree at `/usr/etc`, where a commit has it (ostree, "Deployments"), until this is dropped.
struct UsrEtc<'a>(&'a Path);

impl<'a> UsrEtc<'a> {
    fn new(tree: &'a Tree) -> Result<Self, Failure> {
        if tree.exists("/usr/etc") {
            let message = "the tree has `/etc` and `/usr/etc`; a commit is made of one of them";
            return Err(report::plain(FailureKind::Input, message));
        }
        if tree.link_target("/etc").is_some() || tree.link_target("/usr").is_some() {
            return Err(report::plain(
                FailureKind::Input,
                "`/etc` or `/usr` is a link, and a commit has folders there",
            ));
        }
        fs::rename(tree.root().join("etc"), tree.root().join("usr/etc"))
            .explain(FailureKind::Agent, || "cannot move `/etc` of the tree to `/usr/etc`")?;
        Ok(Self(tree.root()))
    }
}

impl Drop for UsrEtc<'_> {
    fn drop(&mut self) {
        // Only a shell in a build that failed would miss it.
        let _ = fs::rename(self.0.join("usr/etc"), self.0.join("etc"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;

    #[test]
    fn etc_is_in_usr_while_a_commit_is_made() {
        let folder = Folder::new("usr-etc");
        fs::create_dir_all(folder.path().join("usr")).unwrap();
        fs::create_dir_all(folder.path().join("etc/apt")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let moved = UsrEtc::new(&tree).unwrap();
        assert!(tree.is_folder("/usr/etc/apt") && !tree.exists("/etc"));
        drop(moved);
        assert!(tree.is_folder("/etc/apt") && !tree.exists("/usr/etc"));
        fs::create_dir(folder.path().join("usr/etc")).unwrap();
        assert!(UsrEtc::new(&tree).is_err_and(|failure| failure.message.contains("`/usr/etc`")));
    }
}
