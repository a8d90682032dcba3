//! The initramfs, made once when everything that goes into it is there.

use super::Site;
use crate::tree::Tree;
use particle_vm_protocol::{Failure, Plan};

/// Where kernels keep their modules.
const MODULES: &str = "/usr/lib/modules";

/// Options of initramfs-tools(7).
const CONF: &str = "/etc/initramfs-tools/initramfs.conf";

/// initramfs.conf(5) lets files in this folder set its options. This one is there for this one initramfs; the first
/// update of the kernel in the installed system goes by that system's own settings.
const OWN_CONF: &str = "/etc/initramfs-tools/conf.d/particle-vm";

/// Make the initramfs of every kernel in the tree.
///
/// # Errors
/// When the tool in the tree that makes them fails.
pub(super) fn make(site: &Site<'_>) -> Result<(), Failure> {
    let kernels = kernels(site.tree()?)?;
    if kernels.is_empty() {
        site.context.output("there is no kernel in the tree");
    } else if site.has_program("dracut")? {
        for kernel in &kernels {
            let command = site
                .command("dracut")?
                .args(["--force", "--no-hostonly", "--kver", kernel])
                .arg(format!("/boot/initrd.img-{kernel}"));
            site.context.run(&command)?;
        }
    } else if site.has_program("update-initramfs")? {
        let tree = site.tree()?;
        tree.write(OWN_CONF, own_conf(tree, site.plan)?, 0o644)?;
        tell_what_is_not_checked(site)?;
        for kernel in &kernels {
            // It refuses to create one that is there, and to update one that is not.
            let there = site.tree()?.exists(&format!("/boot/initrd.img-{kernel}"));
            let command = site.command("update-initramfs")?.args([if there { "-u" } else { "-c" }, "-k", kernel]);
            site.context.run(&command)?;
        }
        tree.remove(OWN_CONF)?;
    } else {
        site.context.output("nothing in the tree makes an initramfs; the kernel starts without one");
    }
    Ok(())
}

/// The releases of the kernels in the tree.
fn kernels(tree: &Tree) -> Result<Vec<String>, Failure> {
    let mut releases = tree.names(MODULES)?;
    releases.retain(|release| tree.is_file(&format!("/boot/vmlinuz-{release}")));
    Ok(releases)
}

/// The settings for this one initramfs, as far as the recipe does not choose others.
fn own_conf(tree: &Tree, plan: &Plan) -> Result<String, Failure> {
    let folder = "/etc/initramfs-tools/conf.d";
    let mut there = tree.read_text(CONF)?;
    for path in tree.names(folder)?.iter().map(|name| format!("{folder}/{name}")).filter(|path| tree.is_file(path)) {
        there += &tree.read_text(&path)?;
    }
    let sets = |name: &str| {
        there.lines().filter_map(|line| line.trim_start().strip_prefix(name)).any(|rest| rest.starts_with('='))
    };
    let mut conf = String::new();
    if !sets("COMPRESSLEVEL") {
        // The fastest level of any compressor: what it makes is a tenth larger, and takes a quarter of the time.
        conf += "COMPRESSLEVEL=1\n";
    }
    let types = early_types(plan);
    if !types.is_empty() && !there.lines().any(|line| line.starts_with("FSTYPE=") && line != "FSTYPE=auto") {
        // Which fsck is needed it would find out by looking at a disk that is not there yet.
        conf += &format!("FSTYPE={}\n", types.join(","));
    }
    Ok(conf)
}

/// Say which file systems the image will mount unchecked: minimal variants of Debian lack the tools.
fn tell_what_is_not_checked(site: &Site<'_>) -> Result<(), Failure> {
    for kind in early_types(site.plan) {
        if !site.has_program(&format!("fsck.{kind}"))? {
            let package = match kind {
                "ext4" => "e2fsprogs",
                "btrfs" => "btrfs-progs",
                _ => "xfsprogs",
            };
            site.context
                .output(format!("the image cannot check its {kind} when it boots: it lacks the package {package}"));
        }
    }
    Ok(())
}

/// The types of the file systems that the initramfs mounts.
fn early_types(plan: &Plan) -> Vec<&'static str> {
    let filesystem = |point| plan.disk.as_ref()?.mounted_at(point)?.filesystem.as_ref();
    let mut types: Vec<_> =
        ["/", "/usr"].into_iter().filter_map(|point| Some(filesystem(point)?.kind.name())).collect();
    types.dedup();
    types
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{partition, plan};
    use particle_vm_protocol::{Filesystem, PartitionKind};

    #[test]
    fn what_the_initramfs_mounts_it_can_check() {
        let mut plan = plan("[]");
        assert_eq!(early_types(&plan), ["ext4"]);
        plan.disk.as_mut().unwrap().partitions.push(partition(
            PartitionKind::Linux,
            Filesystem::Xfs,
            "usr",
            Some("/usr"),
        ));
        assert_eq!(early_types(&plan), ["ext4", "xfs"]);
    }
}
