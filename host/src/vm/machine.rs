//! The processes of a VM, and what is to be said when one of them ends.

use super::accel::{self, Accelerator};
use super::arguments::{Channels, arguments};
use super::channel;
use super::config::VmConfig;
use super::confine;
use super::console::{AFTERMATH, Followed};
use super::error::{RESTARTED, SWITCHED_OFF, VmError};
use super::link::Link;
use super::proxy::ProxyError;
use super::qmp::{Incident, Qmp, ShutdownCause};
use super::scratch::Layers;
use super::stop::Stop;
use super::virtiofs::{self, Served};
use crate::child;
use futures::future::{self, FutureExt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long QEMU may take to read its command line and to open its files, on a busy machine.
const GREETING: Duration = Duration::from_secs(120);

/// How long QEMU may take to end after the guest has gone.
const ENDING: Duration = Duration::from_secs(5);

/// How long QEMU may take to end after it has hung up on a file server.
const HUNG_UP: Duration = Duration::from_secs(30);

/// What the kernel writes before the reason of a panic.
const PANIC: &str = "Kernel panic - not syncing: ";

/// QEMU and the processes that serve it. Dropping it kills them.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    qmp: Qmp,
    stderr: Followed,
    console: Followed,
    servers: Vec<virtiofs::Running>,
    network: Option<JoinHandle<Result<(), ProxyError>>>,
    disks: Vec<(String, PathBuf)>,
    shutdown: Option<ShutdownCause>,
    stop: Stop,
}

/// Our ends of the channels, and QEMU's.
struct Ends {
    monitor: UnixStream,
    console: UnixStream,
    control: UnixStream,
    network: Option<UnixStream>,
    theirs: Vec<OwnedFd>,
    channels: Channels,
}

impl Ends {
    fn new(network: bool) -> io::Result<Self> {
        let (monitor, monitor_fd) = channel::pair()?;
        let (console, console_fd) = channel::pair()?;
        let (control, control_fd) = channel::pair()?;
        let network = network.then(channel::pair).transpose()?;
        let (network, network_fd) = network.unzip();
        let channels = Channels {
            monitor: monitor_fd.as_raw_fd(),
            console: console_fd.as_raw_fd(),
            control: control_fd.as_raw_fd(),
            network: network_fd.as_ref().map(AsRawFd::as_raw_fd),
            shares: Vec::new(),
        };
        let theirs = [monitor_fd, console_fd, control_fd].into_iter().chain(network_fd).collect();
        Ok(Self { monitor, console, control, network, theirs, channels })
    }
}

impl Machine {
    /// Start the file servers and QEMU. The files that `config` names are there.
    pub async fn start(config: &VmConfig, accelerator: Accelerator) -> Result<(Self, Link), VmError> {
        let mut ends = Ends::new(config.network.is_some()).map_err(VmError::Spawn)?;
        let mut servers = Vec::new();
        for (tag, folder, read_only) in config.shares() {
            let (server, client) = virtiofs::Running::spawn(tag, folder, read_only, &config.workspace)
                .map_err(|source| VmError::Share { folder: folder.to_owned(), source })?;
            ends.channels.shares.push(client.as_raw_fd());
            ends.theirs.push(client);
            servers.push(server);
        }
        let mut command = qemu(config, accelerator, &ends.channels).map_err(VmError::Spawn)?;
        channel::inherit(&mut command, &ends.theirs.iter().collect::<Vec<_>>());
        let mut qemu = command.spawn().map_err(VmError::Spawn)?;
        // Only QEMU holds its ends now, so that they close with it.
        drop(ends.theirs);
        let stderr = Followed::new(qemu.stderr.take().ok_or_else(|| VmError::Spawn(io::ErrorKind::BrokenPipe.into()))?);
        let qmp = match timeout(GREETING, Qmp::connect(ends.monitor)).await {
            Ok(Ok(qmp)) => qmp,
            Ok(Err(_)) => return Err(refused(qemu, stderr, servers).await),
            // It waits for a file or for a file server, which waits for a file system that does not answer.
            Err(_) => return Err(VmError::NoGreeting { seconds: GREETING.as_secs(), stderr: stderr.tail.text() }),
        };
        let network = match (&config.network, ends.network) {
            (Some(proxy), Some(stream)) => {
                let proxy = proxy.clone();
                Some(tokio::spawn(async move { proxy.serve(stream).await }))
            }
            _ => None,
        };
        let console = Followed::new(ends.console);
        let disks = disk_files(config);
        let machine =
            Self { qemu, qmp, stderr, console, servers, network, disks, shutdown: None, stop: Stop::default() };
        Ok((machine, Link::new(ends.control)))
    }

