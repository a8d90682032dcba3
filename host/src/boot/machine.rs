//! The machine that an image is started in: firmware, a disk that forgets, a serial console.

use super::{BootConfig, BootError, Image, test};
use crate::child;
use crate::vm::channel;
use crate::vm::confine::confine;
use crate::vm::console::{Followed, Tail};
use crate::vm::qmp::{Incident, Qmp};
use crate::vm::stop::Stop;
use crate::vm::{Accelerator, kvm_device};
use crate::workspace::Workspace;
use particle_vm_protocol::stage::Firmware;
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Time for QEMU to answer on its monitor; its libraries may have to come from a slow disk.
const START: Duration = Duration::from_secs(60);

/// Time for QEMU to end when its console has ended.
const END: Duration = Duration::from_secs(30);

/// Time for QEMU to be gone when it has closed a channel.
const GOING: Duration = Duration::from_secs(5);

/// A machine that runs. Dropping it ends it and forgets what it has written.
pub(super) struct Machine {
    /// The first serial port.
    pub(super) console: UnixStream,
    /// What the console has shown.
    pub(super) tail: Tail,
    pub(super) qmp: Qmp,
    /// For a machine with tests: the second serial port and the host's end of the shell.
    pub(super) test: Option<test::Ports>,
    /// What QEMU writes to its standard error.
    pub(super) stderr: Followed,
    pub(super) stop: Stop,
    child: Child,
    // After the process, so that it is not removed under it.
    _workspace: Workspace,
}

/// Numbers of the descriptors that QEMU inherits.
struct Descriptors {
    monitor: RawFd,
    console: RawFd,
    test: Option<(RawFd, RawFd)>,
}

impl Machine {
    /// Start the machine; with ports for tests if so wanted.
    ///
    /// # Errors
    /// When the image is none, or QEMU does not start.
    pub(super) async fn start(config: &BootConfig, with_tests: bool) -> Result<Self, BootError> {
        let workspace = Workspace::new(&config.work_dir).map_err(BootError::Workspace)?;
        let image = Image::probe(&config.image, workspace.path(), &config.qemu).await?;
        if config.firmware == Firmware::Bios && image.sector_size != 512 {
            let reason = format!("a BIOS does not boot from a disk with sectors of {} bytes", image.sector_size);
            return Err(BootError::Unsuitable { path: config.image.clone(), reason });
        }
        let overlay = overlay(&image, workspace.path()).await?;
        let variables = workspace.path().join("variables");
        if let (Firmware::Uefi, Some(files)) = (config.firmware, &config.uefi) {
            // The firmware writes to its variables: each machine begins with fresh ones, as from the factory.
            std::fs::copy(&files.variables, &variables)
                .map_err(|source| BootError::Write { path: variables.clone(), source })?;
        }

        let pair = || channel::pair().map_err(BootError::Channel);
        let ((monitor, monitor_end), (console, console_end)) = (pair()?, pair()?);
        let mut inherited = vec![monitor_end, console_end];
        let mut descriptors =
            Descriptors { monitor: inherited[0].as_raw_fd(), console: inherited[1].as_raw_fd(), test: None };
        let test = if with_tests {
            let ((word, word_end), (shell, shell_end)) = (pair()?, pair()?);
            descriptors.test = Some((word_end.as_raw_fd(), shell_end.as_raw_fd()));
            inherited.extend([word_end, shell_end]);
            Some(test::Ports { word, shell })
        } else {
            None
        };

        let mut command = child::command(&config.qemu);
        command.args(arguments(config, &image, &overlay, &variables, &descriptors));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        child::without_environment(&mut command);
        // The image and the firmware to read, what is thrown away afterwards to write, and nothing else.
        let mut readable = vec![image.path()];
        readable.extend(config.uefi.as_ref().map(|files| files.code.as_path()));
        confine(&mut command, &config.qemu, &readable, &[&overlay, &variables, &kvm_device()])
            .map_err(|source| BootError::Confine { path: config.image.clone(), source })?;
        channel::inherit(&mut command, &inherited.iter().collect::<Vec<_>>());
        let mut child = spawn(command)?;
        let pipe = child.stderr.take().ok_or_else(|| BootError::Channel(std::io::ErrorKind::BrokenPipe.into()))?;
        let (tail, mut stderr, stop) = (Tail::default(), Followed::new(pipe), Stop::default());
        let connected = tokio::time::timeout(START, Qmp::connect(monitor)).await;
        match connected {
            Ok(Ok(qmp)) => Ok(Self { console, tail, qmp, test, stderr, stop, child, _workspace: workspace }),
            Ok(Err(_)) | Err(_) => Err(died(&mut child, &mut stderr).await),
        }
    }

    /// Wait for QEMU to end, which it does when the machine is powered off.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub(super) async fn ended(&mut self) -> Result<(), BootError> {
        match tokio::time::timeout(END, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(died(&mut self.child, &mut self.stderr).await),
        }
    }

    /// Whether QEMU has ended, for when one of its channels has broken: it closes them a moment before it is gone.
    ///
    /// # Errors
    /// When it has not ended well.
    pub(super) async fn has_ended(&mut self) -> Result<bool, BootError> {
        match tokio::time::timeout(GOING, self.child.wait()).await {
            Err(_) => Ok(false),
            Ok(Ok(status)) if status.success() => Ok(true),
            Ok(_) => Err(died(&mut self.child, &mut self.stderr).await),
        }
    }

    /// Wait until something happens that ends the machine's work without ending QEMU, and tell what. Can be dropped
    /// and called again.
    pub(super) async fn trouble(qmp: &Qmp, stderr: &mut Followed, stop: &mut Stop) -> BootError {
        loop {
            if let Some((state, stderr)) = stop.reason(qmp, stderr).await {
                return BootError::Stopped { state, stderr };
            }
            match qmp.incident().await {
                Some(Incident::DiskError { no_space: true, .. }) => return BootError::HostDiskFull,
                Some(Incident::DiskError { reason, .. }) => return BootError::Disk(reason),
                Some(Incident::Stopped) => stop.told(),
                Some(Incident::Shutdown(_)) => {}
                // QEMU has ended, which the console shows too.
                None => std::future::pending().await,
            }
        }
    }

    /// The last lines of the console.
    pub(super) fn last_lines(&self) -> String {
        self.tail.text()
    }
}

