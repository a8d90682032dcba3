//! A commit as a system on the disk: its deployment, and what beside it makes one of it.

use super::import::REPO;
use super::settings::Settings;
use crate::boot;
use crate::context::Context;
use crate::disk::fstab;
use crate::paths;
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::{Attributes, Tree};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use particle_vm_protocol::{Base, Failure, FailureKind, Plan};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the origin of the deployment is written before it is one.
const ORIGIN: &str = "/scratch/origin";

/// What `bootc install` writes about the installation, on the root of the disk.
const ALEPH: &str = "/.bootc-aleph.json";

/// Where homes and the like are in a system whose `/var` alone can be written to, and the permissions of those that are
/// not as usual.
const PRIVATE: [&str; 1] = ["/var/roothome"];

/// A deployment, mounted at [`paths::TREE`] as the booted system sees it: `/etc` and `/var` can be written to.
#[derive(Debug)]
pub struct Deployment {
    mounts: Vec<PathBuf>,
}

/// Deploy the commit `reference`.
///
/// # Errors
/// When ostree refuses, or something cannot be written.
pub fn deploy(
    context: &Context,
    sysroot: &Path,
    plan: &Plan,
    base: &Base,
    (reference, settings): (&str, &Settings),
) -> Result<Deployment, Failure> {
    let at = format!("--sysroot={}", sysroot.display());
    let admin = |verb: &str| Command::new("ostree").args(["admin", verb, &at]);
    context.run(&admin("stateroot-init").arg(&settings.stateroot))?;
    let mut command = admin("deploy").arg(format!("--stateroot={}", settings.stateroot));
    // Without a file ostree writes the name of the commit, which `ostree admin status` and `upgrade` go by: there is none
    // other than this one, until somebody names a place to update from.
    if let Some(origin) = origin(base) {
        fs::write(ORIGIN, origin).explain(FailureKind::Agent, || format!("cannot write {ORIGIN}"))?;
        command = command.arg(format!("--origin-file={ORIGIN}"));
    }
    for argument in arguments(plan, settings)? {
        // Not `--karg`, which replaces what begins alike: a kernel may have several consoles.
        command = command.arg(format!("--karg-append={argument}"));
    }
    context.run(&command.arg(reference))?;
    let folder = find(sysroot, &settings.stateroot)?;
    if settings.verity {
        let repo = format!("--repo={}", sysroot.join(REPO).display());
        context.run(&Command::new("ostree").args(["config", &repo, "set", "ex-integrity.fsverity", "yes"]))?;
        context.run(&admin("post-copy"))?;
    }
    let tree = Tree::open(sysroot).explain(FailureKind::Agent, || "cannot open the disk")?;
    tree.write(ALEPH, aleph(base)?, 0o644)?;
    Deployment::mount(&folder, &sysroot.join("ostree/deploy").join(&settings.stateroot).join("var"))
}

/// The origin of the deployment, where the image comes from a place that the installed system can reach.
fn origin(base: &Base) -> Option<String> {
    (!base.origin.is_empty()).then(|| format!("[origin]\ncontainer-image-reference={}\n", base.origin))
}

/// The kernel command line: what finds the root, what the image asks for, what the recipe asks for.
fn arguments(plan: &Plan, settings: &Settings) -> Result<Vec<String>, Failure> {
    let uuid = |point: &str| plan.disk.as_ref()?.mounted_at(point)?.filesystem.as_ref();
    let root = uuid("/").ok_or_else(|| report::plain(FailureKind::Input, "no partition is mounted at `/`"))?;
    let mut arguments = vec![format!("root=UUID={}", root.uuid), "rw".to_owned()];
    arguments.extend(uuid("/boot").map(|boot| format!("boot=UUID={}", boot.uuid)));
    arguments.extend(settings.kargs.iter().cloned());
    arguments.extend(boot::arguments(plan));
    Ok(arguments)
}

