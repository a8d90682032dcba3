//! bootupd in a deployment: it installs the boot loader that it updates later ("bootupctl backend install", bootupd 0.3).

use crate::binds::Binds;
use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use crate::tree::Tree;
use particle_vm_protocol::stage::Firmware;
use particle_vm_protocol::{Failure, FailureKind};
use std::path::Path;

/// The program.
const PROGRAM: &str = "/usr/bin/bootupctl";

/// What is in the metadata of the deployment in `tree` for `firmware`. Without that for UEFI it installs nothing.
pub fn knows(tree: &Tree, firmware: Firmware) -> bool {
    let has = |firmware| tree.is_file(&format!("/usr/lib/bootupd/updates/{}.json", component(firmware)));
    tree.is_file(PROGRAM) && has(Firmware::Uefi) && has(firmware)
}

/// The name of a component.
fn component(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "EFI",
    }
}

/// Install what the deployment at [`paths::TREE`] has for `firmware`. Its disk is mounted at [`paths::TARGET`], without the
/// EFI system partition, which bootupd looks for by itself.
///
/// # Errors
/// When bootupd fails.
pub fn install(context: &Context, firmware: &[Firmware]) -> Result<(), Failure> {
    let (tree, disk) = (Path::new(paths::TREE), Path::new(paths::TARGET));
    let chroot = Chroot::enter(tree, Devices::All, &[])
        .explain(FailureKind::Agent, || "cannot prepare the deployment for running commands in it")?;
    let mut binds = Binds::default();
    binds.add(&disk.join("boot"), &tree.join("boot"))?;
    binds.add(disk, &tree.join("sysroot"))?;
    let command = Command::new(PROGRAM).args(["backend", "install", "--write-uuid", "--filesystem=/sysroot"]);
    let components = firmware.iter().map(|firmware| format!("--component={}", component(*firmware)));
    context.run(&command.args(components).arg("/").within(&chroot))?;
    binds.undo()?;
    chroot.leave().explain(FailureKind::Agent, || "cannot leave the deployment")
}