    /// The monitor.
    pub(super) fn monitor(&self) -> &Qmp {
        &self.qmp
    }

    /// The end of the guest's console.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Wait until something happens that ends the VM, and tell what. Can be dropped and called again.
    pub async fn trouble(&mut self) -> VmError {
        loop {
            if let Some((state, stderr)) = self.stop.reason(&self.qmp, &mut self.stderr).await {
                return VmError::Stopped { state, stderr };
            }
            let servers = &mut self.servers;
            tokio::select! {
                biased;
                Some(incident) = self.qmp.incident() => match incident {
                    Incident::Shutdown(cause) => self.shutdown = Some(cause),
                    Incident::DiskError { disk, no_space, reason } => return self.disk_error(&disk, no_space, reason),
                    Incident::Stopped => self.stop.told(),
                },
                status = self.qemu.wait() => return match status {
                    Ok(status) => self.post_mortem(status).await,
                    Err(error) => VmError::Spawn(error),
                },
                happened = first_of(servers) => return match happened {
                    (server, Served::Ended(status)) => self.server_ended(server, status).await,
                    (server, Served::TooMuch) => VmError::ShareFull { folder: self.servers[server].folder.clone() },
                },
                error = broken(&mut self.network) => return VmError::Network(error),
            }
        }
    }

    /// The guest has closed the control channel: wait for the reason.
    pub async fn gone(&mut self) -> VmError {
        match timeout(ENDING, self.trouble()).await {
            Ok(error) => error,
            Err(_) => VmError::AgentGone { console: self.console() },
        }
    }

    /// Wait for QEMU's end after the guest was asked to switch off.
    ///
    /// # Errors
    /// When something else happens before.
    pub async fn switched_off(&mut self) -> Result<(), VmError> {
        match self.trouble().await {
            VmError::GuestEnded { .. } if self.shutdown == Some(ShutdownCause::guest_shutdown) => Ok(()),
            // A later QEMU may say why in words that are not understood here. It ends well only when its guest has.
            VmError::QemuDied { status, .. } if status.success() && self.shutdown.is_none() => Ok(()),
            error => Err(error),
        }
    }

    /// Kill QEMU, and wait until it has let go of its files: the next VM may be made of the same ones.
    pub async fn kill(mut self) {
        if timeout(ENDING, self.qemu.kill()).await.is_err() {
            tracing::warn!("QEMU has not ended within {} s after it was killed", ENDING.as_secs());
        }
    }

    fn disk_error(&self, disk: &str, no_space: bool, reason: String) -> VmError {
        let path = self.disks.iter().find(|(name, _)| name == disk).map(|(_, path)| path.clone());
        let path = path.unwrap_or_else(|| disk.into());
        if no_space { VmError::HostDiskFull { path } } else { VmError::HostDisk { path, reason } }
    }

    async fn post_mortem(&mut self, status: ExitStatus) -> VmError {
        while let Ok(Some(incident)) = timeout(AFTERMATH, self.qmp.incident()).await {
            match incident {
                Incident::Shutdown(cause) => self.shutdown = Some(cause),
                Incident::DiskError { disk, no_space, reason } => return self.disk_error(&disk, no_space, reason),
                Incident::Stopped => {}
            }
        }
        let console = self.console.finished().await;
        let what = match self.shutdown {
            Some(ShutdownCause::guest_reset) => RESTARTED,
            Some(ShutdownCause::guest_shutdown) => SWITCHED_OFF,
            _ => return VmError::QemuDied { status, stderr: self.stderr.finished().await },
        };
        match self.console.tail.up_to(PANIC) {
            Some((reason, console)) => VmError::Panic { reason, console },
            None => VmError::GuestEnded { what, console },
        }
    }

    async fn server_ended(&mut self, server: usize, status: io::Result<ExitStatus>) -> VmError {
        // When QEMU ends, so do its servers: then that is what happened. A server ends well only when QEMU has hung up,
        // and on a busy machine the rest of QEMU's end takes its time.
        let hung_up = status.as_ref().is_ok_and(ExitStatus::success);
        if let Ok(Ok(status)) = timeout(if hung_up { HUNG_UP } else { AFTERMATH }, self.qemu.wait()).await {
            return self.post_mortem(status).await;
        }
        share_ended(self.servers.swap_remove(server), status)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(network) = &self.network {
            network.abort();
        }
    }
}

