//! systemd-boot, for UEFI.

use super::Target;
use crate::tree::Tree;
use particle_vm_protocol::Failure;

/// The packages. The boot loader itself is a dependency of the tools.
pub const PACKAGES: &[&str] = &["systemd-boot"];

/// The name that kernels have on the EFI system partition, kernel-install(8). Without the file it would be the machine
/// id, which an image does not have.
const ENTRY_TOKEN: &str = "/etc/kernel/entry-token";

/// Where kernels keep their modules.
const MODULES: &str = "/usr/lib/modules";

/// Write what kernel-install(8) goes by, now and when packages of kernels are updated in the installed system.
pub fn configure(tree: &Tree) -> Result<(), Failure> {
    let os_release = tree.read_text("/etc/os-release")?;
    let id = os_release.lines().find_map(|line| line.strip_prefix("ID=")).map_or("linux", |id| id.trim_matches('"'));
    tree.write(ENTRY_TOKEN, format!("{id}\n"), 0o644)?;
    Ok(tree.write("/etc/kernel/install.conf", "layout=bls\n", 0o644)?)
}

/// Put systemd-boot on the disk, with an entry for each kernel.
pub(super) fn install(target: &Target<'_>, timeout: u32) -> Result<(), Failure> {
    let esp = target.esp()?;
    let run = |program: &str, arguments: &[&str]| {
        let command = crate::process::Command::new(program)
            .within(target.chroot)
            // There is no udev here that knows which partition is which; the plan does.
            .env("SYSTEMD_RELAX_ESP_CHECKS", "1")
            .env("BOOT_ROOT", esp)
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
