//! Findings about bootloaders and bootupd.

use super::super::engine::{Backend, Engine};
use super::{Look, some_of};

pub(super) fn all(look: &mut Look<'_>) {
    bootupd(look);
    let facts = look.facts;
    let loaders = &facts.bootloaders;
    if look.backend == Some(Backend::Ostree) && !loaders.grub.is_empty() && !loaders.grub_bls {
        look.note(
            "grub-without-bls",
            "the GRUB of the image does not read boot entries (it is older than 2.14); the disk gets a newer one",
            "nothing to do; to keep the two the same, install GRUB 2.14 from testing",
        );
    }
    if look.is_deployed() && !loaders.configs.is_empty() {
        let message = format!("a configuration of a bootloader is not used: {}", some_of(&loaders.configs));
        look.note("loader-config", message, "put kernel arguments into /usr/lib/bootc/kargs.d/");
    }
    if let Some(file) = &facts.disk_config {
        let message = format!("the image says how its disk is to be divided: {file}");
        look.note("disk-config", message, "`disk` with its `partitions` in a recipe says otherwise");
    }
    if !facts.builder_config.is_empty() {
        let message = format!("the image has settings for bootc-image-builder: {}", some_of(&facts.builder_config));
        look.warning("builder-config", message, "they are not read; copy them out, and name them with `--config`");
    }
    stale_fallback(look);
}

fn bootupd(look: &mut Look<'_>) {
    let bootupd = &look.facts.bootupd;
    for problem in &bootupd.problems {
        let message = format!("metadata of bootupd is not understood: {problem}");
        look.warning("bootupd-metadata", message, "RUN bootupctl backend generate-update-metadata /");
    }
    if !bootupd.binary {
        return;
    }
    if bootupd.components.is_empty() {
        look.warning(
            "bootupd-without-metadata",
            "there is bootupctl, and no metadata of updates: the bootloader is installed without it, and never updated",
            "RUN bootupctl backend generate-update-metadata /",
        );
        return;
    }
    if bootupd.components.contains_key("BIOS") && !look.tree.has("usr/sbin/grub2-install") {
        look.warning(
            "bootupd-grub2-install",
            "bootupd installs GRUB for BIOS with /usr/sbin/grub2-install, which is not there: the disk gets one that it does \
             not update",
            "make the metadata with the stage `bootupd` of a recipe, which makes what bootupd calls of Debian's tools",
        );
    }
    if look.engine == Engine::Bootc && !look.facts.config.labels.contains_key("org.opencontainers.image.version") {
        look.warning(
            "no-version-label",
            "bootc writes down that the image has no version, and `bootupctl status` refuses that in the installed system",
            "LABEL org.opencontainers.image.version=1",
        );
    }
    let shims = look
        .facts
        .bootloaders
        .shim
        .iter()
        .filter(|path| path.ends_with("shimx64.efi") && path.starts_with("usr/lib/efi/"));
    if shims.count() > 1 {
        look.warning(
            "bootupd-several-shims",
            "there are several shimx64.efi below /usr/lib/efi, and bootupd takes the vendor's name from the only one",
            "leave one version below /usr/lib/efi/shim",
        );
    }
}

/// shim's fallback, started from the removable path, looks for a list of what to start, and reboots when there is none.
fn stale_fallback(look: &mut Look<'_>) {
    let efi = ["usr/lib/efi", "usr/lib/bootupd/updates/EFI"]
        .into_iter()
        .flat_map(|folder| look.tree.within(folder.as_bytes()));
    let names: Vec<_> = efi.map(|(path, _)| String::from_utf8_lossy(path).to_ascii_lowercase()).collect();
    let any = |name: &str| names.iter().any(|path| path.ends_with(name));
    if any("/fbx64.efi") && !any("/bootx64.csv") {
        look.warning(
            "shim-fallback-without-list",
            "there is shim's fbx64.efi without a BOOTX64.CSV: a disk that boots by \\EFI\\BOOT reboots for ever",
            "ship BOOTX64.CSV beside shimx64.efi, or leave fbx64.efi out",
        );
    }
}
