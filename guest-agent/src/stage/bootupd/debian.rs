//! What bootupd knows on other systems than Debian, made of Debian's packages: it looks for bootloaders for UEFI in
//! `/usr/lib/efi/NAME/VERSION/EFI` ("efi.rs" of its sources, 0.3), and for GRUB's tools by Fedora's names ("bios.rs",
//! "grubconfigs.rs").

use super::super::{Site, wrong};
use crate::boot::bootupd::{self, UPDATES};
use crate::report::Explain;
use crate::tree::{Attributes, Tree};
use particle_vm_protocol::{Failure, FailureKind};
use serde_json::{Value, json};

/// Where bootupd looks for what goes to the EFI system partition.
const EFI: &str = "/usr/lib/efi";

/// Where GRUB has its modules.
const GRUB: &str = "/usr/lib/grub";

/// GRUB's module for entries of the Boot Loader Specification, which it has from 2.14 on.
const BLS: &str = "blsuki.mod";

/// The first stage. By its name bootupd finds the folder of the vendor, and it starts `grubx64.efi` beside it.
const SHIM: &str = "shimx64.efi";

/// Where packages have it.
const SHIMS: [(&str, &str); 2] =
    [("/usr/lib/shim/shimx64.efi.signed", "shim-signed"), ("/usr/lib/shim/shimx64.efi", "shim-unsigned")];

/// The folder of the vendor, where GRUB looks for its configuration.
const VENDOR: &str = "EFI/debian";

/// What firmware starts on a disk that it does not know.
const REMOVABLE: &str = "EFI/BOOT";

/// What is in the image of GRUB: bootupd brings no modules to the disk. The static configuration uses it.
const MODULES: [&str; 29] = [
    "all_video",
    "blsuki",
    "bli",
    "btrfs",
    "configfile",
    "echo",
    "efifwsetup",
    "ext2",
    "fat",
    "gzio",
    "halt",
    "linux",
    "loadenv",
    "ls",
    "mdraid1x",
    "minicmd",
    "normal",
    "part_gpt",
    "password_pbkdf2",
    "reboot",
    "regexp",
    "search",
    "search_fs_uuid",
    "search_label",
    "serial",
    "sleep",
    "terminal",
    "test",
    "xfs",
];

/// GRUB for BIOS, by the name that bootupd calls.
const INSTALL: (&str, &str) = (bootupd::INSTALL, include_str!("grub2-install.sh"));

/// The tool for GRUB's variables, by the name that bootupd calls.
const EDITENV: (&str, &str) = (bootupd::EDITENV, "grub-editenv");

/// A file beside what is made here: it is made anew when its packages may be others.
const MADE: &str = "/usr/lib/bootupd/made-by-particle-vm";

/// Take away what an earlier run has made: with GRUB for BIOS in place bootupd would ask rpm.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn forget(tree: &Tree) -> Result<(), Failure> {
    if tree.is_file(INSTALL.0) && tree.read(INSTALL.0)? == INSTALL.1.as_bytes() {
        tree.remove(INSTALL.0)?;
    }
    if tree.is_file(MADE) {
        tree.clear(EFI, |_| false)?;
        tree.remove_folder(EFI)?;
    }
    Ok(())
}

