//! QEMU, its tools, KVM, and a VM that is really started.

use super::{Check, Request};
use crate::appliance::Appliance;
use crate::child::{self, ChildError};
use crate::error::{Classify, Result};
use crate::event::Events;
use crate::vm::{self, Accel, Accelerator, Hypervisor, NoKvm, Session, VmConfig};
use crate::workspace::Workspace;
use std::io;
use std::time::{Duration, Instant};

/// How long qemu-img may take to tell its version.
const QUESTION: Duration = Duration::from_secs(30);

/// Memory of the VM in MiB: it does nothing but start.
const MEMORY_MIB: u64 = 512;

/// The checks.
pub(super) async fn checks(request: &Request, appliance: Option<&Appliance>) -> Vec<Check> {
    let mut checks = Vec::new();
    match Hypervisor::detect(Accel::Auto, &request.dirs, &Events::none()).await {
        Ok(hypervisor) => {
            checks.push(version(&hypervisor));
            let started = match appliance {
                Some(appliance) => Some((appliance, start(request, &hypervisor, appliance).await)),
                None => None,
            };
            checks.push(kvm(match &started {
                Some((appliance, _)) => Kvm::Tried(hypervisor.no_kvm(&appliance.kernel())),
                None => Kvm::Untried(vm::open_kvm().err()),
            }));
            checks.extend(started.map(|(_, started)| match started {
                Ok((seconds, Accelerator::Kvm)) => Check::ok("VM", format!("starts in {seconds:.1} s, with KVM")),
                Ok((seconds, Accelerator::Tcg)) => Check::ok("VM", format!("starts in {seconds:.1} s, emulated")),
                Err(error) => Check::failed("VM", error),
            }));
        }
        Err(error) => {
            checks.push(Check::failed("QEMU", error.into()));
            checks.push(kvm(Kvm::Untried(vm::open_kvm().err())));
        }
    }
    checks.push(qemu_img().await);
    checks
}

fn version(hypervisor: &Hypervisor) -> Check {
    let finding = format!("{} ({})", hypervisor.version(), hypervisor.program().display());
    if hypervisor.needs_kvm() {
        let finding = format!("{finding}: good for KVM only");
        return Check::warning("QEMU", finding, "install QEMU 10 or newer, on Debian 12 from bookworm-backports");
    }
    Check::ok("QEMU", finding)
}

/// What is known about KVM.
enum Kvm {
    /// From looking at the device.
    Untried(Option<NoKvm>),
    /// From starting a VM.
    Tried(Option<NoKvm>),
}

fn kvm(known: Kvm) -> Check {
    match known {
        Kvm::Tried(None) => Check::ok("KVM", "guests run with it"),
        Kvm::Untried(None) => {
            Check::ok("KVM", "can be opened; whether guests run with it shows when there is an appliance")
        }
        Kvm::Untried(Some(reason)) | Kvm::Tried(Some(reason)) => {
            let mend = reason.advice();
            let finding = format!("{reason}; VMs are emulated, which is many times slower and no security boundary");
            Check { mend, ..Check::warning("KVM", finding, "") }
        }
    }
}

/// Start a VM without disks of its own and switch it off: how long it takes to its agent, and what it ran with.
async fn start(request: &Request, hypervisor: &Hypervisor, appliance: &Appliance) -> Result<(f64, Accelerator)> {
    let work = request.work_dir.clone().unwrap_or_else(|| request.dirs.work());
    let workspace = Workspace::new(&work)?;
    let config = VmConfig {
        hypervisor: hypervisor.clone(),
        kernel: appliance.kernel(),
        modules_cpio: appliance.modules_cpio(),
        root_layers: appliance.root_layers(),
        memory_mib: MEMORY_MIB,
        cpus: 1,
        scratch: None,
        layers: None,
        target: None,
        archive: None,
        work_share: None,
        base_share: None,
        staging_share: None,
        network: None,
        workspace: workspace.path().to_owned(),
    };
    let begun = Instant::now();
    let session = Session::start(&config, &Events::none()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let accelerator = session.accelerator();
    session.power_off().await?;
    Ok((seconds, accelerator))
}

async fn qemu_img() -> Check {
    let mut command = child::command("qemu-img");
    command.arg("--version");
    match child::run(command, QUESTION).await {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let line = text.lines().next().unwrap_or_default();
            let version = line.strip_prefix("qemu-img version ").unwrap_or(line);
            Check::ok("qemu-img", version.split_whitespace().next().unwrap_or_default())
        }
        Err(ChildError::Spawn { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mend = "install it with `sudo apt-get install qemu-utils`";
            Check::problem("qemu-img", "qemu-img is not installed: only raw images can be made", mend)
        }
        Err(error) => Check::failed("qemu-img", error.into()),
    }
}
