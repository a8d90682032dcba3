//! A VM that runs, and the jobs that it is given.

use super::accel::Accelerator;
use super::config::VmConfig;
use super::disk;
use super::error::VmError;
use super::heartbeat::Heartbeat;
use super::hypervisor::{Choice, Hypervisor};
use super::initramfs;
use super::link::{Greeting, Link, LinkError};
use super::machine::Machine;
use super::memory;
use super::printer::Printer;
use super::progress::Progress;
use super::proxy::Proxy;
use super::scratch::Writing;
use super::terminal::{Resized, Stream, Terminal, Typed, Window};
use super::words;
use crate::cancel;
use crate::event::{Events, Unit};
use particle_vm_protocol::message::{Exec, HEARTBEAT_LOST};
use particle_vm_protocol::{Failure, FailureKind, FromGuest, FromHost, Job, JobResult};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How long the agent may take to say hello: while KVM is not proven and not asked for, with KVM, and under emulation on
/// a busy machine.
const START_PROBE: Duration = Duration::from_secs(15);
const START_KVM: Duration = Duration::from_secs(60);
const START_TCG: Duration = Duration::from_secs(240);

/// After how long a start under emulation is made once more, see [`VmError::may_be_emulation`].
const START_AGAIN: Duration = Duration::from_secs(60);

/// How long the guest may take to unmount everything and switch off.
const POWER_OFF_KVM: Duration = Duration::from_secs(30);
const POWER_OFF_TCG: Duration = Duration::from_secs(120);

/// Bytes that may wait for the guest before the user is asked for more input.
const MOST_INPUT: usize = 1 << 20;

/// Memory in MiB that QEMU takes beside that of the guest.
const OVERHEAD_MIB: u64 = 128;

/// A VM whose agent has said hello. Dropping it kills it.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    link: Link,
    accelerator: Accelerator,
    kernel_release: String,
    network: Option<Proxy>,
    writing: Option<Writing>,
    events: Events,
}

impl Session {
    /// Start a VM and wait for its agent. Where nobody knows yet whether KVM works on this host, this start finds out:
    /// when it fails, the VM is started once more with emulation.
    ///
    /// # Errors
    /// When there can be no such VM, a process cannot be started or dies, or the agent does not say hello in time.
    pub async fn start(config: &VmConfig, events: &Events) -> Result<Self, VmError> {
        config.validate()?;
        check_memory(config, events)?;
        let path = config.initramfs();
        initramfs::write(&path, &config.modules_cpio, crate::AGENT)
            .map_err(|source| VmError::Prepare { path, source })?;
        let step = events.step("start VM", None, Unit::Items);
        let session = match config.hypervisor.choose(&config.kernel)? {
            Choice::Settled(accelerator) => Self::boot_with(config, accelerator, events).await?,
            Choice::Prove => match Self::boot(config, Accelerator::Kvm, patience(&config.hypervisor), events).await {
                Ok(session) => {
                    config.hypervisor.proved(&config.kernel);
                    session
                }
                Err(error) if error.is_of_kvm() => {
                    let instead = config.hypervisor.disproved(&config.kernel, reason(&error))?;
                    Self::boot_with(config, instead, events).await?
                }
                // A start may also take long because the machine is busy, or fail for want of memory.
                Err(error)
                    if matches!(error, VmError::NoHello { .. })
                        || error.may_be_acceleration() && !config.hypervisor.requires_kvm() =>
                {
                    let instead = config.hypervisor.without_kvm(reason(&error))?;
                    let session = Self::boot_with(config, instead, events).await?;
                    config.hypervisor.doubted(&config.kernel, reason(&error));
                    session
                }
                Err(error) => return Err(error),
            },
        };
        step.finish();
        Ok(session)
    }

