//! The build log and the timings, taken from the events of the build.

use super::OutputError;
use super::manifest::{Timing, TimingKind};
use crate::error::Error;
use crate::event::{self, Event, Events, Program};
use crate::workspace::Workspace;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::task::AbortHandle;

/// A listener that writes the log of a build and keeps the timings.
///
/// The log is written in the cache. It goes with the outputs of a build that succeeds, and stays in the cache, by the name
/// of its recipe, when the build fails or this is dropped before its end: that is how a build is interrupted.
pub struct Record {
    listener: Arc<Mutex<Listener>>,
    task: AbortHandle,
    /// Holds the log until the end.
    workspace: Workspace,
    /// Where the log is kept when the build fails.
    kept: PathBuf,
    /// Where it is told.
    told: Events,
    ended: bool,
}

impl Record {
    /// Begin to listen to `events` and to write the log of a build called `name`, which will be kept in the folder `logs`
    /// if it fails. The events of the build must be sent to what this gives back.
    ///
    /// # Errors
    /// When the log cannot be created.
    pub fn start(logs: &Path, name: &str, events: &Events) -> Result<(Events, Self), OutputError> {
        let workspace = Workspace::new(logs).map_err(OutputError::Log)?;
        let path = log(&workspace);
        let file = File::create_new(&path).map_err(|source| OutputError::Write { path, source })?;
        let told = events.clone();
        let (events, receiver) = events.with_listener();
        let writer = Writer::new(BufWriter::new(file));
        let listener = Arc::new(Mutex::new(Listener { events: receiver, writer, failure: None }));
        let listening = Arc::clone(&listener);
        let task = tokio::spawn(std::future::poll_fn(move |context| lock(&listening).poll(context))).abort_handle();
        let kept = logs.join(format!("{name}.log"));
        Ok((events, Self { listener, task, workspace, kept, told, ended: false }))
    }

    /// Write what has been sent until now, copy the log to `path`, and give back the timings.
    ///
    /// # Errors
    /// When the log could not be written.
    pub(super) fn finish(&mut self, path: &Path) -> Result<Vec<Timing>, OutputError> {
        let failed = |path: &Path, source| OutputError::Write { path: path.to_owned(), source };
        self.task.abort();
        let mut listener = lock(&self.listener);
        listener.write_all().map_err(|source| failed(&log(&self.workspace), source))?;
        std::fs::copy(log(&self.workspace), path).map_err(|source| failed(path, source))?;
        Ok(std::mem::take(&mut listener.writer.timings))
    }

    /// The build has succeeded: nothing is kept, and the log of a failure before it has had its time.
    pub(super) fn succeed(&mut self) {
        self.ended = true;
        // There need not be one; one that stays is replaced by the next.
        let _ = std::fs::remove_file(&self.kept);
    }

    /// The build has failed: keep the log, with `error` at its end. Does nothing after the end.
    pub fn fail(&mut self, error: &Error) {
        if !self.ended {
            let mut lines = vec![format!("error ({}): {error}", error.get().class().name())];
            lines.extend(error.get().details().iter().flat_map(|text| text.lines()).map(|line| format!("  {line}")));
            self.keep(&lines);
        }
    }

    fn keep(&mut self, last: &[String]) {
        self.ended = true;
        self.task.abort();
        let mut listener = lock(&self.listener);
        let written = last.iter().try_for_each(|line| {
            listener.write_all()?;
            listener.writer.line(format_args!("{line}"))
        });
        let kept = written.and_then(|()| listener.write_all());
        match kept.and_then(|()| std::fs::rename(log(&self.workspace), &self.kept)) {
            Ok(()) => self.told.send(Event::LogKept { path: self.kept.display().to_string() }),
            Err(error) => self.told.warn(format!("cannot keep the log as {}: {error}", self.kept.display())),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.keep(&["interrupted".into()]);
        }
    }
}

/// The log while it is written.
fn log(workspace: &Workspace) -> PathBuf {
    workspace.path().join("build.log")
}

fn lock(listener: &Mutex<Listener>) -> MutexGuard<'_, Listener> {
    // Whatever a panic left half-done, the lines before it are what matters.
    listener.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes in, and where it goes.
struct Listener {
    events: event::Listener,
    writer: Writer<BufWriter<File>>,
    /// The first line that could not be written.
    failure: Option<io::Error>,
}

impl Listener {
    /// Write events as they come.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(event) = ready!(self.events.poll_recv(context)) {
            self.write(event);
        }
        Poll::Ready(())
    }

    /// Write what has come, and flush.
    ///
    /// # Errors
    /// When a line could not be written.
    fn write_all(&mut self) -> io::Result<()> {
        while let Ok(event) = self.events.try_recv() {
            self.write(event);
        }
        match self.failure.take() {
            Some(error) => Err(error),
            None => self.writer.out.flush(),
        }
    }

    fn write(&mut self, event: Event) {
        if let Err(error) = self.writer.event(event) {
            self.failure.get_or_insert(error);
        }
    }
}

/// Bytes of the log beyond which output of the guest is left out: a stage can print without end.
const MAX_LOG: usize = 256 << 20;