fn spawn(mut command: Command) -> Result<Child, BootError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|source| BootError::Qemu(child::ChildError::Spawn { program, source }))
}

/// The error for a QEMU that ended or does not answer.
async fn died(child: &mut Child, stderr: &mut Followed) -> BootError {
    let program = "QEMU".to_owned();
    let waited = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    let stderr = stderr.finished().await;
    BootError::Qemu(match waited {
        Ok(Ok(status)) => child::ChildError::Failed { program, status, stderr },
        Ok(Err(source)) => child::ChildError::Read { program, source },
        Err(_) => child::ChildError::Deadline { program, deadline: START, stderr },
    })
}

/// Make the file that takes what the machine writes. `snapshot=on` would do the same, but in `/tmp`.
async fn overlay(image: &Image, dir: &Path) -> Result<PathBuf, BootError> {
    let path = dir.join("overlay");
    let mut command = child::command("qemu-img");
    // The image is not named in it: which file lies beneath is said on the command line of QEMU alone.
    command.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg(image.virtual_size.to_string());
    child::run(command, START).await.map_err(BootError::Overlay)?;
    Ok(path)
}

/// QEMU's command line.
fn arguments(
    config: &BootConfig,
    image: &Image,
    overlay: &Path,
    variables: &Path,
    descriptors: &Descriptors,
) -> Vec<String> {
    let cpu = match config.accelerator {
        Accelerator::Kvm => "host",
        // Five-level page tables only cost time under emulation.
        Accelerator::Tcg => "max,la57=off",
    };
    // Without graphics SeaBIOS writes to the serial port too.
    let mut machine = "q35,graphics=off,vmport=off".to_owned();
    let mut blockdevs = vec![
        image.blockdev("image"),
        json!({
            "driver": "qcow2",
            "node-name": "disk",
            // All of it is thrown away: no flush is worth its time.
            "cache": { "direct": false, "no-flush": true },
            "discard": "unmap",
            "file": { "driver": "file", "filename": overlay, "cache": { "direct": false, "no-flush": true } },
            "backing": "image",
        }),
    ];
    if let (Firmware::Uefi, Some(files)) = (config.firmware, &config.uefi) {
        machine.push_str(",pflash0=code,pflash1=variables");
        blockdevs.push(flash("code", &files.code, true));
        blockdevs.push(flash("variables", variables, false));
    }
    let memory = config.memory_mib.to_string();
    let cpus = config.cpus.to_string();
    let mut arguments: Vec<String> = [
        &["-name", "particle-vm-boot", "-nodefaults", "-no-user-config", "-display", "none"][..],
        &["-machine", &machine, "-accel", &config.accelerator.option(), "-cpu", cpu, "-smp", &cpus, "-m", &memory],
        &["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
        &["-boot", "strict=on"],
        // A network card as any machine has one, with DHCP, and nothing behind it.
        &["-netdev", "user,id=net,restrict=on"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    for blockdev in blockdevs {
        arguments.extend(["-blockdev".into(), blockdev.to_string()]);
    }
    let sector = image.sector_size;
    let devices = [
        json!({
            "driver": "virtio-blk-pci",
            "drive": "disk",
            "bootindex": 0,
            "logical_block_size": sector,
            "physical_block_size": sector,
            // An error of the host's disk stops the machine and is told on the monitor.
            "werror": "stop",
            "rerror": "stop",
        }),
        json!({ "driver": "virtio-net-pci", "netdev": "net", "romfile": "" }),
        json!({ "driver": "virtio-rng-pci" }),
    ];
    for device in devices {
        arguments.extend(["-device".into(), device.to_string()]);
    }
    let mut chardev = |id: &str, descriptor: RawFd, option: &str, value: &str| {
        arguments.extend(["-chardev".into(), format!("socket,id={id},fd={descriptor}")]);
        arguments.extend([option.into(), value.into()]);
    };
    chardev("monitor", descriptors.monitor, "-mon", "chardev=monitor,mode=control");
    chardev("console", descriptors.console, "-serial", "chardev:console");
    if let Some((word, shell)) = descriptors.test {
        chardev("word", word, "-serial", "chardev:word");
        chardev(test::CHARDEV, shell, "-device", &format!("virtio-serial-pci,id={}", test::CONTROLLER));
        arguments.extend(["-smbios".into(), format!("type=11,value={}", test::smbios_value())]);
    }
    arguments
}

/// A flash chip of the firmware, `node` and the file below it.
fn flash(node: &str, file: &Path, read_only: bool) -> Value {
    json!({
        "driver": "raw",
        "node-name": node,
        "read-only": read_only,
        "file": { "driver": "file", "filename": file, "read-only": read_only },
    })
}

#[cfg(test)]
mod tests;
