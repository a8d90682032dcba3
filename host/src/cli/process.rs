//! The process around a verb: runtime, signals, the listener of its events, the error report and the exit code.

use super::Global;
use crate::cancel::Cancel;
use crate::error::{Class, Classify, Error, Result};
use crate::ui::{Report, Ui};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long work on other threads may go on after the end of the verb. It writes nowhere but into folders that are
/// removed, and into the store under a name that the next run sweeps.
const GRACE: Duration = Duration::from_secs(2);

/// How long a stage may take to end when a signal asks for it. The agent only has to kill what it has started.
const CANCELLING: Duration = Duration::from_secs(2);

/// How long the reader of standard error may take for the end of a verb that a signal has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the process ends before or beside its verb.
#[derive(Debug, Error)]
enum ProcessError {
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

impl Classify for ProcessError {
    fn class(&self) -> Class {
        match self {
            Self::Interrupted(_) => Class::Interrupted,
            Self::Runtime(_) | Self::Signals(_) => Class::Host,
        }
    }
}

/// Run a verb to its end, or until a signal; tell what went wrong; give the exit code.
///
/// A signal drops the verb's future, and with it everything that it holds: VMs, child processes, temporary folders. A job
/// in a VM is cancelled before.
pub fn run<F: Future<Output = Result<u8>>>(global: &Global, verb: impl FnOnce(Ui) -> F) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let started = runtime.and_then(|runtime| Ok((runtime, Ui::start(global.progress, global.verbose)?)));
    let (runtime, ui) = match started {
        Ok(started) => started,
        Err(error) => {
            let error = Error::from(ProcessError::Runtime(error));
            Report::of(&error, None).print();
            return ExitCode::from(error.get().class().exit_code());
        }
    };
    let code = runtime.block_on(watch(ui, verb));
    runtime.shutdown_timeout(GRACE);
    ExitCode::from(code)
}

async fn watch<F: Future<Output = Result<u8>>>(ui: Ui, verb: impl FnOnce(Ui) -> F) -> u8 {
    if nix::unistd::geteuid().is_root() {
        ui.events().warn("running as root, which particle-vm does not need: what it starts can do more than it has to");
    }
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return ui.close(Err(ProcessError::Signals(error).into())).await,
    };
    let result = until_signal(verb(ui.clone()), &mut signals).await;
    let code = result.as_ref().map_or_else(|error| error.get().class().exit_code(), |code| *code);
    let interrupted = code == Class::Interrupted.exit_code();
    // The reader may take its time, also for ever; whoever wants the end does not wait for it.
    tokio::select! {
        code = ui.close(result) => code,
        () = tokio::time::sleep(LAST_WORDS), if interrupted => code,
        _ = signals.next(), if !interrupted => code,
    }
}

/// Do the verb to its end, or until a signal: what listens for that may still end well then, and the rest is dropped.
async fn until_signal(verb: impl Future<Output = Result<u8>>, signals: &mut Signals) -> Result<u8> {
    let cancel = Cancel::default();
    let mut verb = pin!(cancel.scope(verb));
    let name = tokio::select! {
        result = &mut verb => return result,
        name = signals.next() => name,
    };
    if cancel.ask() {
        tokio::select! {
            // However it ends now, the signal is why.
            _ = verb => {}
            () = tokio::time::sleep(CANCELLING) => {}
            // Whoever asks twice is in a hurry.
            _ = signals.next() => {}
        }
    }
    Err(ProcessError::Interrupted(name).into())
}

/// The signals that ask for the end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        // Under nohup(1) the terminal may go away without ending the build.
        let hang_up = if is_ignored(libc::SIGHUP)? { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    /// The name of the next signal.
    async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hang_up => "SIGHUP",
        }
    }
}

fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: a sigaction of zeroes is valid, and the call only fills it in.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: no new action is given; `action` outlives the call.
    if unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(action.sa_sigaction == libc::SIG_IGN)
}