/// Turns events into lines and timings.
struct Writer<W> {
    out: W,
    started: Instant,
    titles: HashMap<usize, String>,
    timings: Vec<Timing>,
    /// Bytes in the log.
    written: usize,
    /// Whether there was more than the log may have.
    full: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        let (titles, timings) = Default::default();
        Self { out, started: Instant::now(), titles, timings, written: 0, full: false }
    }

    /// One line, with the seconds since the build began.
    fn line(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let line = format!("[{:9.3}] {text}\n", self.started.elapsed().as_secs_f64());
        self.written += line.len();
        self.out.write_all(line.as_bytes())
    }

    /// One line of which the guest can make as many as it likes.
    fn guest_line(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        if self.written < MAX_LOG {
            return self.line(text);
        }
        if !std::mem::replace(&mut self.full, true) {
            self.line(format_args!("(the log has {} MiB: further output is left out)", MAX_LOG >> 20))?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step, .. } => self.line(format_args!("{step}")),
            // Progress would be most of the log and tell nothing afterwards. Outputs are there when the log is complete;
            // the manifest tells of them.
            Event::StepProgress { .. } | Event::Output { .. } => Ok(()),
            Event::StepFinished { step, seconds } => {
                self.line(format_args!("{step}: done in {seconds:.1} s"))?;
                self.timings.push(Timing {
                    kind: TimingKind::Step,
                    name: step,
                    seconds,
                    cpu_seconds: None,
                    programs: Vec::new(),
                });
                Ok(())
            }
            Event::StageReused { title, .. } => {
                self.line(format_args!("stage {title}: as an earlier build has made it"))
            }
            Event::StageStarted { index, title, .. } => {
                self.line(format_args!("stage {title}"))?;
                self.titles.insert(index, title);
                Ok(())
            }
            Event::StageOutput { line, .. } => self.guest_line(format_args!("  {line}")),
            Event::StageFinished { index, seconds, cpu_seconds, programs } => {
                let name = self.titles.remove(&index).unwrap_or_else(|| index.to_string());
                self.line(format_args!("stage {name}: done in {seconds:.1} s, {cpu_seconds:.1} s of processor time"))?;
                if !programs.is_empty() {
                    self.line(format_args!("  of that {}", listed(&programs)))?;
                }
                let (kind, cpu_seconds) = (TimingKind::Stage, Some(cpu_seconds));
                self.timings.push(Timing { kind, name, seconds, cpu_seconds, programs });
                Ok(())
            }
            Event::Fetched { url, size, cached } => {
                let from = if cached { "from the store" } else { "fetched" };
                self.guest_line(format_args!("{from}: {url} ({size} bytes)"))
            }
            Event::Warning { message } => self.line(format_args!("warning: {message}")),
            Event::Detail { message } => self.guest_line(format_args!("{message}")),
            // Told when the log has been closed.
            Event::LogKept { .. } => Ok(()),
        }
    }
}

/// `dpkg 12.3 s (40 x), sh 3.0 s (200 x)`.
fn listed(programs: &[Program]) -> String {
    let one = |Program { name, runs, cpu_seconds }: &Program| format!("{name} {cpu_seconds:.1} s ({runs} x)");
    programs.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Unit;

    fn stage(events: &Events) {
        events.send(Event::StageStarted { index: 0, count: 1, title: "1/1 apt".into() });
        events.send(Event::StageOutput { index: 0, line: "Unpacking hello".into() });
    }

    #[tokio::test]
    async fn the_log_has_every_line_and_the_timings_every_stage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test.log"), "an earlier failure").unwrap();
        let path = dir.path().join("build.log");
        let (events, mut record) = Record::start(dir.path(), "test", &Events::none()).unwrap();
        let step = events.step("start VM", None, Unit::Items);
        step.finish();
        stage(&events);
        tokio::task::yield_now().await;
        let programs = vec![Program { name: "dpkg".into(), runs: 2, cpu_seconds: 0.5 }];
        events.send(Event::StageFinished { index: 0, seconds: 2.0, cpu_seconds: 1.0, programs });
        let timings = record.finish(&path).unwrap();
        assert_eq!(timings.iter().map(|timing| timing.name.as_str()).collect::<Vec<_>>(), ["start VM", "1/1 apt"]);
        let log = std::fs::read_to_string(path).unwrap();
        assert_eq!(log.lines().count(), 6, "{log}");
        assert!(log.contains("]   Unpacking hello\n") && log.contains("  of that dpkg 0.5 s (2 x)\n"), "{log}");
        record.succeed();
        drop(record);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_guest_that_prints_without_end_does_not_fill_the_disk() {
        let mut writer = Writer::new(Vec::new());
        writer.written = MAX_LOG - 1;
        for line in ["one", "two", "three"] {
            writer.event(Event::StageOutput { index: 0, line: line.into() }).unwrap();
        }
        writer.event(Event::StageFinished { index: 0, seconds: 1.0, cpu_seconds: 1.0, programs: Vec::new() }).unwrap();
        let log = String::from_utf8(writer.out).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
        assert!(log.contains("one") && log.contains("left out") && log.contains("done in"), "{log}");
    }

    #[tokio::test]
    async fn a_build_that_fails_or_is_interrupted_leaves_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let (told, mut heard) = Events::channel();
        let path = dir.path().join("test.log");
        let kept = || std::fs::read_to_string(&path).unwrap();
        let (events, record) = Record::start(dir.path(), "test", &told).unwrap();
        stage(&events);
        drop(record);
        assert!(kept().contains("Unpacking hello") && kept().ends_with("] interrupted\n"), "{}", kept());

        let (events, mut record) = Record::start(dir.path(), "test", &told).unwrap();
        stage(&events);
        record.fail(&OutputError::InTheWay { path: "x".into() }.into());
        drop(record);
        assert!(kept().contains("Unpacking hello") && kept().contains("error (host): x is in the way"), "{}", kept());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let event = Event::LogKept { path: path.display().to_string() };
        let told = std::iter::from_fn(|| heard.try_recv().ok()).filter(|heard| *heard == event).count();
        assert_eq!(told, 2);
    }
}