/// Put GRUB and shim where bootupd takes them from, unless something is there.
///
/// # Errors
/// When the packages are not there.
pub(super) fn for_uefi(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    if tree.exists(EFI) {
        return Ok(());
    }
    if !tree.is_file(&format!("{GRUB}/x86_64-efi/{BLS}")) || !site.has_program("grub-mkimage")? {
        return Err(wrong(
            "bootupd needs GRUB 2.14 or newer for UEFI: install `grub-efi-amd64-bin` of forky or a later suite",
        ));
    }
    let Some((shim, package)) = SHIMS.into_iter().find(|(path, _)| tree.is_file(path)) else {
        return Err(wrong(
            "bootupd finds the folder of the bootloader by that of shim: install `shim-unsigned` or `shim-signed`",
        ));
    };
    let folder = |name: &str, version: &str| format!("{EFI}/{name}/{version}");
    let of_shim = folder("shim", &version(site, package)?);
    let of_grub = folder("grub2", &version(site, "grub-efi-amd64-bin")?);
    tree.write(MADE, format!("{EFI}\n"), 0o644)?;
    let content = tree.read(shim)?;
    tree.write(&format!("{of_shim}/{VENDOR}/{SHIM}"), &content, 0o644)?;
    tree.write(&format!("{of_shim}/{REMOVABLE}/BOOTX64.EFI"), &content, 0o644)?;
    let path = format!("{of_grub}/{VENDOR}/grubx64.efi");
    tree.make_folder(&format!("{of_grub}/{VENDOR}"), Attributes::root(0o755))?;
    let command = site.command("grub-mkimage")?.args(["--format=x86_64-efi", &format!("--prefix=/{VENDOR}")]);
    site.context.run(&command.arg(format!("--output={path}")).args(MODULES))?;
    let tree = site.tree()?;
    tree.write(&format!("{of_grub}/{REMOVABLE}/grubx64.efi"), tree.read(&path)?, 0o644)?;
    Ok(())
}

/// The metadata of GRUB for BIOS, and its tools by the names that bootupd calls. It would ask rpm for the version.
///
/// # Errors
/// When they cannot be written.
pub(super) fn for_bios(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    if !tree.exists(EDITENV.0) && tree.is_file("/usr/bin/grub-editenv") {
        tree.symlink(EDITENV.1, EDITENV.0)?;
    }
    let module = format!("{GRUB}/i386-pc/{BLS}");
    if tree.exists(INSTALL.0) || !tree.is_file(&module) || !site.has_program("grub-install")? {
        return Ok(());
    }
    let version = version(site, "grub-pc-bin")?;
    let written = tree.read(&format!("{UPDATES}/EFI.json"))?;
    let of_uefi: Value =
        serde_json::from_slice(&written).explain(FailureKind::Command, || "bootupctl has written no JSON")?;
    let metadata = json!({
        "timestamp": of_uefi["timestamp"],
        "version": format!("grub2-{version}"),
        "versions": [{ "name": "grub2", "rpm_evr": version }],
    });
    tree.write(&format!("{UPDATES}/BIOS.json"), metadata.to_string(), 0o644)?;
    tree.write(INSTALL.0, INSTALL.1, 0o755)?;
    Ok(())
}

/// When the newest of GRUB's modules was made, in seconds since the Unix epoch: the time that the metadata tell.
pub(super) fn source_date(tree: &Tree) -> i64 {
    let modules = ["x86_64-efi", "i386-pc"].map(|platform| format!("{GRUB}/{platform}/{BLS}"));
    modules.iter().filter_map(|module| tree.stat(module)).map(|stat| stat.st_mtime).max().unwrap_or(0)
}

/// The version of an installed package.
fn version(site: &Site<'_>, package: &str) -> Result<String, Failure> {
    site.context.capture(&site.command("dpkg-query")?.args(["--show", "--showformat=${Version}", package]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{self, Folder};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Run the script as bootupd does, with a GRUB that writes what it is told into its boot directory.
    #[test]
    fn grub_finds_the_configuration_of_bootupd() {
        let folder = Folder::new("grub2-install");
        let (boot, script) = (folder.path().join("boot"), folder.path().join("grub2-install"));
        fs::create_dir(&boot).unwrap();
        fs::write(&script, INSTALL.1).unwrap();
        let grub = folder.path().join("grub-install");
        fs::write(&grub, "#!/bin/sh\necho \"$@\" > \"$4/grub/told\"\n").unwrap();
        fs::set_permissions(&grub, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        for _ in 0..2 {
            let mut command = std::process::Command::new("sh");
            command.arg(&script).args(["--target", "i386-pc", "--boot-directory"]).arg(&boot).arg("/dev/vdb");
            fixtures::run(command.env("PATH", &path));
            let told = fs::read_to_string(boot.join("grub2/told")).unwrap();
            assert_eq!(told, format!("--target i386-pc --boot-directory {} /dev/vdb\n", boot.display()));
            assert_eq!(fs::read_link(boot.join("grub")).unwrap().as_os_str(), "grub2");
        }
    }
}