/// The folder of the one deployment that there is.
fn find(sysroot: &Path, stateroot: &str) -> Result<PathBuf, Failure> {
    let deployments = sysroot.join("ostree/deploy").join(stateroot).join("deploy");
    let explain = || format!("cannot look for the deployment in {}", deployments.display());
    let entries = fs::read_dir(&deployments).explain(FailureKind::Agent, explain)?;
    for entry in entries {
        let entry = entry.explain(FailureKind::Agent, explain)?;
        if entry.file_type().explain(FailureKind::Agent, explain)?.is_dir() {
            return Ok(entry.path());
        }
    }
    Err(report::plain(FailureKind::Agent, "ostree has deployed nothing"))
}

/// `/.bootc-aleph.json`, as bootc 1.16 writes it ("install/aleph.rs").
fn aleph(base: &Base) -> Result<String, Failure> {
    let config: Value = serde_json::from_str(&base.config)
        .explain(FailureKind::Input, || "cannot read the configuration of the image")?;
    let labels = config["config"]["Labels"].as_object().cloned().unwrap_or_default();
    let kernel = nix::sys::utsname::uname().explain(FailureKind::Agent, || "the kernel has no name")?;
    let aleph = json!({
        "image": base.reference,
        "digest": base.digest,
        "target-image": (!base.origin.is_empty()).then_some(&base.origin),
        "version": labels.get("org.opencontainers.image.version"),
        "timestamp": config["created"],
        "labels": labels,
        "kernel": kernel.release().to_string_lossy(),
        "selinux": "disabled",
    });
    Ok(format!("{aleph:#}\n"))
}

impl Deployment {
    /// Mount it. `var` is what all deployments of its stateroot have as `/var`.
    fn mount(folder: &Path, var: &Path) -> Result<Self, Failure> {
        let tree = Path::new(paths::TREE);
        fs::create_dir_all(tree).explain(FailureKind::Agent, || format!("cannot make {}", tree.display()))?;
        let mut deployment = Self { mounts: Vec::new() };
        deployment.bind(folder, tree)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, tree, None::<&str>, read_only, None::<&str>)
            .explain(FailureKind::Agent, || "cannot make the deployment read-only")?;
        deployment.bind(&folder.join("etc"), &tree.join("etc"))?;
        deployment.bind(var, &tree.join("var"))?;
        Ok(deployment)
    }

    fn bind(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        // Neither is a link that leads elsewhere: ostree has made them, or the image has none of them as a folder.
        for path in [from, to] {
            let is_folder = fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
            if !is_folder {
                let message = format!("the deployment has no folder {}", path.display());
                return Err(report::plain(FailureKind::Input, message));
            }
        }
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .explain(FailureKind::Agent, || format!("cannot mount {} at {}", from.display(), to.display()))?;
        self.mounts.push(to.to_owned());
        Ok(())
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

    /// Complete the mount table: what is on the disk beside the root, which OSTree mounts itself.
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

    /// Unmount it.
    ///
    /// # Errors
    /// When something in it is in use.
    pub fn unmount(mut self) -> Result<(), Failure> {
        self.undo()
    }

    fn undo(&mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        for point in std::mem::take(&mut self.mounts).iter().rev() {
            let unmounted = umount2(point, MntFlags::UMOUNT_NOFOLLOW);
            result =
                result.and(unmounted.explain(FailureKind::Agent, || format!("cannot unmount {}", point.display())));
        }
        result
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

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Err(failure) = self.undo() {
            eprintln!("particle-vm agent: {}", failure.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use particle_vm_protocol::Engine;
    use particle_vm_protocol::stage::Bootloader;

    #[test]
    fn an_image_from_no_registry_has_no_origin() {
        let mut base = Base {
            engine: Engine::NativeOstree,
            layers: Vec::new(),
            manifest: String::new(),
            digest: "sha256:00".into(),
            config: "{}".into(),
            created: 0,
            reference: "oci:image:1".into(),
            origin: String::new(),
            bootloader: Bootloader::default(),
        };
        let target =
            |base: &Base| serde_json::from_str::<Value>(&aleph(base).unwrap()).unwrap()["target-image"].clone();
        assert_eq!((origin(&base), target(&base)), (None, Value::Null));
        base.origin = "ostree-unverified-registry:example.org/a:1".into();
        let written = "[origin]\ncontainer-image-reference=ostree-unverified-registry:example.org/a:1\n";
        assert_eq!(origin(&base).as_deref(), Some(written));
        assert_eq!(target(&base), base.origin.as_str());
    }
}
