//! Disks, containers and archives: which formats there are, and what they ask of the rest of the recipe.

use super::{Checker, names, packages};
use crate::error::Classify;
use crate::output::Format;
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use crate::recipe::types::{Container, Output};
use crate::source::Reference;
use particle_vm_protocol::stage::{Bootc, InstallToFilesystem, OstreeCommit, RepoMode};
use particle_vm_protocol::{ArchiveKind, Filesystem, Stage};

/// Most labels, variables or arguments of a container: some registries refuse a configuration of more than 4 MiB.
const MOST: usize = 1000;

/// The formats with the rest of the recipe.
pub fn check(checker: &mut Checker<'_>, sections: &Sections) {
    let root = Path::root();
    let (output, disk, list) = (root.key("output"), root.key("disk"), root.key("output").key("formats"));
    let named = sections.output.as_ref().is_none_or(|output| !output.formats.is_empty());
    if !sections.unread.spares(&output) || !named {
        return;
    }
    let formats = sections.output.as_ref().map_or_else(|| Output::default().formats, |output| output.formats.clone());
    let with_disk = formats.iter().any(|format| format.is_disk());
    // That of a container image follows from it.
    let based = checker.is_based();
    if with_disk && !based && !checker.is_written(&disk) {
        let help = "`disk`: The disk that is made; the formats `oci-archive`, `oci`, `docker-archive`, `ostree-repo` and `tar` need none";
        checker.advise(&disk, "the recipe lacks the key `disk`", help);
    } else if !with_disk && checker.is_written(&disk) {
        let help = "remove the key, or add a format that is a disk, for instance `qcow2`";
        checker.advise_key(&disk, "none of the formats is a disk", help);
    }
    let stages = sections.stages.iter().map(|stage| Some(&stage.known()?.stage)).collect::<Vec<_>>();
    // One that cannot be read may be the one that is missing.
    let known: Option<Vec<&Stage>> = stages.iter().copied().collect();
    for (index, format) in formats.iter().enumerate() {
        if let Some((message, help)) = known.as_ref().and_then(|stages| without(*format, (true, based), stages)) {
            checker.advise(&list.index(index), message, help);
        }
    }
    if let Some(stages) = &known {
        for_nobody(checker, stages, &formats, based);
    }
    if !with_disk {
        without_disk(checker, sections, &stages);
    }
    let repository = formats.contains(&Format::OstreeRepo);
    for (index, stage) in stages.iter().enumerate() {
        let path = root.key("stages").index(index);
        match stage {
            Some(Stage::OstreeCommit(commit))
                if !repository && !stages.iter().flatten().any(|s| deploys(s, commit)) =>
            {
                let help = "add the format `ostree-repo` or a stage `ostree.deploy`, or remove the stage";
                checker.advise(&path.key("type"), "nobody gets the repository that is committed to", help);
            }
            Some(Stage::OstreeInit(options)) if repository && options.mode == RepoMode::Bare => {
                let path = path.key("options").key("mode");
                let help = "remove the key: `archive` is what web servers have";
                checker.advise(&path, "the files of a bare repository belong to root, and an output does not", help);
            }
            _ => {}
        }
    }
    let Some(container) = sections.output.as_ref().map(|output| &output.container) else { return };
    let containers = formats.iter().any(|format| format.is_container());
    let path = output.key("container");
    match container {
        Some(container) if containers => self::container(checker, &path, container, sections),
        Some(_) => {
            let help = "remove the key, or add the format `oci-archive`";
            checker.advise_key(&path, "none of the formats is a container", help);
        }
        None if containers => self::container(checker, &path, &Container::default(), sections),
        None => {}
    }
}

/// What `format` lacks in a recipe with these stages, and what to do. It may have a `disk`, and be `based` on an image.
pub fn without(format: Format, (disk, based): (bool, bool), stages: &[&Stage]) -> Option<(String, &'static str)> {
    let has = |is: fn(&Stage) -> bool| stages.iter().any(|stage| is(stage));
    if format.is_disk() && !disk {
        Some((format!("the recipe has no `disk` for the format `{format}`"), "give it one, with its `size`"))
    } else if format.is_disk() && has(|stage| matches!(stage, Stage::Bootc(_))) && !has(is_deployment) {
        let help = "make the container with this recipe, and the disk with another one that has it as `base-image`; or add \
                    the stages `ostree.commit` and `ostree.deploy`";
        Some((format!("the stage `bootc` makes a container, and `{format}` is a disk"), help))
    } else if format == Format::OstreeRepo && !has(|stage| matches!(stage, Stage::OstreeCommit(_))) {
        Some(("nothing is committed to the repository".into(), "add a stage `ostree.commit`"))
    } else if format.archive() == Some(ArchiveKind::Tree)
        && !based
        && !has(|stage| matches!(stage, Stage::Debootstrap(_)))
    {
        Some((format!("`{format}` is made of a tree of files, and no stage makes one"), "remove the format"))
    } else {
        None
    }
}

fn is_deployment(stage: &Stage) -> bool {
    matches!(stage, Stage::OstreeDeploy(_))
}

/// Whether it makes this commit the system.
fn deploys(stage: &Stage, commit: &OstreeCommit) -> bool {
    matches!(stage, Stage::OstreeDeploy(options) if options.reference == commit.reference)
}

