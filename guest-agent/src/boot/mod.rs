//! Making the image bootable.

pub mod bootupd;
pub mod deployment;
mod devices;
pub mod grub;
pub mod systemd_boot;

use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::disk::Filled;
use crate::report::{self, Explain};
use crate::stage::apt_conf;
use crate::tree::Tree;
use particle_vm_protocol::stage::{Bootloader, BootloaderType};
use particle_vm_protocol::{Failure, FailureKind, PartitionKind, Plan, PlannedStage, Stage};
use std::path::Path;

/// What an installation of a bootloader works on.
struct Target<'a> {
    context: &'a Context,
    plan: &'a Plan,
    tree: &'a Tree,
    chroot: &'a Chroot,
    /// The whole disk, for instance `/dev/vdb`.
    device: &'a Path,
}

/// Install the bootloader of `plan`, if it has one, in the image that is mounted at `root`.
///
/// # Errors
/// When its tools fail, or the disk lacks a partition for it.
pub fn install(
    context: &Context,
    plan: &Plan,
    root: &Path,
    device: &Path,
    partitions: &[Filled<'_>],
) -> Result<(), Failure> {
    let Some(bootloader) = bootloader(plan) else { return Ok(()) };
    let tree = Tree::open(root).explain(FailureKind::Agent, || "cannot open the image")?;
    let _links = devices::Links::new(partitions)?;
    let chroot = Chroot::enter(root, Devices::All, &apt_conf(plan))
        .explain(FailureKind::Agent, || "cannot prepare the image for running commands in it")?;
    let target = Target { context, plan, tree: &tree, chroot: &chroot, device };
    match bootloader.kind {
        BootloaderType::Grub => grub::install(&target, &bootloader.firmware)?,
        BootloaderType::SystemdBoot => systemd_boot::install(&target, bootloader.timeout)?,
    }
    chroot.leave().explain(FailureKind::Agent, || "cannot leave the image")
}

impl Target<'_> {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let command = crate::process::Command::new(program).within(self.chroot).args(arguments.iter().copied());
        self.context.run(&command)
    }
}

/// Where the EFI system partition is mounted, seen from inside of the image.
fn esp(plan: &Plan) -> Result<&str, Failure> {
    let partitions = plan.disk.iter().flat_map(|disk| &disk.partitions);
    let esp = partitions.into_iter().find(|partition| partition.kind == PartitionKind::Esp);
    esp.and_then(|partition| partition.mountpoint.as_deref()).ok_or_else(|| {
        report::plain(FailureKind::Input, "booting on UEFI needs an EFI system partition with a mount point")
    })
}

/// The bootloader of a plan.
fn bootloader(plan: &Plan) -> Option<&Bootloader> {
    plan.stages.iter().rev().find_map(|planned| match &planned.stage {
        Stage::Bootloader(options) => Some(options),
        _ => None,
    })
}

/// The kernel command line that the recipe asks for.
pub fn arguments(plan: &Plan) -> Vec<String> {
    arguments_of(&plan.stages)
}

/// What of it a container or a commit brings along: that of the stages before `bootc`, which writes it there.
pub fn arguments_inside(plan: &Plan) -> Vec<String> {
    arguments_of(&plan.stages[..bootc(plan).unwrap_or(0)])
}

/// What of it a deployment is told beside that.
pub fn arguments_beside(plan: &Plan) -> Vec<String> {
    arguments_of(&plan.stages[bootc(plan).unwrap_or(0)..])
}

fn bootc(plan: &Plan) -> Option<usize> {
    plan.stages.iter().position(|planned| matches!(planned.stage, Stage::Bootc(_)))
}

fn arguments_of(stages: &[PlannedStage]) -> Vec<String> {
    let kernels = stages.iter().filter_map(|planned| match &planned.stage {
        Stage::Kernel(options) => Some(options.cmdline.clone()),
        Stage::BootcInstall(options) => Some(options.kernel_args.clone()),
        _ => None,
    });
    kernels.flatten().collect()
}

/// What the kernel command line needs so that the root file system is found.
///
/// # Errors
/// When the disk has none.
pub fn root_arguments(plan: &Plan) -> Result<Vec<String>, Failure> {
    Ok(vec![format!("root=UUID={}", root_uuid(plan)?), "ro".into()])
}

/// UUID of the file system at `/`.
///
/// # Errors
/// When the disk has none.
pub fn root_uuid(plan: &Plan) -> Result<&str, Failure> {
    let root = plan.disk.as_ref().and_then(|disk| disk.mounted_at("/")?.filesystem.as_ref());
    let root = root.ok_or_else(|| report::plain(FailureKind::Input, "no partition is mounted at `/`"))?;
    Ok(&root.uuid)
}
