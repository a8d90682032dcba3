//! The stages together: which come first, which only once, which need others.

use super::Checker;
use crate::recipe::path::Path;
use crate::recipe::schema::stage_types;
use crate::recipe::sections::Sections;
use particle_vm_protocol::stage::Variant;
use particle_vm_protocol::{Engine, Stage};

/// The order of the stages, and which of them need others.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let path = Path::root().key("stages");
    let kinds: Vec<&str> = sections.stages.iter().map(|stage| stage.kind.as_deref().unwrap_or_default()).collect();
    // A stage that cannot be read may be the one that seems to be missing.
    let complete = !kinds.is_empty() && kinds.iter().all(|kind| stage_types().any(|known| known.name == *kind));
    let first_of = |kind: &str| sections.first(kind);

    for kind in [
        "debootstrap",
        "kernel",
        "bootloader",
        "bootc",
        "bootc.install",
        "bootupd",
        "ostree.init",
        "ostree.commit",
        "ostree.deploy",
    ] {
        let again = kinds.iter().enumerate().filter(|(_, other)| **other == kind).skip(1);
        for (index, _) in again {
            let first = first_of(kind).map_or(0, |first| first + 1);
            let help = format!("stage {first} is one already; keep one of them");
            checker.advise(&path.index(index).key("type"), format!("a second stage `{kind}`"), help);
        }
    }
    let based = sections.base_image.is_some();
    match first_of("debootstrap") {
        Some(tree) if based => {
            let help = "remove the stage, or the `base-image`";
            let message = "`debootstrap` makes a tree, and the recipe has a `base-image` that is one";
            checker.advise(&path.index(tree).key("type"), message, help);
        }
        None if based => {}
        Some(tree) => {
            for (index, kind) in kinds[..tree].iter().enumerate() {
                let message = format!("the stage `{kind}` stands before `debootstrap`");
                checker.advise(&path.index(index).key("type"), message, "`debootstrap` makes the tree; put it first");
            }
            without_apt(checker, sections, tree);
        }
        None if first_of("ostree.deploy").is_some() => without_tree(checker, &kinds),
        None if complete || sections.stages.is_empty() => {
            let help = "begin with `- type: debootstrap` and `options: { suite: trixie }`";
            checker.advise(&path, "no stage makes a tree", help);
        }
        None => {}
    }
    if let Some(bootloader) = first_of("bootloader")
        && complete
        // What an image or a commit has is not known here.
        && !based
        && first_of("ostree.deploy").is_none()
        && first_of("kernel").is_none()
        && sections.stages.iter().all(|stage| stage.known().is_some_and(|stage| !installs_kernel(&stage.stage)))
    {
        let help = "add a stage `kernel`";
        checker.advise(&path.index(bootloader).key("type"), "the bootloader has no kernel to start", help);
    }
    if let Some(bootc) = first_of("bootc") {
        let end = first_of("ostree.deploy").unwrap_or(kinds.len());
        let late = kinds[..end].iter().enumerate().skip(bootc + 1).filter(|(_, kind)| !kind.starts_with("ostree."));
        for (index, kind) in late.filter(|(_, kind)| **kind != "bootc") {
            let message = format!("the stage `{kind}` stands after `bootc`, which ends the work on the tree");
            checker.advise(&path.index(index).key("type"), message, "put it before");
        }
    }
    if let Some(install) = first_of("bootc.install") {
        installs_itself(checker, sections, install);
    }
    if let Some(deploy) = first_of("ostree.deploy") {
        around_deployment(checker, sections, &kinds, deploy);
    } else if complete
        && !based
        && makes_disk(sections)
        && first_of("bootloader").is_none()
        && !sections.tests.is_empty()
    {
        let help = "add a stage `bootloader`";
        checker.advise(&Path::root().key("tests"), "the tests run in the booted image, and it has no bootloader", help);
    }
}

