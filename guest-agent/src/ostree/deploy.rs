//! A commit as a system on the disk: its deployment, and what beside it makes one of it.

use super::Commit;
use super::import::{REPO, ostree};
use super::settings::Settings;
use crate::boot;
use crate::context::Context;
use crate::deployment::{self, Deployment};
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::Tree;
use particle_vm_protocol::message::Deployed;
use particle_vm_protocol::{Base, Engine, Failure, FailureKind, Plan};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the origin of the deployment is written before it is one.
const ORIGIN: &str = "/scratch/origin";

/// What `bootc install` writes about the installation, on the root of the disk.
const ALEPH: &str = "/.bootc-aleph.json";

/// Deploy a commit: that of the image which the plan starts from, or another.
///
/// # Errors
/// When ostree refuses, or something cannot be written.
pub fn deploy(context: &Context, sysroot: &Path, plan: &Plan, commit: &Commit) -> Result<Deployment, Failure> {
    let Commit { reference, settings } = commit;
    let at = format!("--sysroot={}", sysroot.display());
    let admin = |verb: &str| Command::new("ostree").args(["admin", verb, &at]);
    context.run(&admin("stateroot-init").arg(&settings.stateroot))?;
    let mut command = admin("deploy").arg(format!("--stateroot={}", settings.stateroot));
    // Without a file ostree writes the name of the commit, which `ostree admin status` and `upgrade` go by: there is none
    // other than this one, until somebody names a place to update from.
    let image = plan.base.as_ref().filter(|base| base.engine != Engine::Plain);
    if let Some(origin) = image.and_then(origin) {
        fs::write(ORIGIN, origin).explain(FailureKind::Agent, || format!("cannot write {ORIGIN}"))?;
        command = command.arg(format!("--origin-file={ORIGIN}"));
    }
    for argument in arguments(plan, settings)? {
        // Not `--karg`, which replaces what begins alike: a kernel may have several consoles.
        command = command.arg(format!("--karg-append={argument}"));
    }
    context.run(&command.arg(reference))?;
    if settings.verity {
        let repo = format!("--repo={}", sysroot.join(REPO).display());
        context.run(&Command::new("ostree").args(["config", &repo, "set", "ex-integrity.fsverity", "yes"]))?;
        context.run(&admin("post-copy"))?;
    }
    if let Some(image) = image {
        let tree = Tree::open(sysroot).explain(FailureKind::Agent, || "cannot open the disk")?;
        tree.write(ALEPH, aleph(image)?, 0o644)?;
    }
    mount(sysroot)
}

/// The commit that is deployed in `sysroot`, as `ostree show` has it.
///
/// # Errors
/// When ostree fails or says something else.
pub fn identify(context: &Context, sysroot: &Path) -> Result<Deployed, Failure> {
    let (_, folder) = folders(sysroot)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    // Of the same commit there may be several, with numbers.
    let commit = name.split('.').next().unwrap_or_default().to_owned();
    let shown = context.capture(&ostree(sysroot, "show").arg(&commit))?;
    let content = shown.lines().find_map(|line| line.strip_prefix("ContentChecksum:"));
    let content = content.ok_or_else(|| {
        report::plain(FailureKind::Agent, format!("`ostree show` tells no checksum of the content:\n{shown}"))
    })?;
    Ok(Deployed { commit, content: content.trim().to_owned() })
}

/// The origin of the deployment, where the image comes from a place that the installed system can reach.
fn origin(base: &Base) -> Option<String> {
    (!base.origin.is_empty()).then(|| format!("[origin]\ncontainer-image-reference={}\n", base.origin))
}

/// The kernel command line: what finds the root, what the image asks for, what the recipe asks for.
fn arguments(plan: &Plan, settings: &Settings) -> Result<Vec<String>, Failure> {
    let mut arguments = vec![format!("root=UUID={}", boot::root_uuid(plan)?), "rw".to_owned()];
    arguments.extend(plan.root_argument.clone());
    let boot = plan.disk.as_ref().and_then(|disk| disk.mounted_at("/boot")?.filesystem.as_ref());
    arguments.extend(boot.map(|boot| format!("boot=UUID={}", boot.uuid)));
    arguments.extend(settings.kargs.iter().cloned());
    arguments.extend(boot::arguments_beside(plan));
    Ok(arguments)
}

/// Mount the one deployment in `sysroot`.
///
/// # Errors
/// When there is none.
pub fn mount(sysroot: &Path) -> Result<Deployment, Failure> {
    let (stateroot, folder) = folders(sysroot)?;
    Deployment::mount(&folder, &folder.join("etc"), &stateroot.join("var"))
}

/// The folders of the one stateroot and its one deployment.
fn folders(sysroot: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let stateroot = deployment::only_folder(&sysroot.join("ostree/deploy"))?;
    let folder = deployment::only_folder(&stateroot.join("deploy"))?;
    Ok((stateroot, folder))
}

/// `/.bootc-aleph.json`, as bootc 1.16 writes it ("install/aleph.rs").
fn aleph(base: &Base) -> Result<String, Failure> {
    let config: Value = serde_json::from_str(&base.config)
        .explain(FailureKind::Input, || "cannot read the configuration of the image")?;
    let labels = config["config"]["Labels"].as_object().cloned().unwrap_or_default();
    let version = labels.get("org.opencontainers.image.version").and_then(Value::as_str);
    let kernel = nix::sys::utsname::uname().explain(FailureKind::Agent, || "the kernel has no name")?;
    let aleph = json!({
        "image": base.reference,
        "digest": base.digest,
        "target-image": (!base.origin.is_empty()).then_some(&base.origin),
        // `bootupctl status` takes nothing but a text.
        "version": version.unwrap_or(&base.digest),
        "timestamp": config["created"],
        "labels": labels,
        "kernel": kernel.release().to_string_lossy(),
        "selinux": "disabled",
    });
    Ok(format!("{aleph:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::plan;
    use particle_vm_protocol::Backend;

    #[test]
    fn the_kernel_is_told_of_the_root_then_of_the_image_then_of_the_recipe() {
        let settings = Settings { stateroot: "default".into(), kargs: vec!["quiet".into()], verity: false };
        let mut plan = plan(r#"[{ "type": "kernel", "options": { "cmdline": ["console=ttyS0"] } }]"#);
        plan.root_argument = Some("rootflags=noatime".into());
        let told = ["root=UUID=root", "rw", "rootflags=noatime", "boot=UUID=boot", "quiet", "console=ttyS0"];
        assert_eq!(arguments(&plan, &settings).unwrap(), told);
    }

    #[test]
    fn an_image_from_no_registry_has_no_origin() {
        let mut base = Base {
            engine: Engine::NativeOstree,
            backend: Backend::Ostree,
            layers: Vec::new(),
            manifest: String::new(),
            digest: "sha256:00".into(),
            config: "{}".into(),
            created: 0,
            reference: "oci:image:1".into(),
            origin: String::new(),
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
