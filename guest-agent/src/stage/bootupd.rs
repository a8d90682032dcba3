//! `bootupd`: what `bootupctl` of the tree needs to install bootloaders and to update them: the metadata of those that
//! the tree has, and GRUB's static configuration (bootupd's README, and `generate-update-metadata` in its sources).

use super::{Site, wrong};
use crate::tree::Attributes;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Bootupd;

/// Where the metadata lie, one file for each kind of bootloader.
const UPDATES: &str = "/usr/lib/bootupd/updates";

/// Where the static configuration lies.
const STATIC: &str = "/usr/lib/bootupd/grub2-static";

/// The beginning of the configuration: GRUB finds the file system of `/boot` by the UUID that is written at installation.
const PRE: &str = "\
set pager=1
if [ -e (md/md-boot) ]; then
  set prefix=md/md-boot
elif [ -f ${config_directory}/bootuuid.cfg ]; then
  source ${config_directory}/bootuuid.cfg
fi
if [ -n \"${BOOT_UUID}\" ]; then
  search --fs-uuid \"${BOOT_UUID}\" --set prefix --no-floppy
else
  search --label boot --set prefix --no-floppy
fi
set prefix=($prefix)/boot/grub2
set boot=\"${prefix}\"
set timeout=1
";

/// The menu: the entries that OSTree writes, UAPI.1 Boot Loader Specification.
const MENU: &str = "insmod blsuki\nblscfg --path /boot/loader/entries --enable-fallback\n";

/// Create them.
pub(super) fn perform(site: &mut Site<'_>, options: &Bootupd) -> Result<(), Failure> {
    if !site.has_program("bootupctl")? {
        return Err(wrong(
            "the tree has no `bootupctl`: Debian has no package of bootupd; bring one along with a stage `copy` or `apt`",
        ));
    }
    let tree = site.tree()?;
    tree.make_folder(UPDATES, Attributes::root(0o755))?;
    site.context.run(&site.command("bootupctl")?.args(["backend", "generate-update-metadata", "/"]))?;
    let made = site.tree()?.names(UPDATES)?.into_iter().filter(|name| name.ends_with(".json")).collect::<Vec<_>>();
    if made.is_empty() {
        return Err(wrong(
            "bootupctl has found no bootloader in the tree: it knows those of /usr/lib/efi/NAME/VERSION/EFI, and on other \
             systems than Debian those of packages",
        ));
    }
    site.context.output(format!("metadata: {}", made.join(", ")));
    if options.static_configs {
        static_configs(site)?;
    }
    Ok(())
}

/// Write what the package of bootupd has not brought along.
fn static_configs(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    let files = [(format!("{STATIC}/grub-static-pre.cfg"), PRE), (format!("{STATIC}/configs.d/10_blscfg.cfg"), MENU)];
    for (path, content) in files {
        if !tree.exists(&path) {
            tree.write(&path, content, 0o644)?;
        }
    }
    Ok(())
}
