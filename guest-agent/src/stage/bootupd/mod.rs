//! `bootupd`: what `bootupctl` of the tree needs to install bootloaders and to update them: the metadata of those that
//! the tree has, and GRUB's static configuration (bootupd's README, and `generate-update-metadata` in its sources).

mod debian;

use super::{Site, wrong};
use crate::boot::bootupd::{MENU_NAME, STATIC, UPDATES, has_fedora_menu};
use crate::tree::{Attributes, Tree};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Bootupd;

/// What GRUB begins with on the EFI system partition: it finds the file system of `/boot` by the UUID that is written
/// beside it at installation, and goes on there.
const EFI: &str = "\
if [ -f ${config_directory}/bootuuid.cfg ]; then
  source ${config_directory}/bootuuid.cfg
fi
if [ -n \"${BOOT_UUID}\" ]; then
  search --no-floppy --fs-uuid --set=found \"${BOOT_UUID}\"
else
  search --no-floppy --label --set=found boot
fi
if [ -d ($found)/grub2 ]; then
  set prefix=($found)/grub2
else
  set prefix=($found)/boot/grub2
fi
configfile $prefix/grub.cfg
";

/// The beginning of the configuration beside the kernels: their file system becomes the root of all paths.
const PRE: &str = "\
set pager=1
if [ -f ${prefix}/bootuuid.cfg ]; then
  source ${prefix}/bootuuid.cfg
fi
if [ -n \"${BOOT_UUID}\" ]; then
  search --no-floppy --fs-uuid --set=root \"${BOOT_UUID}\"
else
  search --no-floppy --label --set=root boot
fi
set boot=$root
set timeout=1
";

/// The menu: the entries that OSTree writes, UAPI.1 Boot Loader Specification.
const MENU: &str = "\
insmod blsuki
if [ -d ($root)/loader/entries ]; then
  blscfg --path /loader/entries --enable-fallback
else
  blscfg --path /boot/loader/entries --enable-fallback
fi
";

/// The end of the configuration: what an installation or an administrator has set.
const CUSTOM: &str = "\
if [ -f ${prefix}/custom.cfg ]; then
  source ${prefix}/custom.cfg
fi
";

/// Create them.
pub(super) fn perform(site: &mut Site<'_>, options: &Bootupd) -> Result<(), Failure> {
    if !site.has_program("bootupctl")? {
        return Err(wrong(
            "the tree has no `bootupctl`: Debian has no package of bootupd; bring one along with a stage `copy` or `apt`",
        ));
    }
    debian::forget(site.tree()?)?;
    debian::for_uefi(site)?;
    let tree = site.tree()?;
    tree.make_folder(UPDATES, Attributes::root(0o755))?;
    let command = site.command("bootupctl")?.args(["backend", "generate-update-metadata", "/"]);
    site.context.run(&command.env("SOURCE_DATE_EPOCH", debian::source_date(tree).to_string()))?;
    debian::for_bios(site)?;
    let made = site.tree()?.names(UPDATES)?.into_iter().filter(|name| name.ends_with(".json")).collect::<Vec<_>>();
    if made.is_empty() {
        return Err(wrong(
            "bootupctl has found no bootloader in the tree: it knows those of /usr/lib/efi/NAME/VERSION/EFI",
        ));
    }
    site.context.output(format!("metadata: {}", made.join(", ")));
    if options.static_configs {
        static_configs(site.tree()?)?;
    }
    Ok(())
}

/// Write what the package of bootupd has not brought along, and the menu in words of Debian's GRUB.
fn static_configs(tree: &Tree) -> Result<(), Failure> {
    for (name, content) in [
        ("grub-static-efi.cfg", EFI),
        ("grub-static-pre.cfg", PRE),
        (MENU_NAME, MENU),
        ("configs.d/41_custom.cfg", CUSTOM),
    ] {
        let path = format!("{STATIC}/{name}");
        let foreign = name == MENU_NAME && has_fedora_menu(tree)?;
        if foreign || !tree.exists(&path) {
            tree.write(&path, content, 0o644)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;

    #[test]
    fn the_menu_of_fedoras_grub_is_replaced_and_no_other_file() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested: files in a tree belong to root");
            return;
        }
        let folder = Folder::new("bootupd-static");
        let tree = Tree::open(folder.path()).unwrap();
        let (menu, pre) = (format!("{STATIC}/{MENU_NAME}"), format!("{STATIC}/grub-static-pre.cfg"));
        tree.write(&menu, "blscfg\n", 0o644).unwrap();
        tree.write(&pre, "own", 0o644).unwrap();
        static_configs(&tree).unwrap();
        assert_eq!((tree.read_text(&menu).unwrap().as_str(), tree.read_text(&pre).unwrap().as_str()), (MENU, "own"));
        assert_eq!(tree.read_text(&format!("{STATIC}/grub-static-efi.cfg")).unwrap(), EFI);
        tree.write(&menu, "own", 0o644).unwrap();
        static_configs(&tree).unwrap();
        assert_eq!(tree.read_text(&menu).unwrap(), "own");
    }
}
