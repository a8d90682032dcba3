//! A deployment as the booted system sees it.

use crate::disk::fstab;
use crate::mountpoints::MountPoints;
use crate::paths;
use crate::report::{self, Explain};
use crate::tree::{Attributes, Tree};
use particle_vm_protocol::{Failure, FailureKind, Plan};
use std::fs;
use std::path::{Path, PathBuf};

/// Where homes and the like are in a system whose `/var` alone can be written to, and the permissions of those that are
/// not as usual.
const PRIVATE: [&str; 1] = ["/var/roothome"];

/// What mounts partitions by their types, systemd-gpt-auto-generator(8), where a link hides it (systemd.generator(7)).
const GPT_AUTO: &str = "/etc/systemd/system-generators/systemd-gpt-auto-generator";

/// A deployment, mounted at [`paths::TREE`]: `/etc` and `/var` can be written to.
#[derive(Debug)]
pub struct Deployment {
    mounts: MountPoints,
}

impl Deployment {
    /// Mount what is in the folder `root`, with `etc` as its `/etc` and `var` as its `/var`.
    ///
    /// # Errors
    /// When one of them is no folder.
    pub fn mount(root: &Path, etc: &Path, var: &Path) -> Result<Self, Failure> {
        let tree = Path::new(paths::TREE);
        fs::create_dir_all(tree).explain(FailureKind::Agent, || format!("cannot make {}", tree.display()))?;
        let mut mounts = MountPoints::default();
        mounts.bind(root, tree)?;
        mounts.seal()?;
        mounts.bind(etc, &tree.join("etc"))?;
        mounts.bind(var, &tree.join("var"))?;
        Ok(Self { mounts })
    }

    /// Make the folders that the links in the root lead to (`/home` to `var/home`): in the booted system
    /// systemd-tmpfiles(8) does, and stages come before that.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn prepare(&self, tree: &Tree) -> Result<(), Failure> {
        for name in tree.names("/")? {
            let Some(target) = tree.link_target(&name) else { continue };
            let Some(target) = target.to_str() else { continue };
            let target = format!("/{}", target.trim_start_matches('/'));
            let plain = target.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
            if plain && target.starts_with("/var/") && !tree.exists(&target) {
                let mode = if PRIVATE.contains(&target.as_str()) { 0o700 } else { 0o755 };
                tree.make_folder(&target, Attributes::root(mode))?;
            }
        }
        Ok(())
    }

    /// Complete the mount table: what is on the disk beside the root, which is mounted without it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_fstab(&self, tree: &Tree, plan: &Plan) -> Result<(), Failure> {
        let before = tree.read_text(fstab::PATH)?;
        let Some(disk) = &plan.disk else { return Ok(()) };
        let mut disk = fstab::of_deployment(disk);
        for point in disk.partitions.iter_mut().filter_map(|partition| partition.mountpoint.as_mut()) {
            *point = behind_link(tree, point);
        }
        let table = fstab::merge(&before, &disk);
        // A table without a line stays as the image has it, so that it is no change of the machine's.
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        if lines(&table) > lines(&before) {
            tree.write(fstab::PATH, table, 0o644)?;
        }
        Ok(())
    }

    /// Keep partitions from being mounted by their types. `/boot` is OSTree's, and looks unused: the EFI system partition
    /// would be mounted on it on demand, and an update that is staged is lost at a shutdown that finds nothing mounted
    /// there ("Remounting /boot read-write: Invalid argument"). No bit of that partition is regarded ("no-auto" of the
    /// Discoverable Partitions Specification is for others).
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn mount_by_table_only(&self, tree: &Tree) -> Result<(), Failure> {
        Ok(tree.symlink("/dev/null", GPT_AUTO)?)
    }

    /// Unmount it.
    ///
    /// # Errors
    /// When something in it is in use.
    pub fn unmount(self) -> Result<(), Failure> {
        self.mounts.undo()
    }
}

/// The one folder in the folder `path`.
///
/// # Errors
/// When there is none, or several.
pub fn only_folder(path: &Path) -> Result<PathBuf, Failure> {
    let explain = || format!("cannot look for the deployment in {}", path.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(path).explain(FailureKind::Agent, explain)? {
        let entry = entry.explain(FailureKind::Agent, explain)?;
        if entry.file_type().explain(FailureKind::Agent, explain)?.is_dir() {
            folders.push(entry.path());
        }
    }
    match (folders.pop(), folders.len()) {
        (Some(folder), 0) => Ok(folder),
        (_, others) => {
            let count = if others == 0 { "none".to_owned() } else { (others + 1).to_string() };
            let message =
                format!("one folder was to be in {} after the deployment, and there is {count}", path.display());
            Err(report::plain(FailureKind::Agent, message))
        }
    }
}

/// Where a path leads when its first name is a link to `/var`, as `/home` is one to `var/home`.
fn behind_link(tree: &Tree, path: &str) -> String {
    let inside = path.trim_start_matches('/');
    let (first, rest) = inside.split_once('/').map_or((inside, ""), |(first, _)| (first, &inside[first.len()..]));
    let target = tree.link_target(first);
    match target.as_deref().and_then(Path::to_str).map(|target| target.trim_start_matches('/')) {
        Some(target) if target.starts_with("var/") && !target.contains("..") => format!("/{target}{rest}"),
        _ => path.to_owned(),
    }
}