/// A tree that is made and then left for another one, and a commit that has no kernel where OSTree looks for it.
fn for_nobody(checker: &mut Checker<'_>, stages: &[&Stage], formats: &[Format], based: bool) {
    let Some(deploy) = stages.iter().position(|stage| is_deployment(stage)) else { return };
    let has = |is: fn(&Stage) -> bool| stages.iter().any(|stage| is(stage));
    let path = Path::root().key("stages").index(deploy).key("type");
    let tree = based || has(|stage| matches!(stage, Stage::Debootstrap(_)));
    let commits = has(|stage| matches!(stage, Stage::OstreeCommit(_)));
    let archived = formats.iter().any(|format| format.archive() == Some(ArchiveKind::Tree));
    if tree && !commits && !archived {
        let help = "add a stage `ostree.commit` before it, or remove the stages that make the tree";
        checker.advise(&path, "what is deployed was committed elsewhere, and nothing is made of the tree", help);
    }
    let laid_out = |stage: &Stage| matches!(stage, Stage::Bootc(_) | Stage::Run(_) | Stage::Copy(_) | Stage::Files(_));
    if commits && !based && !has(laid_out) {
        let help =
            "add a stage `bootc` before `ostree.commit`: it puts kernel and initramfs where OSTree looks for them";
        checker.advise(&path, "the kernel of Debian's packages lies in /boot, which is no part of a commit", help);
    }
}

/// What only a disk has a use for.
fn without_disk(checker: &mut Checker<'_>, sections: &Sections, stages: &[Option<&Stage>]) {
    let list = Path::root().key("stages");
    let bootc = stages.iter().any(|stage| matches!(stage, Some(Stage::Bootc(_)) | None));
    for (index, stage) in stages.iter().enumerate() {
        let path = list.index(index);
        match stage {
            Some(Stage::Bootloader(_)) => {
                let help = "remove the stage, or add a format that is a disk, for instance `qcow2`";
                checker.advise(&path.key("type"), "there is no disk for the bootloader", help);
            }
            Some(Stage::OstreeDeploy(_)) => {
                let help = "remove the stage, or add a format that is a disk, for instance `qcow2`";
                checker.advise(&path.key("type"), "there is no disk for the deployment", help);
            }
            Some(Stage::Kernel(options)) if !bootc && !options.cmdline.is_empty() => {
                let help = "add a stage `bootc`, which keeps them in the container, or remove the key";
                checker.advise_key(&path.key("options").key("cmdline"), "nothing keeps these arguments", help);
            }
            _ => {}
        }
    }
    if !sections.tests.is_empty() {
        let help = "test the disk that is made of it; remove the key here";
        checker.advise_key(&Path::root().key("tests"), "the tests run in the booted image, and no disk is made", help);
    }
}

fn container(checker: &mut Checker<'_>, path: &Path, container: &Container, sections: &Sections) {
    match (&container.tag, &sections.name) {
        (Some(tag), _) if !names::image_reference(tag) => {
            let help = "for instance `particle-os:13` or `registry.example.org/particle-os:13`";
            checker.advise(&path.key("tag"), format!("`{tag}` is not a name of a container"), help);
        }
        (None, Some(name)) if names::image(name) && !names::image_reference(name) => {
            let help = "give it one with `tag` under `output.container`, for instance `particle-os:13`";
            checker.advise(&Path::root().key("name"), format!("`{name}` cannot be the name of a container"), help);
        }
        _ => {}
    }
    for (key, map) in [("labels", &container.labels), ("environment", &container.environment)] {
        let path = path.key(key);
        if map.len() > MOST {
            checker.report(&path, format!("`{key}` has more than {MOST} entries"));
        }
        for (name, value) in map {
            let good = if key == "labels" {
                !name.is_empty() && !name.contains(char::is_control)
            } else {
                names::variable(name)
            };
            if !good {
                let what = if key == "labels" { "label" } else { "variable" };
                checker.advise_key(
                    &path.key(name),
                    format!("`{name}` is not a name of a {what}"),
                    "letters, digits, `.`, `-` and `_`",
                );
            }
            if value.contains('\0') {
                checker.report(&path.key(name), "the value has a NUL character in it");
            }
        }
    }
    for (key, list) in [("entrypoint", &container.entrypoint), ("command", &container.command)] {
        for (index, argument) in list.iter().enumerate() {
            if argument.contains('\0') || index == 0 && argument.is_empty() {
                checker.report(&path.key(key).index(index), "this is not an argument of a program");
            }
        }
    }
}

/// Options of the stage `bootc.install`.
pub fn install(checker: &mut Checker<'_>, path: &Path, options: &InstallToFilesystem) {
    packages::cmdline(checker, &path.key("kernel_args"), &options.kernel_args);
    if let Some(target) = &options.target_imgref {
        let place = path.key("target_imgref");
        match target.parse::<Reference>() {
            Ok(reference) if reference.origin().is_some() => {}
            Ok(_) => {
                let help = "write `HOST/NAME:TAG`; what is in a file cannot be reached from the installed system";
                checker.advise(&place, format!("`{target}` is in no registry"), help);
            }
            Err(error) => {
                let help = error.advice().unwrap_or_else(|| "write `HOST/NAME:TAG`".into());
                checker.advise(&place, error.to_string(), help);
            }
        }
    }
}

/// Options of the stage `bootc`.
pub fn bootc(checker: &mut Checker<'_>, path: &Path, options: &Bootc) {
    packages::cmdline(checker, &path.key("kargs"), &options.kargs);
    let install = path.key("install");
    packages::cmdline(checker, &install.key("kargs"), &options.install.kargs);
    if options.install.filesystem.is_some_and(|kind| matches!(kind, Filesystem::Vfat | Filesystem::Swap)) {
        let message = "this file system cannot hold the root of a Debian system";
        checker.advise(&install.key("filesystem"), message, "it is `ext4`, `xfs` or `btrfs`");
    }
    if let Some(name) = options.install.stateroot.as_ref().filter(|name| !names::source(name)) {
        let help = "letters, digits, `_`, `-` and `.`, for instance `default`";
        checker.advise(&install.key("stateroot"), format!("`{name}` is not a name of a state root"), help);
    }
}
