//! The stages together: which come first, which only once, which need others.

use super::Checker;
use crate::recipe::path::Path;
use crate::recipe::schema::stage_types;
use crate::recipe::sections::Sections;
use particle_vm_protocol::Stage;
use particle_vm_protocol::stage::Variant;

/// The order of the stages, and which of them need others.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let path = Path::root().key("stages");
    let kinds: Vec<&str> = sections.stages.iter().map(|stage| stage.kind.as_deref().unwrap_or_default()).collect();
    // A stage that cannot be read may be the one that seems to be missing.
    let complete = !kinds.is_empty() && kinds.iter().all(|kind| stage_types().any(|known| known.name == *kind));
    let first_of = |kind: &str| kinds.iter().position(|other| *other == kind);

    for kind in ["debootstrap", "kernel", "bootloader", "bootc", "bootupd", "ostree.init", "ostree.commit"] {
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
        None if complete || sections.stages.is_empty() => {
            let help = "begin with `- type: debootstrap` and `options: { suite: trixie }`";
            checker.advise(&path, "no stage makes a tree", help);
        }
        None => {}
    }
    if let Some(bootloader) = first_of("bootloader")
        && complete
        // What an image has is not known here.
        && !based
        && first_of("kernel").is_none()
        && sections.stages.iter().all(|stage| stage.known().is_some_and(|stage| !installs_kernel(&stage.stage)))
    {
        let help = "add a stage `kernel`";
        checker.advise(&path.index(bootloader).key("type"), "the bootloader has no kernel to start", help);
    }
    if let Some(bootc) = first_of("bootc") {
        let late = kinds.iter().enumerate().skip(bootc + 1).filter(|(_, kind)| !kind.starts_with("ostree."));
        for (index, kind) in late.filter(|(_, kind)| **kind != "bootc") {
            let message = format!("the stage `{kind}` stands after `bootc`, which ends the work on the tree");
            checker.advise(&path.index(index).key("type"), message, "put it before");
        }
    }
    if complete && !based && makes_disk(sections) && first_of("bootloader").is_none() && !sections.tests.is_empty() {
        let help = "add a stage `bootloader`";
        checker.advise(&Path::root().key("tests"), "the tests run in the booted image, and it has no bootloader", help);
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
        .find(|(_, kind)| matches!(*kind, "apt" | "kernel" | "locale" | "bootloader"));
    if let Some((index, kind)) = user {
        let path = Path::root().key("stages").index(index).key("type");
        let help = "use the variant `minbase`, or add `apt` to its `include`";
        checker.advise(&path, format!("the stage `{kind}` needs apt, which the tree lacks"), help);
    }
}
