//! What a job, and a stage in it, works with.

use crate::cancel::Cancel;
use crate::init::Machine;
use crate::net;
use crate::outbox::Outbox;
use crate::paths;
use crate::process::accounting::Accounting;
use crate::process::lines::Lines;
use crate::process::{self, Command, Limits};
use crate::report::{self, Explain};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeValLike;
use particle_vm_protocol::{Failure, FailureKind, FromGuest};
use std::collections::VecDeque;
use std::io::{self, BufWriter, PipeWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many lines of a failed command's output go into the failure.
const LAST_LINES: usize = 50;

/// How many bytes go to a command at a time.
const FED: usize = 256 << 10;

/// The surroundings of a job: the way to the host, the machine, the stage that runs.
#[derive(Debug)]
pub struct Context {
    outbox: Arc<Outbox>,
    cancel: Arc<Cancel>,
    machine: Arc<Machine>,
    stage: Mutex<Option<Current>>,
    scratch_peak: AtomicU64,
}

#[derive(Debug, Clone)]
struct Current {
    index: usize,
    title: String,
    begin: Instant,
    deadline: Option<Instant>,
}

impl Context {
    /// For one job.
    pub fn new(outbox: Arc<Outbox>, cancel: Arc<Cancel>, machine: Arc<Machine>) -> Self {
        Self { outbox, cancel, machine, stage: Mutex::new(None), scratch_peak: AtomicU64::new(0) }
    }

    /// The machine's disks and shares.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The way to the host, for what is not output of a stage.
    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The host's wish that the job ends.
    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run a stage, or another step that has a name of its own: tells the host of its begin and its end, and puts it
    /// into a failure.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn stage<T>(
        &self,
        index: usize,
        title: &str,
        deadline: Option<Duration>,
        work: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let begin = Instant::now();
        let cpu_before = cpu_time();
        let accounts = self.machine.accounting.as_ref();
        let records_before = accounts.map_or(0, Accounting::position);
        // An instant that cannot be reckoned is too far away to be reached.
        let deadline = deadline.and_then(|deadline| begin.checked_add(deadline));
        *self.current() = Some(Current { index, title: title.to_owned(), begin, deadline });
        self.outbox.send(&FromGuest::StageStarted { index, title: title.to_owned() });
        let result = self.check().and_then(|()| work(self));
        self.measure_scratch();
        *self.current() = None;
        match result {
            Ok(value) => {
                self.outbox.send(&FromGuest::StageFinished {
                    index,
                    milliseconds: milliseconds(begin.elapsed()),
                    cpu_milliseconds: cpu_time().saturating_sub(cpu_before),
                    programs: accounts.map(|accounts| accounts.programs(records_before)).unwrap_or_default(),
                });
                Ok(value)
            }
            Err(failure) => Err(Failure { stage: failure.stage.or(Some((index, title.to_owned()))), ..failure }),
        }
    }

    /// Run a command to its end; each line that it writes goes to the host.
    ///
    /// # Errors
    /// When it cannot be run, fails, runs into the stage's deadline or is cancelled. Everything it has started has
    /// ended then.
    pub fn run(&self, command: &Command) -> Result<(), Failure> {
        self.run_with(command, None)
    }

    /// Run a command and give back what it writes to its standard output. Its standard error goes to the host.
    ///
    /// # Errors
    /// As [`Context::run`], and when its output is not UTF-8.
    pub fn capture(&self, command: &Command) -> Result<String, Failure> {
        let mut output = Vec::new();
        self.run_with(command, Some(&mut output))?;
        String::from_utf8(output)
            .map_err(|_| report::plain(FailureKind::Command, format!("the output of {command} is not UTF-8")))
    }

    /// Run a command whose standard input is what `feed` writes, however much that is.
    ///
    /// # Errors
    /// As [`Context::run`]; and when `feed` fails for another reason than that the command reads no more.
    pub fn run_fed(
        &self,
        command: Command,
        feed: impl FnOnce(&mut dyn Write) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let (reader, writer) = io::pipe().explain(FailureKind::Agent, || "cannot make a pipe")?;
        let command = command.stdin(reader.into());
        let closed = AtomicBool::new(false);
        thread::scope(|scope| {
            let feeder = scope.spawn(|| {
                let mut pipe = BufWriter::with_capacity(FED, Pipe { writer, closed: &closed });
                feed(&mut pipe)?;
                pipe.flush().explain(FailureKind::Agent, || "cannot write to a pipe")
            });
            let result = self.run(&command);
            // The last end to read from; whoever still writes learns of it now.
            drop(command);
            match feeder.join() {
                Ok(Err(failure)) if !closed.load(Ordering::Relaxed) => Err(failure),
                // A panic has powered the machine off.
                _ => result,
            }
        })
    }

    fn run_with(&self, command: &Command, captured: Option<&mut Vec<u8>>) -> Result<(), Failure> {
        let deadline = self.current().as_ref().and_then(|stage| stage.deadline);
        let limits = Limits { cancel: &self.cancel, deadline };
        let mut lines = Lines::default();
        let mut last = VecDeque::with_capacity(LAST_LINES);
        let mut emit = |line: String| {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.clone());
            self.output(line);
        };
        let result = process::run(command, limits, captured, &mut |bytes| lines.push(bytes, &mut emit));
        lines.finish(&mut emit);
        self.measure_scratch();
        result.map_err(|error| net::explain(report::of_command(&error, last.into())))
    }

    /// Tell the host a line of output. Outside of a stage it goes nowhere.
    pub fn output(&self, line: impl Into<String>) {
        let Some(Current { index, deadline, .. }) = self.current().clone() else { return };
        self.outbox.wait_for_room(deadline, &self.cancel);
        self.outbox.send(&FromGuest::Output { index, line: line.into() });
    }

    /// Whether work in the agent itself may go on; long loops ask now and then.
    ///
    /// # Errors
    /// When the job is cancelled or the stage is at its deadline.
    pub fn check(&self) -> Result<(), Failure> {
        if self.cancel.is_set() {
            return Err(report::plain(FailureKind::Cancelled, "the build was cancelled"));
        }
        match self.current().as_ref() {
            Some(Current { title, begin, deadline: Some(deadline), .. }) if Instant::now() >= *deadline => {
                let seconds = begin.elapsed().as_secs();
                Err(report::plain(FailureKind::Deadline, format!("`{title}` had not ended after {seconds} s")))
            }
            _ => Ok(()),
        }
    }

    /// Most bytes that were in use on the scratch disk after any command or stage of this job.
    pub fn scratch_peak(&self) -> u64 {
        self.scratch_peak.load(Ordering::Relaxed)
    }

    fn measure_scratch(&self) {
        if let Ok(state) = statvfs(paths::SCRATCH) {
            let used = (state.blocks() - state.blocks_free()) * state.fragment_size();
            self.scratch_peak.fetch_max(used, Ordering::Relaxed);
        }
    }
}

/// A pipe to a command, which remembers that the command has closed it.
struct Pipe<'a> {
    writer: PipeWriter,
    closed: &'a AtomicBool,
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Processor time of the agent, which reads archives itself, and of all processes that have ended, in milliseconds.
fn cpu_time() -> u64 {
    let of = |who| getrusage(who).map_or(0, |usage| (usage.user_time() + usage.system_time()).num_milliseconds());
    u64::try_from(of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)).unwrap_or(0)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
