//! The initramfs, made once when everything that goes into it is there.

use super::Site;
use crate::tree::Tree;
use particle_vm_protocol::Failure;

/// Where kernels keep their modules.
const MODULES: &str = "/usr/lib/modules";

/// Options of initramfs-tools(7).
const CONF: &str = "/etc/initramfs-tools/initramfs.conf";

/// initramfs.conf(5) lets files in this folder set its options.
const FAST: &str = "/etc/initramfs-tools/conf.d/particle-vm";

/// The fastest level of any compressor: what it makes is a tenth larger, and takes a quarter of the time. The first
/// update of the kernel in the installed system goes by that system's own settings.
const FAST_LEVEL: &str = "COMPRESSLEVEL=1\n";

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
        let fast = !sets_level(site.tree()?)?;
        if fast {
            site.tree()?.write(FAST, FAST_LEVEL, 0o644)?;
        }
        for kernel in &kernels {
            // It refuses to create one that is there, and to update one that is not.
            let there = site.tree()?.exists(&format!("/boot/initrd.img-{kernel}"));
            let command = site.command("update-initramfs")?.args([if there { "-u" } else { "-c" }, "-k", kernel]);
            site.context.run(&command)?;
        }
        if fast {
            site.tree()?.remove(FAST)?;
        }
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

/// Whether the recipe chooses a level of compression.
fn sets_level(tree: &Tree) -> Result<bool, Failure> {
    let sets = |text: String| text.lines().any(|line| line.trim_start().starts_with("COMPRESSLEVEL="));
    let folder = "/etc/initramfs-tools/conf.d";
    for name in tree.names(folder)? {
        if sets(tree.read_text(&format!("{folder}/{name}"))?) {
            return Ok(true);
        }
    }
    Ok(sets(tree.read_text(CONF)?))
}
