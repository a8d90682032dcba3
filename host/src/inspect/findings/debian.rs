//! Findings about the system itself: whether it is one, and what must not be the same on every machine.

use super::super::keep::Content;
use super::super::limits;
use super::super::tree::Kind;
use super::{Look, some_of};

/// Whether there is an operating system at all, and what it lacks.
pub(super) fn system(look: &mut Look<'_>) -> bool {
    let facts = look.facts;
    if facts.os_release.is_none() && facts.init.is_none() {
        look.error(
            "not-an-os",
            "the image is no operating system: it has neither os-release nor an init",
            "start from a Debian image: FROM debian:trixie",
        );
        return false;
    }
    if !matches!(facts.config.architecture.as_str(), "amd64" | "") {
        look.error(
            "architecture",
            format!("the image is for {}; disks are made for amd64 only", facts.config.architecture),
            "build or pull it for linux/amd64",
        );
    }
    let deployed = look.is_deployed();
    if facts.init.is_none() {
        let remedy = "RUN apt-get install -y systemd-sysv";
        if deployed {
            look.error("no-init", "there is no /sbin/init: nothing would be started", remedy);
        } else {
            let remedy = format!("add the stage `apt` with the package systemd-sysv to the recipe, or {remedy}");
            look.warning("no-init", "there is no /sbin/init: nothing would be started", remedy);
        }
    }
    match &facts.os_release {
        None if deployed => look.error(
            "no-os-release",
            "there is no os-release, by which OSTree names the boot entry",
            "RUN apt-get install -y --reinstall base-files",
        ),
        None => look.warning("no-os-release", "there is no os-release", "RUN apt-get install -y --reinstall base-files"),
        Some(os) if os.version_id.is_none() => look.note(
            "no-version-id",
            "os-release has no VERSION_ID, as in Debian's testing and unstable; bootc-image-builder refuses such images",
            "RUN echo 'VERSION_ID=\"14\"' >> /usr/lib/os-release",
        ),
        Some(_) => {}
    }
    if look.tree.get("lib").is_some_and(|node| node.kind == Kind::Folder) {
        look.warning(
            "usr-not-merged",
            "/lib is a folder of its own, and what is in there is not looked into; Debian has it in /usr since 12",
            "RUN apt-get install -y usrmerge",
        );
    }
    if !facts.config.container_only.is_empty() {
        look.note(
            "container-settings",
            format!(
                "settings of the container that mean nothing to a booted system: {}",
                facts.config.container_only.join(", ")
            ),
            "what a service needs of them belongs into its unit",
        );
    }
    true
}

/// What was left in the image, and would be the same on every machine.
pub(super) fn leftovers(look: &mut Look<'_>) {
    machine_id(look);
    host_keys(look);
    injected(look);
}

fn machine_id(look: &mut Look<'_>) {
    let remedy = "RUN echo uninitialized > /etc/machine-id && rm -f /var/lib/dbus/machine-id, as the last step";
    let baked = |text: &str| !matches!(text.trim(), "" | "uninitialized");
    let own = look.etc_text("machine-id");
    if let Some((path, _)) = own.as_ref().filter(|(_, text)| baked(text)) {
        let message = format!(
            "/{path} has an id: every machine that is made of the image is the same one to DHCP, journals and D-Bus"
        );
        look.warning("machine-id", message, remedy);
    } else if look.tree.text("var/lib/dbus/machine-id").is_some_and(|text| baked(&text)) {
        let message =
            "/var/lib/dbus/machine-id has an id: every machine that is made of the image is the same one to D-Bus";
        look.warning("machine-id", message, remedy);
    }
    // An empty file is a machine that has booted before (machine-id(5), "First Boot Semantics").
    let empty = own.is_some_and(|(_, text)| text.trim().is_empty());
    if empty && makes_keys_at_first_boot(look) {
        look.warning(
            "machine-id-empty",
            "/etc/machine-id is empty, so no boot counts as the first; sshd-keygen.service waits for that, and sshd starts \
             without host keys over and over",
            "RUN echo uninitialized > /etc/machine-id, as the last step",
        );
    }
}

/// Whether sshd gets its host keys at the first boot only.
fn makes_keys_at_first_boot(look: &Look<'_>) -> bool {
    let folder = "usr/lib/systemd/system";
    let unit = look.tree.text(&format!("{folder}/sshd-keygen.service")).unwrap_or_default();
    // A line without a value takes the condition away again.
    let drop_ins = look.tree.list(&format!("{folder}/sshd-keygen.service.d"));
    let drop_ins = drop_ins.into_iter().take(limits::FILES).filter_map(|(_, node)| match &node.content {
        Content::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    let text: String = std::iter::once(unit).chain(drop_ins).collect::<Vec<_>>().join("\n");
    let mut conditions = text.lines().filter_map(|line| line.trim().strip_prefix("ConditionFirstBoot="));
    conditions.next_back().is_some_and(|value| matches!(value, "yes" | "true" | "1" | "on"))
}

fn host_keys(look: &mut Look<'_>) {
    let folders = ["etc/ssh", "usr/etc/ssh"];
    let keys = folders
        .iter()
        .flat_map(|folder| look.tree.list(folder).into_iter().map(move |(name, node)| (folder, name, node)));
    let keys = keys.filter(|(_, name, node)| name.starts_with("ssh_host_") && name.ends_with("_key") && node.size > 0);
    let keys: Vec<_> = keys.map(|(folder, name, _)| format!("{folder}/{name}")).collect();
    if !keys.is_empty() {
        look.warning(
            "ssh-host-keys",
            format!(
                "every machine has the same ssh host keys, and whoever has the image has them too: {}",
                some_of(&keys)
            ),
            "RUN rm -f /etc/ssh/ssh_host_*, and let them be made at boot (ssh-keygen -A)",
        );
    }
}

/// Builders mount files of their own over these, and leave empty ones behind.
fn injected(look: &mut Look<'_>) {
    let empty = ["etc/hostname", "etc/resolv.conf"].into_iter();
    let empty = empty.filter(|path| look.tree.get(path).is_some_and(|node| node.kind == Kind::File && node.size == 0));
    let empty: Vec<_> = empty.map(ToOwned::to_owned).collect();
    if !empty.is_empty() {
        look.note(
            "injected-files",
            format!("the builder of the container left empty files behind, which are left out: {}", some_of(&empty)),
            "set the host name with the stage `hostname` of the recipe",
        );
    }
}
