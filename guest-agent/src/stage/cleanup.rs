//! What a build leaves in the tree and an image must not have.

use crate::tree::Tree;
use particle_vm_protocol::Failure;
use std::collections::BTreeSet;

/// Folders whose content is of no use, or of harm, in another machine.
const CLEARED: [&str; 4] = ["/var/lib/apt/lists", "/var/cache/apt/archives", "/var/cache/ldconfig", "/var/tmp"];

/// Folders that stages use while they run.
const IN_USE: [&str; 2] = ["/tmp", "/run"];

/// Files that belong to one machine, or tell of the build.
const REMOVED: [&str; 12] = [
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/lib/dpkg/status-old",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/etc/.pwd.lock",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
];

/// Logs of the build.
const LOGS: [&str; 6] = [
    "/var/log/alternatives.log",
    "/var/log/apt/eipp.log.xz",
    "/var/log/apt/history.log",
    "/var/log/apt/term.log",
    "/var/log/bootstrap.log",
    "/var/log/dpkg.log",
];

/// The init that makes what is made anew in each machine.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// machine-id(5): an empty file gets an id at the first boot, without the questions of a first boot.
const MACHINE_ID: &str = "/etc/machine-id";

/// Where D-Bus has its own; with systemd it is a link.
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";

/// Where OpenSSH has its keys.
const SSH: &str = "/etc/ssh";

/// Where the administrator's units lie.
const UNITS: &str = "/etc/systemd/system";

/// The unit that makes the keys.
const HOST_KEYS: &str = "ssh-host-keys.service";

/// Debian makes the keys once, when the package is installed; an image that kept them would give all its instances the
/// same. Debian 13 has a unit of its own for that (sshd-keygen.service), whose condition is a first boot, and with an
/// empty machine-id(5) there is none; Debian 12 has nothing. What sockets wait for must not wait for them, so the unit
/// goes without the usual dependencies.
const HOST_KEYS_UNIT: &str = "\
[Unit]
Description=Make the host keys of the OpenSSH server
DefaultDependencies=no
RequiresMountsFor=/etc/ssh
After=local-fs.target systemd-random-seed.service
Before=ssh.service ssh.socket
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
";

/// resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Take out of the tree what only the build needed, and what makes one machine of all its copies.
///
/// `own` are the paths that the recipe itself has written; they stay. Without systemd nobody would make the identity of
/// a machine anew, so that it stays too.
///
/// # Errors
/// When something cannot be written or removed.
pub(super) fn clean(tree: &Tree, own: &BTreeSet<String>) -> Result<(), Failure> {
    IN_USE.iter().try_for_each(|path| clear(tree, path, own))?;
    settle(tree, own)
}

/// The part of it that can be done while commands run in the tree.
///
/// # Errors
/// As [`clean`].
pub(super) fn settle(tree: &Tree, own: &BTreeSet<String>) -> Result<(), Failure> {
    CLEARED.iter().try_for_each(|path| clear(tree, path, own))?;
    for path in REMOVED.into_iter().chain(LOGS).filter(|path| !own.contains(*path)) {
        tree.remove(path)?;
    }
    if tree.is_file(SYSTEMD) {
        identity(tree, own)?;
        host_keys(tree, own)?;
    }
    resolver(tree)
}

/// What tools leave in the `/etc` of a deployment that the image does not have: copies of what they have changed.
const LEFTOVERS: [&str; 7] =
    ["/etc/.pwd.lock", "/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-"];

/// The same for a deployment, in which everything but what the recipe's stages have made comes from the image.
///
/// # Errors
/// When something cannot be removed.
pub(super) fn clean_deployment(tree: &Tree, own: &BTreeSet<String>) -> Result<(), Failure> {
    for path in LEFTOVERS.into_iter().filter(|path| !own.contains(*path) && !tree.exists(&format!("/usr{path}"))) {
        tree.remove(path)?;
    }
    // Those of an image would be the same in all its systems, and many images have none and nothing that makes them.
    host_keys(tree, own)?;
    // The same goes for its machine id; one that says that there is none stays.
    if has_machine_id(tree) { identity(tree, own) } else { Ok(()) }
}

fn clear(tree: &Tree, path: &str, own: &BTreeSet<String>) -> Result<(), Failure> {
    // A link leads to a folder with another purpose.
    if tree.link_target(path).is_none() {
        tree.clear(path, |name| is_own(own, &format!("{path}/{name}")))?;
    }
    Ok(())
}

/// Whether the recipe has written `path`, or something beneath it.
fn is_own(own: &BTreeSet<String>, path: &str) -> bool {
    own.contains(path)
        || own.range(format!("{path}/")..).next().is_some_and(|next| next.starts_with(&format!("{path}/")))
}

/// Whether there is a machine id that is one (machine-id(5)).
fn has_machine_id(tree: &Tree) -> bool {
    let id = tree.read_text(MACHINE_ID).unwrap_or_default();
    !matches!(id.trim(), "" | "uninitialized")
}

/// The machine id.
fn identity(tree: &Tree, own: &BTreeSet<String>) -> Result<(), Failure> {
    if !own.contains(MACHINE_ID) {
        tree.write(MACHINE_ID, "", 0o444)?;
    }
    let dbus = tree.exists(DBUS_MACHINE_ID) && tree.link_target(DBUS_MACHINE_ID).is_none();
    if dbus && !own.contains(DBUS_MACHINE_ID) {
        tree.symlink(MACHINE_ID, DBUS_MACHINE_ID)?;
    }
    Ok(())
}

/// The keys of the ssh server.
fn host_keys(tree: &Tree, own: &BTreeSet<String>) -> Result<(), Failure> {
    for name in tree.names(SSH)? {
        let path = format!("{SSH}/{name}");
        if name.starts_with("ssh_host_") && !own.contains(&path) {
            tree.remove(&path)?;
        }
    }
    if tree.is_file("/usr/sbin/sshd") && tree.is_file("/usr/bin/ssh-keygen") {
        let unit = format!("{UNITS}/{HOST_KEYS}");
        if !own.contains(&unit) {
            tree.write(&unit, HOST_KEYS_UNIT, 0o644)?;
        }
        for unit in ["ssh.service", "ssh.socket"] {
            let link = format!("{UNITS}/{unit}.requires/{HOST_KEYS}");
            if !own.contains(&link) {
                tree.symlink(&format!("../{HOST_KEYS}"), &link)?;
            }
        }
    }
    Ok(())
}

/// resolv.conf(5): the package systemd-resolved makes its link only where a file was before.
fn resolver(tree: &Tree) -> Result<(), Failure> {
    if tree.is_file("/usr/lib/systemd/systemd-resolved") && !tree.exists(RESOLV_CONF) {
        tree.symlink("../run/systemd/resolve/stub-resolv.conf", RESOLV_CONF)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beneath_a_folder_makes_it_the_recipes() {
        let own = BTreeSet::from(["/var/tmp/a/b".to_owned(), "/var/tmp/c".to_owned()]);
        assert!(is_own(&own, "/var/tmp/a") && is_own(&own, "/var/tmp/a/b") && is_own(&own, "/var/tmp/c"));
        assert!(!is_own(&own, "/var/tmp/a/b/c") && !is_own(&own, "/var/tmp/b") && !is_own(&own, "/var/tmp/cc"));
    }
}
