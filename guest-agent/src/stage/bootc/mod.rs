//! `bootc`: the layout of a bootable container, as bootc and OSTree want it (bootc's documentation, "Bootc compatible
//! images"; ostree's, "Adapting existing mainstream distributions").
//!
//! The container keeps `/etc`; whoever imports it moves it to `/usr/etc`. Packages and their database are in `/usr`, what
//! a machine writes is in `/etc` and `/var`, and `/var` is made by systemd-tmpfiles(8) where it is missing.

mod config;
mod lint;
mod var;

use super::{Site, cleanup, wrong};
use crate::tree::{Attributes, Tree};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Bootc;

/// Where dpkg's database lies in a container: with what it tells of. `/var/lib/dpkg` is a link to it.
pub const DPKG_IN_USR: &str = "/usr/lib/sysimage/dpkg";

/// Where dpkg has it.
const DPKG: &str = "/var/lib/dpkg";

/// Where kernels keep their modules, and in a container themselves.
const MODULES: &str = "/usr/lib/modules";

/// Where dracut has its modules.
const DRACUT_MODULES: &str = "/usr/lib/dracut/modules.d";

/// Folders of the root that belong to the machine: name, what it becomes beneath `/var`, permissions.
const STATE: [(&str, &str, u32); 5] = [
    ("home", "home", 0o755),
    ("root", "roothome", 0o700),
    ("srv", "srv", 0o755),
    ("opt", "opt", 0o755),
    ("mnt", "mnt", 0o755),
];

/// Links to the kernel that packages make in the root.
const KERNEL_LINKS: [&str; 4] = ["/vmlinuz", "/vmlinuz.old", "/initrd.img", "/initrd.img.old"];

/// Where packages have their units.
const UNITS: &str = "/usr/lib/systemd/system";

/// Units of GRUB's packages that write to `/boot`, which is read-only in the booted system.
const WRITE_TO_BOOT: [&str; 2] = ["grub-common.service", "grub2-common.service"];

/// Change the tree.
pub(super) fn perform(site: &mut Site<'_>, options: &Bootc) -> Result<(), Failure> {
    let tree = site.tree()?;
    let kernel = kernel(tree)?;
    let modules = modules(site)?;
    // What belongs to one machine must not go where every machine gets it from.
    cleanup::settle(tree, &site.left.own)?;
    config::write(site, options, &modules)?;
    let folder = format!("{MODULES}/{kernel}");
    if !tree.is_file(&format!("{folder}/vmlinuz")) {
        tree.rename(&format!("/boot/vmlinuz-{kernel}"), &format!("{folder}/vmlinuz"))?;
    }
    initramfs(site, &kernel)?;
    let tree = site.tree()?;
    // What belongs to the kernel beside it, by the names that other distributions have.
    for name in ["config", "System.map"] {
        let (from, to) = (format!("/boot/{name}-{kernel}"), format!("{folder}/{name}"));
        if tree.is_file(&from) && !tree.exists(&to) {
            tree.rename(&from, &to)?;
        }
    }
    tree.clear("/boot", |_| false)?;
    KERNEL_LINKS.iter().try_for_each(|link| tree.remove(link))?;
    layout(site)?;
    var::settle(site.tree()?)?;
    lint::check(site, options, &kernel)
}

/// The release of the one kernel.
fn kernel(tree: &Tree) -> Result<String, Failure> {
    let mut releases = tree.names(MODULES)?;
    releases.retain(|release| {
        [format!("/boot/vmlinuz-{release}"), format!("{MODULES}/{release}/vmlinuz")].iter().any(|at| tree.is_file(at))
    });
    match releases.as_slice() {
        [release] => Ok(release.clone()),
        [] => Err(wrong("there is no kernel in the tree; a stage `kernel` installs one")),
        several => {
            Err(wrong(format!("there are several kernels in the tree, and one can boot: {}", several.join(", "))))
        }
    }
}

