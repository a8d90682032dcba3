//! What `particle-vm inspect` tells people.

use super::text::size;
use crate::clean;
use crate::inspect::{Composefs, Engine, Initramfs, Kernel, Report, Severity};
use console::style;

/// Width of the names on the left.
const WIDTH: usize = 11;

/// The report in columns, the findings below them, each with what to do about it.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text += &format!("{name:WIDTH$}  {}\n", clean::line(&value));
    };
    let facts = &report.facts;
    line("image", report.reference.clone());
    line("digest", report.digest.clone());
    let created = facts.config.created.as_ref().map(|created| format!(", made {created}")).unwrap_or_default();
    line("platform", format!("{}/{}{created}", facts.config.os, facts.config.architecture));
    let packed = facts.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    let layers = format!("{} ({} packed)", facts.layers.len(), size(packed));
    line("layers", format!("{layers}, {} in {} files and folders", size(facts.bytes), facts.files));
    for (name, value) in &facts.config.labels {
        line("label", format!("{name}={value}"));
    }
    let os = facts.os_release.as_ref();
    let os =
        os.map(|os| os.pretty_name.clone().or(os.name.clone()).or(os.id.clone()).unwrap_or_else(|| "no name".into()));
    line("system", os.unwrap_or_else(|| "none".into()));
    if let Some(packages) = &facts.packages {
        let count = packages.count.map_or_else(|| "unknown".into(), |count| count.to_string());
        line("packages", format!("{count} (/{})", packages.status));
    }
    for kernel in &facts.kernels {
        line("kernel", self::kernel(kernel));
        if let Some(initramfs) = &kernel.initramfs {
            line("initramfs", self::initramfs(initramfs));
        }
    }
    line("OSTree", ostree(report));
    if facts.bootc.binary || !facts.bootc.install_files.is_empty() || !facts.bootc.kargs.is_empty() {
        line("bootc", bootc(report));
    }
    if facts.bootupd.binary || facts.bootupd.updates {
        let components = facts.bootupd.components.iter().map(|(name, found)| format!("{name} {}", found.version));
        let components: Vec<_> = components.collect();
        line("bootupd", if components.is_empty() { "no updates".into() } else { components.join(", ") });
    }
    let loaders = &facts.bootloaders;
    let mut found = Vec::new();
    if !loaders.grub.is_empty() {
        let reads = if loaders.grub_bls { "reads boot entries" } else { "reads no boot entries" };
        found.push(format!("GRUB ({}; {reads})", loaders.grub.join(", ")));
    }
    if !loaders.systemd_boot.is_empty() {
        found.push("systemd-boot".into());
    }
    if !loaders.shim.is_empty() {
        found.push("shim".into());
    }
    line("bootloaders", if found.is_empty() { "none".into() } else { found.join(", ") });
    for user in &facts.users {
        line("user", format!("{} ({}), {}, password {}", user.name, user.uid, user.home, words(&user.password)));
    }
    text += &engine(report);
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Error => style("error  ").red().bold(),
            Severity::Warning => style("warning").yellow(),
            Severity::Note => style("note   ").cyan(),
        };
        text += &format!("\n{severity}  {}: {}\n", finding.code, clean::line(&finding.message));
        text += &format!("{:7}  {}\n", "", style(clean::line(&finding.remedy)).dim());
    }
    text
}

fn engine(report: &Report) -> String {
    let choice = &report.engine;
    let name = match choice.name {
        Engine::None => style(choice.name.name()).red().bold(),
        name => style(name.name()).green(),
    };
    let mut text = format!("{:WIDTH$}  {name}: {}\n", "engine", clean::line(&choice.reason));
    let mut below = |value: String| text += &format!("{:WIDTH$}  {value}\n", "");
    if choice.name == Engine::None {
        below(format!("{} is what fits, but for: {}", choice.candidate.name(), choice.missing.join(", ")));
    } else {
        let firmware: Vec<_> = choice.requirements.firmware.iter().map(|name| name.to_uppercase()).collect();
        below(format!("boots on {}", firmware.join(" and ")));
    }
    if !choice.requirements.stages.is_empty() {
        below(format!("needs stages in a recipe: {}", choice.requirements.stages.join(", ")));
    }
    text
}

