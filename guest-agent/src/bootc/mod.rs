//! Container images that install themselves: the `bootc` of the image runs in a chroot of it, so that what it writes is what
//! the same version updates later.
//!
//! It is given the image as it was fetched, as an OCI layout, and the mounted disk. What it wants of its surroundings beyond
//! a chroot stands in "prepare_install" of its sources (`crates/lib/src/install.rs` of 1.16).

use crate::boot;
use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::deployment::{self, Deployment};
use crate::mountpoints::MountPoints;
use crate::ostree;
use crate::paths;
use crate::plain;
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::Tree;
use particle_vm_protocol::{Backend, Base, Failure, FailureKind, Plan, share};
use std::fs;
use std::path::Path;

/// Where the image is unpacked.
pub const IMAGE: &str = "/scratch/image";

/// Where the image finds itself, and the disk, in its chroot: on a tmpfs, so that nothing of it stays.
const LAYOUT: &str = "/run/particle-vm/image";
const DISK: &str = "/run/particle-vm/disk";

/// What bootc looks for in the root of process 1, which is the machine's own in its eyes.
const OF_THE_MACHINE: [&str; 3] = ["/var/lib/containers", "/var/tmp", "/run/udev"];

/// Where bootc's composefs backend keeps what the deployments of a system have of their own, and what they share.
const STATE: &str = "state/deploy";
const SHARED_VAR: &str = "state/os/default/var";

/// Unpack the image.
///
/// # Errors
/// When a layer is broken, or has no bootc in it.
pub fn unpack(context: &Context, base: &Base) -> Result<(), Failure> {
    let root = Path::new(IMAGE);
    plain::unpack(context, base, root)?;
    let tree = Tree::open(root).explain(FailureKind::Agent, || "cannot open the image")?;
    if tree.is_file("/usr/bin/bootc") {
        return Ok(());
    }
    Err(report::plain(FailureKind::Input, "the image has no /usr/bin/bootc, which would have to install it"))
}

/// Have it installed on the disk that is mounted at `sysroot`, and mount what comes of it.
///
/// # Errors
/// When bootc fails.
pub fn install(context: &Context, sysroot: &Path, plan: &Plan, base: &Base) -> Result<Deployment, Failure> {
    for folder in OF_THE_MACHINE {
        fs::create_dir_all(folder).explain(FailureKind::Agent, || format!("cannot make {folder}"))?;
    }
    let image = Path::new(IMAGE);
    // What enters a mount namespace wants its root to be a mount point.
    let mut around = MountPoints::default();
    around.bind(image, image)?;
    let chroot = Chroot::enter(image, Devices::All, &[])
        .explain(FailureKind::Agent, || "cannot prepare the image for running commands in it")?;
    let mut inside = MountPoints::default();
    for (from, to) in [(Path::new(paths::BASE).join(share::LAYOUT), LAYOUT), (sysroot.to_owned(), DISK)] {
        let to = image.join(to.trim_start_matches('/'));
        fs::create_dir_all(&to).explain(FailureKind::Agent, || format!("cannot make {}", to.display()))?;
        inside.bind(&from, &to)?;
    }
    // A mount does not come along with what it is in.
    if plan.disk.as_ref().is_some_and(|disk| disk.mounted_at("/boot").is_some()) {
        inside.bind(&sysroot.join("boot"), &image.join(DISK.trim_start_matches('/')).join("boot"))?;
    }
    context.run(&command(plan, base)?.within(&chroot))?;
    inside.undo()?;
    chroot.leave().explain(FailureKind::Agent, || "cannot leave the image")?;
    around.undo()?;
    match base.backend {
        Backend::Ostree => ostree::mount(sysroot),
        Backend::Composefs => {
            let state = deployment::only_folder(&sysroot.join(STATE))?;
            // The files are the same as those of the image that was just unpacked.
            Deployment::mount(image, &state.join("etc"), &sysroot.join(SHARED_VAR))
        }
    }
}

/// The installation: bootc-install-to-filesystem(8).
fn command(plan: &Plan, base: &Base) -> Result<Command, Failure> {
    let mut command = Command::new("bootc").args(["install", "to-filesystem"]);
    command = command.arg(format!("--source-imgref=oci:{LAYOUT}"));
    let (transport, name) = target(&base.reference);
    command = command.arg(format!("--target-transport={transport}")).arg(format!("--target-imgref={name}"));
    command = command.args(["--skip-fetch-check", "--generic-image", "--skip-finalize"]);
    command = match base.backend {
        // The disk's boot loader reads what ostree writes, see `boot::deployment`.
        Backend::Ostree => command.arg("--bootloader=none"),
        Backend::Composefs => command.args(["--composefs-backend", "--bootloader=systemd"]),
    };
    command = command.arg(format!("--root-mount-spec=UUID={}", boot::root_uuid(plan)?));
    for argument in plan.root_argument.iter().cloned().chain(boot::arguments(plan)) {
        command = command.arg(format!("--karg={argument}"));
    }
    Ok(command.arg(DISK))
}

/// Where the installed system looks for updates: transport and name, as bootc takes them. It wants one in any case, and what
/// it is installed from is gone by then; of what is no registry it is the name alone, and an update needs `bootc switch`.
fn target(reference: &str) -> (&str, &str) {
    match reference.split_once(':').unwrap_or_default() {
        ("docker", name) => ("registry", name.trim_start_matches('/')),
        of_machine => of_machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootc_is_told_where_the_image_comes_from() {
        assert_eq!(target("docker://localhost:5000/os:1"), ("registry", "localhost:5000/os:1"));
        assert_eq!(target("oci-archive:os.oci.tar:1"), ("oci-archive", "os.oci.tar:1"));
        assert_eq!(target("containers-storage:localhost/os:1"), ("containers-storage", "localhost/os:1"));
    }
}