    /// Boot with what there is nothing to prove of.
    async fn boot_with(config: &VmConfig, accelerator: Accelerator, events: &Events) -> Result<Self, VmError> {
        let deadline = match accelerator {
            Accelerator::Kvm => START_KVM,
            Accelerator::Tcg => match Self::boot(config, accelerator, START_AGAIN, events).await {
                Err(error) if error.may_be_emulation() => {
                    events.warn(format!("{error}; it is started once more"));
                    START_TCG
                }
                result => return result,
            },
        };
        Self::boot(config, accelerator, deadline, events).await
    }

    async fn boot(
        config: &VmConfig,
        accelerator: Accelerator,
        deadline: Duration,
        events: &Events,
    ) -> Result<Self, VmError> {
        for disk in config.disks() {
            disk::create(disk).map_err(|source| VmError::Prepare { path: disk.path.clone(), source })?;
        }
        if let Some(layers) = &config.layers {
            layers.create().map_err(|(path, source)| VmError::Prepare { path, source })?;
        }
        let (mut machine, mut link) = Machine::start(config, accelerator).await?;
        let kernel_release = match greeted(&mut machine, &mut link, deadline).await {
            Ok(kernel_release) => kernel_release,
            Err(error) => {
                machine.kill().await;
                return Err(error);
            }
        };
        // A host whose clock stands before 1970 has none that is worth having.
        if let Ok(since_epoch) = SystemTime::now().duration_since(UNIX_EPOCH) {
            link.send(&FromHost::Time(since_epoch))?;
        }
        let (network, events) = (config.network.clone(), events.clone());
        let writing = config.layers.as_ref().map(Writing::new);
        Ok(Self { machine, link, accelerator, kernel_release, network, writing, events })
    }

    /// What it runs with.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// `uname -r` of its kernel.
    pub fn kernel_release(&self) -> &str {
        &self.kernel_release
    }

    /// Have `job` done, and tell its progress to the listeners. After [`VmError::Failed`] the VM takes another job, with
    /// everything still in place; after any other error it is of no use.
    ///
    /// # Errors
    /// When the job fails, or the VM or one of its processes dies.
    pub async fn run(&mut self, job: Job) -> Result<JobResult, VmError> {
        self.converse(job, None).await
    }

