//! Findings about bootc: its tools, its configuration.

use super::super::engine::{Backend, Engine};
use super::Look;
use super::ostree::year_and_number;

/// What `bootc install to-filesystem` runs, and the package that has it.
const TOOLS: [(&str, &str); 5] = [
    ("blkid", "util-linux"),
    ("findmnt", "util-linux"),
    ("lsblk", "util-linux"),
    ("mount", "mount"),
    ("skopeo", "skopeo"),
];

/// What it runs beside these for its composefs backend, and for that of OSTree.
const OF_COMPOSEFS: [(&str, &str); 1] = [("bootctl", "systemd-boot-tools")];
const OF_OSTREE: [(&str, &str); 2] = [("ostree", "ostree"), ("podman", "podman")];

/// The file systems that bootc makes a root of.
const FILE_SYSTEMS: [&str; 3] = ["btrfs", "ext4", "xfs"];

/// bootc is written for this version of ostree's library, or a newer one.
const OSTREE: (u32, u32) = (2025, 3);

pub(super) fn all(look: &mut Look<'_>) {
    if look.engine == Engine::Bootc {
        engine(look);
    }
    configuration(look);
    history(look);
    let facts = look.facts;
    if facts.bootc.binary
        && let Some(version) = facts.ostree.version.as_deref()
        && year_and_number(version).is_some_and(|version| version < OSTREE)
    {
        look.warning(
            "bootc-needs-newer-ostree",
            format!("bootc needs ostree 2025.3 or newer, and the image has {version}: it may not even start"),
            "install libostree-1-1 and ostree from testing",
        );
    }
}

fn engine(look: &mut Look<'_>) {
    let facts = look.facts;
    if !facts.bootc.binary {
        look.error(
            "no-bootc",
            "it is installed by its own bootc, and has no /usr/bin/bootc",
            "put bootc into the image, or make an initramfs for OSTree (dracut --add ostree), which needs none",
        );
    }
    let has = |tool: &str| {
        ["usr/bin", "usr/sbin", "bin", "sbin"].iter().any(|folder| look.tree.has(&format!("{folder}/{tool}")))
    };
    let composefs = look.backend == Some(Backend::Composefs);
    let own = if composefs { &OF_COMPOSEFS[..] } else { &OF_OSTREE[..] };
    let lacking: Vec<_> = TOOLS.iter().chain(own).filter(|(tool, _)| !has(tool)).collect();
    if !lacking.is_empty() {
        let tools: Vec<_> = lacking.iter().map(|(tool, _)| *tool).collect();
        let mut packages: Vec<_> = lacking.iter().map(|(_, package)| *package).collect();
        packages.dedup();
        look.error(
            "bootc-lacks-tools",
            format!("`bootc install` runs tools that the image does not have: {}", tools.join(", ")),
            format!("RUN apt-get install -y {}", packages.join(" ")),
        );
    }
    if look.etc("containers/policy.json").is_none() {
        look.error(
            "no-container-policy",
            "skopeo, which bootc reads the image with, goes by /etc/containers/policy.json, and there is none",
            "RUN apt-get install -y golang-github-containers-common",
        );
    }
    if composefs {
        for_composefs(look);
    }
}

/// bootc pairs each layer with its entry of the history, and stops where there is none ("layers_with_history" in its
/// sources).
fn history(look: &mut Look<'_>) {
    let (told, layers) = (look.facts.config.history, look.facts.layers.len());
    if told >= layers || !look.facts.bootc.binary || look.backend != Some(Backend::Ostree) {
        return;
    }
    let message = format!(
        "the history in its configuration has {told} entries for {layers} layers: bootc ends with \"Truncated history\""
    );
    let remedy = "make the image with a tool that writes one, for instance podman build";
    if look.engine == Engine::Bootc {
        look.error("history-too-short", message, remedy);
    } else {
        look.warning("history-too-short", format!("{message} at an update"), remedy);
    }
}

fn for_composefs(look: &mut Look<'_>) {
    let facts = look.facts;
    // It reads the layout itself, and knows the types of OCI alone ("is_tar_media_type" of composefs-oci).
    if let Some(layer) = facts.layers.iter().find(|layer| layer.media_type.starts_with("application/vnd.docker.")) {
        look.error(
            "docker-media-types",
            format!(
                "bootc's composefs backend takes OCI images, and this one is of docker's format: {}",
                layer.media_type
            ),
            "push it in the other format: podman push --format oci, or skopeo copy --format oci",
        );
    }
    if facts.bootloaders.systemd_boot.is_empty() {
        look.error(
            "no-systemd-boot",
            "there is no systemd-boot in /usr/lib/systemd/boot/efi, which boots composefs images",
            "RUN apt-get install -y systemd-boot-efi",
        );
    }
    look.note(
        "uefi-only",
        "the disk boots on UEFI only: systemd-boot does not know BIOS",
        "for BIOS too, make an initramfs for OSTree (dracut --add ostree), which GRUB boots",
    );
    if let Some(kernel) = facts.kernel()
        && kernel.version.starts_with("7.0")
    {
        look.warning(
            "kernel-verity-regression",
            format!("with kernel {} fs-verity may fail on composefs images (bootc issue 2174)", kernel.version),
            "take a kernel before or after 7.0",
        );
    }
    let version = facts.bootc.version.as_deref().unwrap_or_default();
    if ["1.16.2", "1.16.3"].iter().any(|broken| version.starts_with(broken)) {
        look.warning(
            "bootc-registry-pull",
            format!("bootc {version} does not update composefs systems from a registry"),
            "take another version, or update by way of containers-storage",
        );
    }
}

fn configuration(look: &mut Look<'_>) {
    let bootc = &look.facts.bootc;
    for problem in &bootc.problems {
        let message = format!("/{}: {}", problem.file, problem.reason);
        if problem.passed_over {
            look.warning(
                "bootc-config-unknown",
                message,
                "correct the key: what is not known is passed over without effect",
            );
        } else if look.is_deployed() {
            look.error("bootc-config-invalid", message, "correct the file: `bootc` refuses to go on with it");
        } else {
            look.warning("bootc-config-invalid", message, "correct the file, or remove it");
        }
    }
    let types = ["/root-fs-type", "/filesystem/root/type"];
    for kind in types.into_iter().filter_map(|path| bootc.setting(path)) {
        if !FILE_SYSTEMS.contains(&kind) {
            look.error(
                "root-file-system",
                format!("the install configuration wants the root on {kind}; bootc knows {}", FILE_SYSTEMS.join(", ")),
                "write one of these into [install.filesystem.root] in /usr/lib/bootc/install/",
            );
        }
    }
    let kargs = bootc.install.pointer("/kargs").and_then(|kargs| kargs.as_array());
    let kargs = kargs.into_iter().flatten().filter_map(|karg| karg.as_str());
    let mut kargs = kargs.chain(bootc.kargs.iter().map(String::as_str));
    if let Some(console) = kargs.find(|karg| karg.starts_with("console=ttyS")) {
        look.note(
            "serial-console",
            format!("every machine boots with {console}; those without such a port may boot very slowly"),
            "leave it to the recipe of the machines that have one",
        );
    }
}