/// What stands on the wrong side of the stage that deploys a commit, which is the one at `deploy`.
fn around_deployment(checker: &mut Checker<'_>, sections: &Sections, kinds: &[&str], deploy: usize) {
    for (index, kind) in kinds.iter().enumerate() {
        let (message, help) = match *kind {
            "bootloader" if index < deploy => {
                ("the bootloader starts the deployment, which is not there yet", "put it after `ostree.deploy`")
            }
            "ostree.init" | "ostree.config" | "ostree.pull" | "ostree.commit" if index > deploy => {
                ("the repository of the build is used before", "put it before `ostree.deploy`")
            }
            _ => continue,
        };
        checker.advise(&Path::root().key("stages").index(index).key("type"), message, help);
    }
    if sections.base_image.is_some() && sections.engine != Some(Engine::Plain) {
        let help = "write `engine: plain` to make a commit of the image, or remove the stage: without it the image is deployed";
        let path = Path::root().key("stages").index(deploy).key("type");
        checker.advise(&path, "the recipe has a `base-image` that becomes the system", help);
    }
}

/// Whether there is an image that can install itself, at the stage `install`.
fn installs_itself(checker: &mut Checker<'_>, sections: &Sections, install: usize) {
    let path = Path::root().key("stages").index(install).key("type");
    if sections.base_image.is_none() && checker.reads(&Path::root().key("base-image")) {
        checker.advise(&path, "there is no container image to install", "add a `base-image`");
    } else if sections.engine.is_some_and(|engine| engine != Engine::Bootc) {
        checker.advise(&path, "the recipe has another `engine`", "remove the stage, or write `engine: bootc`");
    } else if install > 0 {
        checker.advise(&path, "the image is installed before stages work in it", "put the stage first");
    }
}

/// Stages that work on a tree, in a recipe that makes none: what is deployed was committed elsewhere.
fn without_tree(checker: &mut Checker<'_>, kinds: &[&str]) {
    let before = kinds.iter().enumerate().take_while(|(_, kind)| **kind != "ostree.deploy");
    for (index, kind) in before.filter(|(_, kind)| !matches!(**kind, "ostree.init" | "ostree.config" | "ostree.pull")) {
        let message = format!("the stage `{kind}` has no tree to work on");
        let help = "put it after `ostree.deploy`, or begin with `debootstrap`";
        checker.advise(&Path::root().key("stages").index(index).key("type"), message, help);
    }
}

/// Whether a format is a disk, as far as that can be read.
fn makes_disk(sections: &Sections) -> bool {
    sections.output.as_ref().is_none_or(|output| output.formats.iter().any(|format| format.is_disk()))
}

fn installs_kernel(stage: &Stage) -> bool {
    let packages = match stage {
        Stage::Apt(options) => &options.packages,
        Stage::Debootstrap(options) => &options.include,
        // What a script does is not known.
        Stage::Run(_) => return true,
        _ => return false,
    };
    packages.iter().any(|package| package.starts_with("linux-image"))
}

/// Stages that install packages in a tree that was made without apt.
fn without_apt(checker: &mut Checker<'_>, sections: &Sections, tree: usize) {
    let Some(Stage::Debootstrap(options)) = sections.stages[tree].known().map(|stage| &stage.stage) else { return };
    let bare = matches!(options.variant, Variant::Extract | Variant::Custom | Variant::Essential);
    if !bare || options.include.iter().any(|package| package == "apt") {
        return;
    }
    let user = sections
        .stages
        .iter()
        .enumerate()
        .skip(tree)
        .filter_map(|(index, stage)| Some((index, stage.kind.as_deref()?)))
        .find(|(_, kind)| matches!(*kind, "apt" | "kernel" | "locale" | "keymap" | "bootloader"));
    if let Some((index, kind)) = user {
        let path = Path::root().key("stages").index(index).key("type");
        let help = "use the variant `minbase`, or add `apt` to its `include`";
        checker.advise(&path, format!("the stage `{kind}` needs apt, which the tree lacks"), help);
    }
}
