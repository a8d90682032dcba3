//! bootupd in a deployment: it installs the boot loader that it updates later ("bootupctl backend install", bootupd 0.3).

use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::mountpoints::MountPoints;
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use crate::tree::Tree;
use particle_vm_protocol::stage::Firmware;
use particle_vm_protocol::{Failure, FailureKind};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The program.
const PROGRAM: &str = "/usr/bin/bootupctl";

/// The metadata of what it installs, one file for each component.
pub const UPDATES: &str = "/usr/lib/bootupd/updates";

/// GRUB's static configuration.
pub const STATIC: &str = "/usr/lib/bootupd/grub2-static";

/// The file in it with the menu.
pub const MENU_NAME: &str = "configs.d/10_blscfg.cfg";

/// What is in the one that bootupd brings, which Fedora's GRUB alone understands.
const FEDORA_MENU: &str = "blscfg";

/// Where it goes, and the file in it that is read at its end.
const GRUB: &str = "boot/grub2";
const CUSTOM: &str = "custom.cfg";

/// The tool for GRUB's variables, by the name that it calls.
pub const EDITENV: &str = "/usr/bin/grub2-editenv";

/// GRUB's installation for BIOS, by the name that it calls.
pub const INSTALL: &str = "/usr/sbin/grub2-install";

/// Whether the deployment in `tree` has bootupd with metadata.
pub fn is_there(tree: &Tree) -> bool {
    tree.is_file(PROGRAM) && tree.is_folder(UPDATES)
}

/// What the deployment in `tree` lacks for bootupd to install a GRUB for `firmware` that boots it; none when it lacks
/// nothing. Both firmwares share a configuration, which bootupd writes with what is for UEFI.
///
/// # Errors
/// When its files cannot be read.
pub fn lacks(tree: &Tree, firmware: Firmware) -> Result<Option<String>, Failure> {
    let lacks = |what: &str| Ok(Some(what.to_owned()));
    let metadata = |firmware| format!("{UPDATES}/{}.json", component(firmware));
    for firmware in [Firmware::Uefi, firmware] {
        if !tree.is_file(&metadata(firmware)) {
            return lacks(&metadata(firmware));
        }
    }
    if !names_grub(&tree.read(&metadata(Firmware::Uefi))?) {
        return lacks("GRUB among what bootupd has for UEFI");
    }
    let tools = [EDITENV].into_iter().chain((firmware == Firmware::Bios).then_some(INSTALL)).map(str::to_owned);
    let files = ["grub-static-pre.cfg", "grub-static-efi.cfg"].map(|name| format!("{STATIC}/{name}"));
    if let Some(path) = tools.chain(files).find(|path| !tree.is_file(path)) {
        return lacks(&path);
    }
    let has = |module: &str| {
        ["i386-pc", "x86_64-efi"].iter().any(|platform| tree.is_file(&format!("/usr/lib/grub/{platform}/{module}.mod")))
    };
    let of_fedora = has_fedora_menu(tree)?;
    // `blscfg` is a module of Fedora's GRUB, `blsuki` one of GRUB 2.14, which has to be told where the entries are.
    Ok((!has("blscfg") && (of_fedora || !has("blsuki"))).then(|| "a GRUB whose menu has the entries of OSTree".into()))
}

/// Whether the menu of the tree is one that only Fedora's GRUB understands.
///
/// # Errors
/// When it cannot be read.
pub fn has_fedora_menu(tree: &Tree) -> Result<bool, Failure> {
    let menu = format!("{STATIC}/{MENU_NAME}");
    Ok(tree.is_file(&menu) && tree.read_text(&menu)?.trim() == FEDORA_MENU)
}

/// Whether metadata are of GRUB too: `versions` has the names of the components (`ContentMetadata` in "model.rs").
fn names_grub(metadata: &[u8]) -> bool {
    let metadata: Value = serde_json::from_slice(metadata).unwrap_or_default();
    metadata["versions"].as_array().is_some_and(|versions| versions.iter().any(|version| version["name"] == "grub2"))
}

/// The name of a component.
fn component(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "EFI",
    }
}

/// Install what the deployment at [`paths::TREE`] has for `firmware`. Its disk, `device`, is mounted at [`paths::TARGET`].
/// `settings` are read at the end of GRUB's configuration.
///
/// # Errors
/// When bootupd fails.
pub fn install(context: &Context, firmware: &[Firmware], device: &Path, settings: &str) -> Result<(), Failure> {
    let (tree, disk) = (Path::new(paths::TREE), Path::new(paths::TARGET));
    let chroot = Chroot::enter(tree, Devices::All, &[])
        .explain(FailureKind::Agent, || "cannot prepare the deployment for running commands in it")?;
    let mut mounts = MountPoints::default();
    mounts.bind(&disk.join("boot"), &tree.join("boot"))?;
    mounts.bind(disk, &tree.join("sysroot"))?;
    let backend = || Command::new(PROGRAM).args(["backend", "install"]).within(&chroot);
    // What its versions know they tell in their help; bootc asks them in the same way.
    let help = context.capture(&backend().arg("--help"))?;
    let mut command = backend().arg("--write-uuid");
    if help.contains("--bootloader") {
        command = command.arg("--bootloader=grub");
    }
    command = if help.contains("--filesystem") {
        command.arg("--filesystem=/sysroot")
    } else {
        command.arg("--device").arg(device)
    };
    let components = firmware.iter().map(|firmware| format!("--component={}", component(*firmware)));
    context.run(&command.args(components).arg("/"))?;
    mounts.undo()?;
    chroot.leave().explain(FailureKind::Agent, || "cannot leave the deployment")?;
    let path = disk.join(GRUB).join(CUSTOM);
    fs::write(&path, settings).explain(FailureKind::Agent, || format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;

    #[test]
    fn what_bootupd_would_fail_without_is_told() {
        let folder = Folder::new("bootupd-lacks");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let tree = Tree::open(folder.path()).unwrap();
        let lacks = |firmware| lacks(&tree, firmware).unwrap().unwrap_or_default();
        write(PROGRAM, "");
        assert!(!is_there(&tree));
        write("/usr/lib/bootupd/updates/BIOS.json", "{}");
        assert!(is_there(&tree) && lacks(Firmware::Bios).ends_with("EFI.json"));
        write("/usr/lib/bootupd/updates/EFI.json", r#"{"versions":[{"name":"systemd-boot"}]}"#);
        assert!(lacks(Firmware::Uefi).starts_with("GRUB among"));
        write("/usr/lib/bootupd/updates/EFI.json", r#"{"versions":[{"name":"shim"},{"name":"grub2"}]}"#);
        assert_eq!(lacks(Firmware::Uefi), EDITENV);
        write(EDITENV, "");
        assert_eq!(lacks(Firmware::Bios), INSTALL);
        assert!(lacks(Firmware::Uefi).ends_with("grub-static-pre.cfg"));
        for name in ["grub-static-pre.cfg", "grub-static-efi.cfg", "configs.d/10_blscfg.cfg"] {
            write(&format!("{STATIC}/{name}"), "blscfg\n");
        }
        write("/usr/lib/grub/x86_64-efi/blsuki.mod", "");
        // A menu that only Fedora's GRUB understands.
        assert!(lacks(Firmware::Uefi).contains("menu"));
        write(&format!("{STATIC}/configs.d/10_blscfg.cfg"), "blscfg --path /loader/entries\n");
        assert_eq!((lacks(Firmware::Uefi), lacks(Firmware::Bios)), (String::new(), INSTALL.to_owned()));
    }
}