    /// Run a command with the user's terminal or pipes; gives its exit code.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn exec(&mut self, command: Exec, terminal: Terminal<'_>) -> Result<i32, VmError> {
        match self.converse(Job::Exec(command), Some(terminal)).await? {
            JobResult::Exited(code) => Ok(code),
            _ => Err(LinkError::Unexpected("an exit code ends a command").into()),
        }
    }

    async fn converse(&mut self, job: Job, terminal: Option<Terminal<'_>>) -> Result<JobResult, VmError> {
        let (mut user, mut output) = match terminal {
            Some(Terminal { input, resized, output }) => (Some((input, resized)), Some(output)),
            None => (None, None),
        };
        let mut progress = Progress::new(&job);
        if let Some(writing) = &mut self.writing {
            writing.begin(&job);
        }
        let backlog = self.link.backlog();
        self.link.send(&FromHost::Start(Box::new(job)))?;
        let mut heartbeat = Heartbeat::new();
        let mut window = Window::new();
        let (cancel, mut cancelled) = (cancel::listen(), false);
        loop {
            while let Some(piece) = window.next() {
                self.link.send(&FromHost::Input(piece))?;
            }
            tokio::select! {
                // While what it has printed is not taken, the guest is not listened to, which holds it up.
                message = async {
                    self.events.room().await;
                    self.link.receive().await
                }, if has_room(&output) => {
                    let Some(message) = message? else { return Err(self.machine.gone().await) };
                    match message {
                        FromGuest::Pong(_) => heartbeat.heard(),
                        FromGuest::InputTaken(bytes) => window.taken(bytes),
                        FromGuest::Terminal(bytes) => {
                            heartbeat.heard();
                            print(&mut output, Stream::Output, bytes);
                        }
                        FromGuest::TerminalError(bytes) => {
                            heartbeat.heard();
                            print(&mut output, Stream::Error, bytes);
                        }
                        // Done just before the guest heard of it; what would follow is not wanted any more.
                        FromGuest::Done(_) if cancel.is_asked() => return Err(too_late().into()),
                        FromGuest::Done(result) => return Ok(*result),
                        FromGuest::Failed(failure) if failure.kind == FailureKind::Cancelled && !cancelled => {
                            return Err(LinkError::Unexpected("nobody has cancelled the job").into());
                        }
                        FromGuest::Failed(failure) => {
                            // What was fetched is not at fault when the user has thought better of it.
                            if let Some(proxy) = self.network.as_ref().filter(|_| !cancelled) {
                                proxy.doubt();
                            }
                            return Err(failure.into());
                        }
                        FromGuest::Hello { .. } => return Err(LinkError::Unexpected("a job was under way").into()),
                        FromGuest::Settled { stage, indexes } => {
                            let Self { writing: Some(writing), machine, network, .. } = self else {
                                return Err(LinkError::Unexpected("nothing of it is kept").into());
                            };
                            let settled = (stage, indexes);
                            let kept = writing.settled(settled, &progress, network.as_ref(), machine.monitor());
                            if let Some(error) = kept.await? {
                                self.events.warn(format!("no further stage is kept for later builds: {error}"));
                            }
                            self.link.send(&FromHost::Kept)?;
                        }
                        message => self.forward(message, &mut progress)?,
                    }
                }
                printed = room(&mut output) => printed.map_err(VmError::Output)?,
                error = self.machine.trouble() => return Err(error),
                () = cancel.asked(), if !cancelled => {
                    self.link.send(&FromHost::Cancel)?;
                    cancelled = true;
                }
                // Nor is it asked for what would not be heard.
                beat = heartbeat.next(|| self.events.has_room()), if has_room(&output) => match beat {
                    Some(number) => {
                        if let Some(seconds) = progress.asked() {
                            return Err(VmError::Overdue { seconds, console: self.machine.console() });
                        }
                        self.link.send(&FromHost::Ping(number))?;
                    }
                    None => {
                        let console = self.machine.console();
                        return Err(VmError::Lost { seconds: HEARTBEAT_LOST, console });
                    }
                },
                message = async {
                    backlog.below(MOST_INPUT).await;
                    typed(&mut user, window.is_open()).await
                } => match message {
                    FromHost::Input(bytes) => window.push(bytes),
                    FromHost::InputEnd => {
                        window.end();
                        self.link.send(&FromHost::InputEnd)?;
                    }
                    message => self.link.send(&message)?,
                },
            }
        }
    }

    /// No further layer of the scratch disk is wanted.
    pub fn keep_no_more(&mut self) {
        self.writing = None;
    }

    /// Tell the listeners what the guest told us.
    ///
    /// # Errors
    /// When the guest speaks of stages out of their turn.
    fn forward(&self, message: FromGuest, progress: &mut Progress) -> Result<(), LinkError> {
        if let (FromGuest::StageFinished { .. }, Some(proxy)) = (&message, &self.network) {
            proxy.settle();
        }
        if let Some(event) = words::event(message, progress)? {
            self.events.send(event);
        }
        Ok(())
    }

    /// Switch the VM off, and wait until all its processes have ended.
    ///
    /// # Errors
    /// When it does not switch off in time, or ends otherwise; it is gone in any case.
    pub async fn power_off(mut self) -> Result<(), VmError> {
        self.link.send(&FromHost::PowerOff)?;
        let deadline = match self.accelerator {
            Accelerator::Kvm => POWER_OFF_KVM,
            Accelerator::Tcg => POWER_OFF_TCG,
        };
        let link = &mut self.link;
        // What the guest still says is of no interest, but has to be taken.
        let drained = async {
            while let Ok(Some(_)) = link.receive().await {}
            std::future::pending().await
        };
        let off = async {
            tokio::select! {
                ended = self.machine.switched_off() => ended,
                never = drained => never,
            }
        };
        match timeout(deadline, off).await {
            Ok(ended) => ended,
            Err(_) => Err(VmError::PowerOff { seconds: deadline.as_secs(), console: self.machine.console() }),
        }
    }
}

