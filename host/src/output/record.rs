//! The build log and the timings, taken from the events of the build.

use super::OutputError;
use super::manifest::{Timing, TimingKind};
use crate::event::{Event, Events};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A listener that writes `build.log` and keeps the timings. It ends when it is finished or dropped.
pub struct Record {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<Vec<Timing>>>,
    path: PathBuf,
}

impl Record {
    /// Begin to listen to `events` and to write to `path`. The events of the build must be sent to what this gives
    /// back.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn start(path: &Path, events: &Events) -> Result<(Events, Self), OutputError> {
        let file = File::create_new(path).map_err(|source| OutputError::Write { path: path.to_owned(), source })?;
        let (events, receiver) = events.with_listener();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(listen(Writer::new(BufWriter::new(file)), receiver, stopped));
        Ok((events, Self { stop: Some(stop), task, path: path.to_owned() }))
    }

    /// Write what has been sent until now, and give back the timings.
    ///
    /// # Errors
    /// When the log could not be written.
    pub(super) async fn finish(mut self) -> Result<Vec<Timing>, OutputError> {
        let failed = |source| OutputError::Write { path: self.path.clone(), source };
        drop(self.stop.take());
        (&mut self.task).await.map_err(|error| failed(error.into()))?.map_err(failed)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen<W: Write>(
    mut writer: Writer<W>,
    mut events: mpsc::UnboundedReceiver<Event>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<Vec<Timing>> {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => writer.event(event)?,
                None => break,
            },
            _ = &mut stopped => {
                events.close();
                while let Ok(event) = events.try_recv() {
                    writer.event(event)?;
                }
                break;
            }
        }
    }
    writer.out.flush()?;
    Ok(writer.timings)
}

/// Turns events into lines and timings.
struct Writer<W> {
    out: W,
    started: Instant,
    titles: HashMap<usize, String>,
    timings: Vec<Timing>,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        Self { out, started: Instant::now(), titles: HashMap::new(), timings: Vec::new() }
    }

    /// One line, with the seconds since the build began.
    fn line(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        writeln!(self.out, "[{:9.3}] {text}", self.started.elapsed().as_secs_f64())
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step, .. } => self.line(format_args!("{step}")),
            // Progress would be most of the log and tell nothing afterwards.
            Event::StepProgress { .. } => Ok(()),
            Event::StepFinished { step, seconds } => {
                self.line(format_args!("{step}: done in {seconds:.1} s"))?;
                self.timings.push(Timing { kind: TimingKind::Step, name: step, seconds, cpu_seconds: None });
                Ok(())
            }
            Event::StageStarted { index, title, .. } => {
                self.line(format_args!("stage {title}"))?;
                self.titles.insert(index, title);
                Ok(())
            }
            Event::StageOutput { line, .. } => self.line(format_args!("  {line}")),
            Event::StageFinished { index, seconds, cpu_seconds } => {
                let name = self.titles.remove(&index).unwrap_or_else(|| index.to_string());
                self.line(format_args!("stage {name}: done in {seconds:.1} s, {cpu_seconds:.1} s of processor time"))?;
                self.timings.push(Timing { kind: TimingKind::Stage, name, seconds, cpu_seconds: Some(cpu_seconds) });
                Ok(())
            }
            Event::Fetched { url, size, cached } => {
                let from = if cached { "from the store" } else { "fetched" };
                self.line(format_args!("{from}: {url} ({size} bytes)"))
            }
            Event::Warning { message } => self.line(format_args!("warning: {message}")),
            Event::Detail { message } => self.line(format_args!("{message}")),
            Event::Output { path, size, sha256 } => self.line(format_args!("output {path}: {size} bytes, {sha256}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Unit;

    #[tokio::test]
    async fn the_log_has_every_line_and_the_timings_every_stage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("build.log");
        let (events, record) = Record::start(&path, &Events::none()).unwrap();
        let step = events.step("start VM", None, Unit::Items);
        step.finish();
        events.send(Event::StageStarted { index: 0, count: 1, title: "1/1 apt".into() });
        events.send(Event::StageOutput { index: 0, line: "Unpacking hello".into() });
        events.send(Event::StageFinished { index: 0, seconds: 2.0, cpu_seconds: 1.0 });
        let timings = record.finish().await.unwrap();
        // A sender that is still about hinders nothing.
        events.detail("too late");
        assert_eq!(timings.iter().map(|timing| timing.name.as_str()).collect::<Vec<_>>(), ["start VM", "1/1 apt"]);
        let log = std::fs::read_to_string(path).unwrap();
        assert_eq!(log.lines().count(), 5, "{log}");
        assert!(log.contains("]   Unpacking hello\n"), "{log}");
    }
}
