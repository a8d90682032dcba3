//! systemd-boot, for UEFI.

use super::{Target, arguments, esp, root_arguments};
use crate::tree::Tree;
use particle_vm_protocol::{Failure, Plan};

/// The name that kernels have on the EFI system partition, kernel-install(8). Without the file it would be the machine
/// id, which an image does not have.
const ENTRY_TOKEN: &str = "/etc/kernel/entry-token";

/// The command line of the kernels. Without the file kernel-install(8) takes the one of the machine that it runs on,
/// and that is the VM of the build.
const CMDLINE: &str = "/etc/kernel/cmdline";

/// Where kernels keep their modules.
const MODULES: &str = "/usr/lib/modules";

/// Write what kernel-install(8) goes by, now and when packages of kernels are updated in the installed system. A command
/// line that a stage has written stays.
pub fn configure(tree: &Tree, plan: &Plan) -> Result<(), Failure> {
    if !tree.exists(CMDLINE) {
        tree.write(CMDLINE, cmdline(plan)?, 0o644)?;
    }
    let os_release = tree.read_text("/etc/os-release")?;
    let id = os_release.lines().find_map(|line| line.strip_prefix("ID=")).map_or("linux", |id| id.trim_matches('"'));
    tree.write(ENTRY_TOKEN, format!("{id}\n"), 0o644)?;
    Ok(tree.write("/etc/kernel/install.conf", install_conf(plan)?, 0o644)?)
}

fn cmdline(plan: &Plan) -> Result<String, Failure> {
    Ok([root_arguments(plan)?, arguments(plan)].concat().join(" ") + "\n")
}

/// kernel-install(8): where kernels go has to be said, because it prefers a partition for `/boot`, and firmware reads
/// no file system that such a one may have.
fn install_conf(plan: &Plan) -> Result<String, Failure> {
    Ok(format!("layout=bls\nBOOT_ROOT={}\n", esp(plan)?))
}

/// Put systemd-boot on the disk, with an entry for each kernel.
pub(super) fn install(target: &Target<'_>, timeout: u32) -> Result<(), Failure> {
    let esp = esp(target.plan)?;
    let run = |program: &str, arguments: &[&str]| {
        let command = crate::process::Command::new(program)
            .within(target.chroot)
            // There is no udev here that knows which partition is which; the plan does.
            .env("SYSTEMD_RELAX_ESP_CHECKS", "1")
            .args(arguments.iter().copied());
        target.context.run(&command)
    };
    // It goes to EFI/systemd and to EFI/BOOT/BOOTX64.EFI, which firmware starts without a boot entry.
    run("bootctl", &["--no-variables", &format!("--esp-path={esp}"), "install"])?;
    // The seed of the random number generator belongs to one machine; the first boot makes it.
    target.tree.remove(&format!("{esp}/loader/random-seed"))?;
    target.tree.write(&format!("{esp}/loader/loader.conf"), format!("timeout {timeout}\n"), 0o644)?;
    for release in target.tree.names(MODULES)? {
        let kernel = format!("/boot/vmlinuz-{release}");
        let initrd = format!("/boot/initrd.img-{release}");
        if !target.tree.is_file(&kernel) {
            continue;
        }
        let mut arguments = vec!["add", &release, &kernel];
        if target.tree.is_file(&initrd) {
            arguments.push(&initrd);
        }
        run("kernel-install", &arguments)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::plan;

    #[test]
    fn a_kernel_finds_its_root_whichever_stage_installs_it() {
        let with = plan(r#"[{"type": "kernel", "options": {"cmdline": ["quiet"]}}]"#);
        assert_eq!(cmdline(&with).unwrap(), "root=UUID=root ro quiet\n");
        let without = plan(r#"[{"type": "apt", "options": {"packages": ["linux-image-amd64"]}}]"#);
        assert_eq!(cmdline(&without).unwrap(), "root=UUID=root ro\n");
    }

    #[test]
    fn kernels_go_where_the_firmware_reads() {
        assert_eq!(install_conf(&plan("[]")).unwrap(), "layout=bls\nBOOT_ROOT=/boot/efi\n");
    }
}