/// QEMU, with nothing of the environment and of the file system that it does not need.
fn qemu(config: &VmConfig, accelerator: Accelerator, channels: &Channels) -> io::Result<Command> {
    let mut command = child::command(config.hypervisor.program());
    command.args(arguments(config, accelerator, channels)).stdout(Stdio::null()).stderr(Stdio::piped());
    child::without_environment(&mut command);
    tracing::debug!(?command, "QEMU");
    confine_qemu(&mut command, config)?;
    Ok(command)
}

/// What QEMU may touch. It gets its channels as descriptors, which need no rule.
fn confine_qemu(command: &mut Command, config: &VmConfig) -> io::Result<()> {
    let initramfs = config.initramfs();
    let layers = config.root_layers.iter().map(PathBuf::as_path);
    let kept = config.layers.iter().flat_map(Layers::kept).map(|(_, path)| path);
    let readable: Vec<&Path> = layers.chain([config.kernel.as_path(), &initramfs]).chain(kept).collect();
    let written = config.layers.iter().flat_map(Layers::written).map(|(_, path)| path);
    let disks = config.disks().map(|disk| disk.path.as_path()).chain(written);
    let kvm = accel::device();
    let writable: Vec<&Path> = disks.chain([kvm.as_path()]).collect();
    confine::confine(command, config.hypervisor.program(), &readable, &writable)
}

/// Node names of the disks and their files.
fn disk_files(config: &VmConfig) -> Vec<(String, PathBuf)> {
    use particle_vm_protocol::serial::{ARCHIVE, ROOT_PREFIX, SCRATCH, TARGET};
    let layers = config.root_layers.iter().enumerate().map(|(n, path)| (format!("{ROOT_PREFIX}{n}"), path.clone()));
    let scratch = config.scratch.iter().map(|disk| (SCRATCH.to_owned(), disk.path.clone()));
    let target = config.target.iter().map(|disk| (TARGET.to_owned(), disk.path.clone()));
    let archive = config.archive.iter().map(|disk| (ARCHIVE.to_owned(), disk.path.clone()));
    let of_scratch = config.layers.iter().flat_map(|layers| layers.kept().chain(layers.written()));
    let of_scratch = of_scratch.map(|(node, path)| (node, path.to_owned()));
    layers.chain(scratch).chain(of_scratch).chain(target).chain(archive).collect()
}

/// Why QEMU did not greet, which it does as soon as it has read its command line.
async fn refused(mut qemu: Child, mut stderr: Followed, mut servers: Vec<virtiofs::Running>) -> VmError {
    let status = match timeout(ENDING, qemu.wait()).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return VmError::Spawn(error),
        Err(_) => return VmError::Spawn(io::ErrorKind::TimedOut.into()),
    };
    // A file server that died takes QEMU along; one that has lost its QEMU ends well.
    while let Ok((server, ended)) = timeout(AFTERMATH, first_ended(&mut servers)).await {
        let server = servers.swap_remove(server);
        if !ended.as_ref().is_ok_and(ExitStatus::success) {
            return share_ended(server, ended);
        }
    }
    VmError::QemuDied { status, stderr: stderr.finished().await }
}

fn share_ended(server: virtiofs::Running, status: io::Result<ExitStatus>) -> VmError {
    let folder = server.folder.clone();
    match status {
        Ok(status) => VmError::ShareDied { folder, status, stderr: server.stderr() },
        Err(source) => VmError::Share { folder, source },
    }
}

/// Wait for the first server that ends, or whose folder holds too much; gives its index. Never ready when there are none.
async fn first_of(servers: &mut [virtiofs::Running]) -> (usize, Served) {
    if servers.is_empty() {
        return future::pending().await;
    }
    let (served, index, _) = future::select_all(servers.iter_mut().map(|server| server.served().boxed())).await;
    (index, served)
}

/// Wait for the first server that ends; gives its index. Never ready when there are none.
async fn first_ended(servers: &mut [virtiofs::Running]) -> (usize, io::Result<ExitStatus>) {
    if servers.is_empty() {
        return future::pending().await;
    }
    let (status, index, _) = future::select_all(servers.iter_mut().map(|server| server.ended().boxed())).await;
    (index, status)
}

/// Wait until the network breaks. Never ready when there is none, or when the guest has closed it.
async fn broken(network: &mut Option<JoinHandle<Result<(), ProxyError>>>) -> ProxyError {
    let Some(task) = network else { return future::pending().await };
    let ended = task.await;
    *network = None;
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => future::pending().await,
        Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => future::pending().await,
    }
}

#[cfg(test)]
pub(super) mod tests;
