//! Which engine makes a disk of an image.

use super::findings::{Finding, Severity};
use super::ostree::Composefs;
use super::report::Facts;
use serde::Serialize;

/// What makes a disk of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The image's own `bootc install`, in a chroot of it.
    Bootc,
    /// The `ostree` of the appliance: layers imported, one commit, deployed.
    NativeOstree,
    /// The tree on a file system.
    Plain,
    /// None fits the image as it is.
    None,
}

impl Engine {
    /// The name in JSON and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootc => "bootc",
            Self::NativeOstree => "native-ostree",
            Self::Plain => "plain",
            Self::None => "none",
        }
    }
}

/// What deployments lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A repository of OSTree.
    Ostree,
    /// A repository of bootc's composefs backend.
    Composefs,
}

impl Backend {
    /// What `engine` makes of an image; none where it makes no deployment.
    pub(super) fn of(engine: Engine, facts: &Facts) -> Option<Self> {
        match engine {
            Engine::NativeOstree => Some(Self::Ostree),
            Engine::Bootc => Some(if is_composefs_only(facts) { Self::Composefs } else { Self::Ostree }),
            Engine::Plain | Engine::None => None,
        }
    }
}

/// Whether nothing but bootc's composefs backend boots the kernel of an image.
fn is_composefs_only(facts: &Facts) -> bool {
    facts.kernel().is_some_and(|kernel| {
        let initramfs = kernel.initramfs.as_ref();
        kernel.uki_path.is_some()
            || initramfs.is_some_and(|initramfs| initramfs.bootc_setup && !initramfs.ostree_prepare_root)
    })
}

/// The engine, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The engine that `build` uses.
    pub name: Engine,
    /// The one that the image is made for: the same, unless something is missing.
    pub candidate: Engine,
    /// What the deployment of the candidate lies in; null where it makes none.
    pub backend: Option<Backend>,
    /// Why it is that one, a sentence.
    pub reason: String,
    /// Codes of the findings that keep the candidate from working.
    pub missing: Vec<&'static str>,
    /// What the engine needs beside the image.
    pub requirements: Requirements,
}

/// What an engine needs beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requirements {
    /// Stages that a recipe has to have, because the image lacks what they bring.
    pub stages: Vec<&'static str>,
    /// Firmware that the disk can boot on.
    pub firmware: Vec<&'static str>,
    /// What `prepare-root.conf` says of composefs.
    pub composefs: Option<Composefs>,
}

/// The engine that the image is made for, and why.
///
/// What mounts the root decides, and that is in the initramfs: one made for OSTree cannot boot a composefs image and the
/// other way round (install of such an image succeeds, and nothing boots).
pub(super) fn candidate(facts: &Facts) -> (Engine, String) {
    let Some(meant) = meant_for_deployment(facts) else {
        let reason = "the image says nothing of OSTree or bootc, so its tree goes to a file system as it is";
        return (Engine::Plain, reason.into());
    };
    let Some(kernel) = facts.kernel() else {
        return (Engine::NativeOstree, format!("{meant}, and it has no kernel that would say more"));
    };
    if let Some(path) = &kernel.uki_path {
        let reason = format!("its kernel is a unified image (/{path}), which only bootc's composefs backend boots");
        return (Engine::Bootc, reason);
    }
    let initramfs = kernel.initramfs.as_ref();
    if initramfs.is_some_and(|initramfs| initramfs.ostree_prepare_root) {
        return (Engine::NativeOstree, "its initramfs has ostree-prepare-root".into());
    }
    if initramfs.is_some_and(|initramfs| initramfs.bootc_setup) {
        let reason =
            "its initramfs has bootc's initramfs-setup and no ostree-prepare-root: it boots composefs images only";
        return (Engine::Bootc, reason.into());
    }
    (Engine::NativeOstree, format!("{meant}, and its initramfs has nothing that says for which backend"))
}

/// What shows that an image is meant to be deployed by OSTree or bootc.
fn meant_for_deployment(facts: &Facts) -> Option<String> {
    let label = ["containers.bootc", "ostree.bootable"].into_iter().find(|label| facts.label(label));
    let of_kernel =
        |has: fn(&super::Initramfs) -> bool| facts.bootable().filter_map(|kernel| kernel.initramfs.as_ref()).any(has);
    if let Some(label) = label {
        Some(format!("it has the label {label}"))
    } else if of_kernel(|initramfs| initramfs.ostree_prepare_root || initramfs.bootc_setup) {
        Some("its initramfs prepares a deployment".into())
    } else if let Some(conf) = &facts.ostree.prepare_root {
        Some(format!("it has /{}", conf.path))
    } else if facts.bootc.binary {
        Some("it has bootc".into())
    } else if matches!(facts.ostree.etc, Some("usr/etc" | "both")) {
        Some("it has /usr/etc".into())
    } else if facts.ostree.sysroot && facts.ostree.link {
        Some("it has /sysroot and /ostree".into())
    } else {
        None
    }
}

/// The choice, when the findings about `candidate` are `findings`.
pub(super) fn choose(facts: &Facts, candidate: Engine, reason: String, findings: &[Finding]) -> Choice {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let missing: Vec<_> = errors.map(|finding| finding.code).collect();
    let name = if missing.is_empty() { candidate } else { Engine::None };
    let backend = Backend::of(candidate, facts);
    let requirements = match name {
        Engine::None => Requirements::default(),
        _ => requirements(facts, name, backend),
    };
    Choice { name, candidate, backend, reason, missing, requirements }
}

fn requirements(facts: &Facts, engine: Engine, backend: Option<Backend>) -> Requirements {
    let mut requirements = Requirements {
        composefs: facts.ostree.prepare_root.as_ref().and_then(|conf| conf.composefs),
        firmware: if backend == Some(Backend::Composefs) { vec!["uefi"] } else { vec!["bios", "uefi"] },
        ..Requirements::default()
    };
    match engine {
        Engine::Plain => {
            requirements.composefs = None;
            let kernel = facts.kernel();
            if kernel.is_none() {
                requirements.stages.push("kernel");
            }
            if facts.init.is_none() || kernel.is_some_and(|kernel| kernel.initramfs.is_none()) {
                requirements.stages.push("apt");
            }
            requirements.stages.push("bootloader");
        }
        Engine::NativeOstree | Engine::Bootc | Engine::None => {}
    }
    requirements
}
