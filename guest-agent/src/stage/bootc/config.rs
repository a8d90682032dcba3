//! The configuration files of a bootable container.

use super::Site;
use crate::boot;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{Bootc, BootcInstall, PrepareRoot};

/// ostree-prepare-root(1). It goes into the initramfs, which acts by it.
const PREPARE_ROOT: &str = "/usr/lib/ostree/prepare-root.conf";

/// dracut.conf(5): also for who makes an initramfs in an image that is derived from this one.
const DRACUT: &str = "/usr/lib/dracut/dracut.conf.d/50-particle-vm.conf";

/// bootc's documentation, "Kernel arguments".
const KARGS: &str = "/usr/lib/bootc/kargs.d/50-particle-vm.toml";

/// bootc-install-config(5).
const INSTALL: &str = "/usr/lib/bootc/install/50-particle-vm.toml";

/// Drivers for what the root may lie on, some of which dracut takes along only where it sees that they are in use.
const DRIVERS: &str = "erofs overlay virtio_blk virtio_scsi virtio_pci nvme ext4 xfs btrfs vfat";

/// Write them. `modules` are those of dracut that mount the root.
pub(super) fn write(site: &Site<'_>, options: &Bootc, modules: &[&str]) -> Result<(), Failure> {
    let tree = site.tree()?;
    tree.write(PREPARE_ROOT, prepare_root(&options.prepare_root), 0o644)?;
    tree.write(DRACUT, dracut(modules), 0o644)?;
    let mut kargs = boot::arguments_inside(site.plan);
    kargs.extend(options.kargs.iter().cloned());
    if !kargs.is_empty() {
        tree.write(KARGS, format!("kargs = {}\n", list(&kargs)), 0o644)?;
    }
    if options.install != BootcInstall::default() {
        tree.write(INSTALL, install(&options.install), 0o644)?;
    }
    Ok(())
}

fn prepare_root(options: &PrepareRoot) -> String {
    let mut text = format!("[composefs]\nenabled = {}\n\n[sysroot]\n", options.composefs.word());
    text += if options.readonly { "readonly = true\n" } else { "readonly = false\n" };
    if options.transient_etc {
        text += "\n[etc]\ntransient = true\n";
    }
    text
}

fn dracut(modules: &[&str]) -> String {
    let mut text = format!(
        "hostonly=no\nhostonly_cmdline=no\nreproducible=yes\nadd_dracutmodules+=\" {} \"\nadd_drivers+=\" {DRIVERS} \"\n",
        modules.join(" ")
    );
    if modules.contains(&"bootc") {
        // Debian's dracut leaves them empty, and the module would put its unit where nobody looks.
        text += "systemdsystemconfdir=/etc/systemd/system\nsystemdsystemunitdir=/usr/lib/systemd/system\n";
    }
    text
}

fn install(options: &BootcInstall) -> String {
    let mut text = "[install]\n".to_owned();
    if !options.kargs.is_empty() {
        text += &format!("kargs = {}\n", list(&options.kargs));
    }
    if let Some(stateroot) = &options.stateroot {
        text += &format!("stateroot = {}\n", string(stateroot));
    }
    if let Some(filesystem) = options.filesystem {
        text += &format!("\n[install.filesystem.root]\ntype = {}\n", string(filesystem.name()));
    }
    text
}

/// A basic string of TOML. JSON's are the same, but for DEL, which no option has: the host has checked them.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use particle_vm_protocol::Filesystem;
    use particle_vm_protocol::stage::Composefs;

    #[test]
    fn the_files_say_what_the_options_say() {
        assert_eq!(prepare_root(&PrepareRoot::default()), "[composefs]\nenabled = yes\n\n[sysroot]\nreadonly = true\n");
        let options = PrepareRoot { composefs: Composefs::Verity, readonly: false, transient_etc: true };
        assert_eq!(
            prepare_root(&options),
            "[composefs]\nenabled = verity\n\n[sysroot]\nreadonly = false\n\n[etc]\ntransient = true\n"
        );
        let options = BootcInstall {
            filesystem: Some(Filesystem::Xfs),
            kargs: vec!["quiet".into(), "a=\"b\"".into()],
            stateroot: Some("debian".into()),
        };
        assert_eq!(
            install(&options),
            "[install]\nkargs = [\"quiet\", \"a=\\\"b\\\"\"]\nstateroot = \"debian\"\n\n[install.filesystem.root]\n\
             type = \"xfs\"\n"
        );
    }

    #[test]
    fn the_module_of_bootc_is_told_where_units_lie() {
        assert!(dracut(&["ostree"]).contains("add_dracutmodules+=\" ostree \"\n"));
        assert!(!dracut(&["ostree"]).contains("systemdsystemunitdir"));
        assert!(dracut(&["ostree", "bootc"]).contains("systemdsystemunitdir=/usr/lib/systemd/system\n"));
    }
}