fn kernel(kernel: &Kernel) -> String {
    let place = match (&kernel.uki_path, &kernel.image) {
        (Some(path), _) => format!("unified image /{path}"),
        (None, Some(path)) => format!("/{path}"),
        (None, None) => "modules only".into(),
    };
    format!("{} ({place})", kernel.version)
}

fn initramfs(initramfs: &Initramfs) -> String {
    let mut has = vec![size(initramfs.size)];
    has.extend(initramfs.compression.map(ToOwned::to_owned));
    has.extend(initramfs.generator.map(|generator| format!("by {generator}")));
    let flags = [
        (initramfs.systemd, "systemd"),
        (initramfs.ostree_prepare_root, "ostree-prepare-root"),
        (initramfs.bootc_setup, "bootc's initramfs-setup"),
    ];
    has.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned()));
    if !initramfs.modules.is_empty() {
        has.push(format!("modules {}", initramfs.modules.iter().copied().collect::<Vec<_>>().join(" ")));
    }
    has.join(", ")
}

fn ostree(report: &Report) -> String {
    let ostree = &report.facts.ostree;
    let program = match (&ostree.version, ostree.binary) {
        (Some(version), true) => version.clone(),
        (None, true) => "unknown version".into(),
        (_, false) => "no program".into(),
    };
    let composefs = ostree.prepare_root.as_ref().map(|conf| match conf.composefs {
        Some(composefs) => format!("composefs {}", words::<Composefs>(&composefs)),
        None => "composefs not set".into(),
    });
    let configuration =
        ostree.etc.map(|place| if place == "both" { "/etc and /usr/etc".into() } else { format!("/{place}") });
    [Some(program), Some(composefs.unwrap_or_else(|| "no prepare-root.conf".into())), configuration]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

fn bootc(report: &Report) -> String {
    let bootc = &report.facts.bootc;
    let mut has = vec![match (&bootc.version, bootc.binary) {
        (Some(version), true) => version.clone(),
        (None, true) => "unknown version".into(),
        (_, false) => "no program".into(),
    }];
    if bootc.install.as_object().is_some_and(|install| !install.is_empty()) {
        has.push(format!("install {}", bootc.install));
    }
    if !bootc.kargs.is_empty() {
        has.push(format!("kernel arguments {}", bootc.kargs.join(" ")));
    }
    has.join(", ")
}

/// The word that JSON has for a value.
fn words<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Input, image};
    use std::io::{self, Cursor};

    #[test]
    fn an_image_is_told_in_columns_and_gives_the_terminal_no_orders() {
        console::set_colors_enabled(false);
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Labels":{"a\u001b[31m":"b\nc"}}}"#;
        let input = Input {
            reference: "oci:image",
            origin: None,
            digest: "sha256:00",
            config_digest: "sha256:00",
            manifest: br#"{"layers":[{"mediaType":"m","digest":"sha256:1","size":2048}]}"#,
            config: config.as_bytes(),
            wish: None,
        };
        let report = image(input, [Ok::<_, io::Error>(Cursor::new(vec![0; 1024]))]).unwrap();
        let text = text(&report);
        assert!(
            text.starts_with("image        oci:image\ndigest       sha256:00\nplatform     linux/amd64\n"),
            "{text}"
        );
        assert!(text.contains("layers       1 (2.0 KiB packed), 0 B in 0 files and folders\n"), "{text}");
        assert!(text.contains("label        a=b c\n"), "{text}");
        assert!(text.contains("engine       none: ") && text.contains("but for: not-an-os\n"), "{text}");
        assert!(text.contains("\nerror    not-an-os: the image is no operating system"), "{text}");
        assert!(text.ends_with("         start from a Debian image: FROM debian:trixie\n"), "{text}");
    }
}