/// The modules of dracut that mount the root of such a system, as far as they are in the tree.
fn modules(site: &Site<'_>) -> Result<Vec<&'static str>, Failure> {
    if !site.has_program("dracut")? {
        return Err(wrong(
            "the tree has no dracut, which makes the initramfs: install `dracut` and `ostree-boot` with a stage `apt`",
        ));
    }
    let there = site.tree()?.names(DRACUT_MODULES)?;
    // Their names begin with two or three digits, which decide the order.
    let has = |name: &str| there.iter().any(|folder| folder.trim_start_matches(|c: char| c.is_ascii_digit()) == name);
    let modules: Vec<_> = ["ostree", "bootc"].into_iter().filter(|name| has(name)).collect();
    if modules.is_empty() {
        return Err(wrong(
            "nothing in the tree mounts the root of a container: install `ostree-boot` with a stage `apt`",
        ));
    }
    Ok(modules)
}

/// Make the initramfs, beside the kernel.
fn initramfs(site: &Site<'_>, kernel: &str) -> Result<(), Failure> {
    let mut command = site.command("dracut")?.args(["--force", "--no-hostonly", "--reproducible", "--kver", kernel]);
    if site.has_program("zstd")? {
        // The highest level, which is the default, takes six times as long for a tenth less.
        command = command.args(["--compress", "zstd -6 -q -T0"]);
    }
    let path = format!("{MODULES}/{kernel}/initramfs.img");
    site.context.run(&command.arg(&path))?;
    // dracut makes it for root's eyes only; there is nothing in it that the container does not have.
    site.tree()?.set_mode(&path, 0o644)?;
    Ok(())
}

/// The folders and links of the root.
fn layout(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    if tree.link_target(DPKG).is_none() && tree.is_folder(DPKG) {
        tree.make_folder("/usr/lib/sysimage", Attributes::root(0o755))?;
        tree.rename(DPKG, DPKG_IN_USR)?;
        tree.symlink("../../usr/lib/sysimage/dpkg", DPKG)?;
    }
    for (name, inside, mode) in STATE {
        let (path, state) = (format!("/{name}"), format!("/var/{inside}"));
        if tree.link_target(&path).is_some() {
            continue;
        }
        if name == "opt" && !tree.names(&path)?.is_empty() {
            site.context.output("/opt has content, and stays a part of the image that machines cannot write to");
            continue;
        }
        if tree.is_folder(&path) {
            // Debian has an empty `/var/opt`.
            if tree.is_folder(&state) && tree.names(&state)?.is_empty() {
                tree.remove_folder(&state)?;
            }
            if tree.exists(&state) {
                return Err(wrong(format!("the tree has `{path}` and `{state}`, which become one folder")));
            }
            tree.rename(&path, &state)?;
        } else {
            tree.make_folder(&state, Attributes::root(mode))?;
        }
        tree.symlink(&format!("var/{inside}"), &path)?;
    }
    tree.make_folder("/sysroot", Attributes::root(0o755))?;
    if !tree.exists("/ostree") {
        tree.symlink("sysroot/ostree", "/ostree")?;
    }
    tree.make_folder("/media", Attributes::root(0o755))?;
    // Units with a /tmp of their own are started before systemd-tmpfiles has made /var, and the journal is kept only
    // where its folder is there.
    tree.make_folder("/var/tmp", Attributes::root(0o1777))?;
    tree.make_folder("/var/log/journal", Attributes::root(0o755))?;
    for unit in WRITE_TO_BOOT.into_iter().filter(|unit| tree.is_file(&format!("{UNITS}/{unit}"))) {
        let condition = "[Unit]\nConditionPathIsReadWrite=/boot\n";
        tree.write(&format!("{UNITS}/{unit}.d/50-particle-vm.conf"), condition, 0o644)?;
    }
    Ok(())
}

/// What a command of the tree prints, when it is there.
fn printed(site: &Site<'_>, program: &str, arguments: &[&str]) -> Result<Option<String>, Failure> {
    if !site.has_program(program)? {
        return Ok(None);
    }
    site.context.capture(&site.command(program)?.args(arguments.iter().copied())).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;
    use std::fs;

    #[test]
    fn one_kernel_is_looked_for_in_both_places() {
        let folder = Folder::new("bootc-kernel");
        for path in ["boot", "usr/lib/modules/6.12", "usr/lib/modules/6.13"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        assert!(kernel(&tree).unwrap_err().message.contains("no kernel"));
        fs::write(folder.path().join("boot/vmlinuz-6.12"), "").unwrap();
        assert_eq!(kernel(&tree).unwrap(), "6.12");
        fs::write(folder.path().join("usr/lib/modules/6.13/vmlinuz"), "").unwrap();
        assert!(kernel(&tree).unwrap_err().message.ends_with("6.12, 6.13"));
    }
}