/// Wait until the agent of `machine` says hello, for as long as `deadline`; gives the release of its kernel.
async fn greeted(machine: &mut Machine, link: &mut Link, deadline: Duration) -> Result<String, VmError> {
    let hello = async {
        tokio::select! {
            hello = link.hello() => match hello? {
                Greeting::Ready { kernel } => Ok(kernel),
                Greeting::Failed(failure) => Err(failure.into()),
                Greeting::Closed => Err(machine.gone().await),
            },
            error = machine.trouble() => Err(error),
        }
    };
    match timeout(deadline, hello).await {
        Ok(hello) => hello,
        Err(_) => Err(VmError::NoHello { seconds: deadline.as_secs(), console: machine.console() }),
    }
}

/// How long the first VM with KVM is waited for: where emulation is as welcome, no longer than that would take.
fn patience(hypervisor: &Hypervisor) -> Duration {
    if hypervisor.requires_kvm() { START_KVM } else { START_PROBE }
}

/// Why a start with KVM failed, in one line.
fn reason(error: &VmError) -> String {
    let stderr = match error {
        VmError::Stopped { stderr, .. } | VmError::QemuDied { stderr, .. } => stderr.as_str(),
        _ => "",
    };
    let lines = stderr.lines().map(|line| line.trim().trim_start_matches("qemu-system-x86_64: "));
    match lines.filter(|line| line.contains("KVM") || line.contains("emulation")).take(2).collect::<Vec<_>>() {
        found if found.is_empty() => error.to_string(),
        found => found.join(", "),
    }
}

fn check_memory(config: &VmConfig, events: &Events) -> Result<(), VmError> {
    let wanted_mib = config.memory_mib;
    if let Some(there_mib) = memory::there_mib().filter(|there| *there < wanted_mib + OVERHEAD_MIB) {
        return Err(VmError::Memory { wanted_mib, there_mib });
    }
    if let Some(available) = memory::available_mib().filter(|available| *available < wanted_mib) {
        events.warn(format!(
            "the VM may use {wanted_mib} MiB of memory, and {available} MiB are available: the machine may get slow"
        ));
    }
    Ok(())
}

/// What a job is called that had ended well when the user no longer wanted it.
fn too_late() -> Failure {
    let message = "it was cancelled when it was just done".into();
    Failure { kind: FailureKind::Cancelled, stage: None, message, output: Vec::new() }
}

fn print(output: &mut Option<&mut Printer>, stream: Stream, bytes: Vec<u8>) {
    if let Some(output) = output {
        output.push(stream, bytes);
    }
}

/// Whether what the guest prints can be taken.
fn has_room(output: &Option<&mut Printer>) -> bool {
    output.as_ref().is_none_or(|output| output.has_room())
}

/// Wait for room; as [`Printer::room`], and never ready without one.
async fn room(output: &mut Option<&mut Printer>) -> io::Result<()> {
    match output {
        Some(output) => output.room().await,
        None => std::future::pending().await,
    }
}

/// What the user does next: types, ends the input, or changes the size. Never ready without a terminal, nor while the
/// guest takes no more input.
async fn typed(user: &mut Option<(Typed, Resized)>, open: bool) -> FromHost {
    let Some((input, resized)) = user else { return std::future::pending().await };
    tokio::select! {
        Some(size) = resized.recv() => FromHost::Resize(size),
        input = input.recv(), if open => match input {
            Some(bytes) => FromHost::Input(bytes),
            None => FromHost::InputEnd,
        },
        else => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
