//! Listeners of [`Event`]s for people and for programs: bars, plain lines, JSON lines. All write to standard error, so
//! that standard output carries only what a verb was asked for.
//!
//! Whoever reads standard error may take its time, or never read at all (`2>&1 | less`). The listener waits for it in a
//! thread of its own, while signals, heartbeats and downloads go on in the runtime's.

mod bars;
pub mod inspection;
mod json;
mod log;
mod plain;
mod report;
pub mod terminal;
mod text;
mod track;

pub use report::Report;

use crate::backlog::Backlog;
use crate::cli::Progress;
use crate::error::{Class, Error, Result};
use crate::event::{self, Event, Events};
use std::io::{self, IsTerminal};
use std::thread;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

/// A way of telling what happens.
trait Listener {
    /// Tell an event.
    fn event(&mut self, event: &Event);

    /// Time passes; called a few times a second.
    fn tick(&mut self) {}

    /// Nothing under way may be drawn from here on, for instance because a shell takes the terminal.
    fn settle(&mut self) {}

    /// An error that does not end the verb.
    fn report(&mut self, report: &Report);

    /// The verb has ended, with this report when it failed.
    fn end(&mut self, report: Option<&Report>, code: u8);
}

/// What is asked of the listener beside the events.
#[derive(Debug)]
enum Control {
    /// Answer when all events so far have been told and nothing is drawn any more.
    Settle(oneshot::Sender<()>),
    /// Tell an error that does not end the verb.
    Report(Box<Report>),
    /// Write what a library logs, one of those that are `waiting`.
    Log { line: Vec<u8>, waiting: Backlog },
    /// Tell the rest and the end.
    End { result: Result<u8>, reply: oneshot::Sender<u8> },
}

/// The listener's handle.
#[derive(Clone)]
pub struct Ui {
    events: Events,
    control: mpsc::UnboundedSender<Control>,
}

impl Ui {
    /// Start to listen, in a thread of its own. `verbose` counts the `-v`.
    ///
    /// # Errors
    /// When there is no thread to be had, or no descriptor for its clock.
    pub fn start(style: Progress, verbose: u8) -> io::Result<Self> {
        let listener: Box<dyn Listener + Send> = match style.resolve(verbose) {
            Progress::Json => Box::new(json::Json::default()),
            Progress::Bars => Box::new(bars::Bars::new(verbose)),
            Progress::Plain | Progress::Auto => Box::new(plain::Plain::new(verbose)),
        };
        let (events, receiver) = Events::channel();
        let (control, controls) = mpsc::unbounded_channel();
        log::follow_libraries(verbose, control.clone());
        let runtime = Builder::new_current_thread().enable_time().build()?;
        // Not a task: a write cannot be ended, and the runtime would wait for its end. This thread ends with the process.
        let listening = move || runtime.block_on(listen(listener, receiver, controls));
        thread::Builder::new().name("listener".into()).spawn(listening)?;
        Ok(Self { events, control })
    }

    /// Where the engine sends its events.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Wait until every event so far has been told and nothing is drawn any more: the terminal is the caller's.
    pub async fn settle(&self) {
        let (reply, settled) = oneshot::channel();
        if self.control.send(Control::Settle(reply)).is_ok() {
            // An error means that the listener has gone; then nothing is drawn either.
            let _ = settled.await;
        }
    }

    /// Tell an error that does not end the verb.
    pub fn report(&self, error: &Error) {
        // Without a listener there is nobody to tell.
        let _ = self.control.send(Control::Report(Box::new(Report::of(error, None))));
    }

    /// Tell the rest of the events and how the verb ended; gives the exit code. This takes as long as the reader of
    /// standard error takes.
    pub async fn close(self, result: Result<u8>) -> u8 {
        let (reply, code) = oneshot::channel();
        match self.control.send(Control::End { result, reply }) {
            Ok(()) => code.await.unwrap_or(Class::Internal.exit_code()),
            Err(_) => Class::Internal.exit_code(),
        }
    }
}

impl Progress {
    /// The style in force: bars need a terminal, and a log of the libraries would tear them.
    fn resolve(self, verbose: u8) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match self {
            Self::Auto if std::io::stderr().is_terminal() && !dumb && verbose < 3 => Self::Bars,
            Self::Auto => Self::Plain,
            chosen => chosen,
        }
    }
}

async fn listen(
    mut listener: Box<dyn Listener + Send>,
    mut events: event::Listener,
    mut controls: mpsc::UnboundedReceiver<Control>,
) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut stages = track::Stages::default();
    loop {
        // Biased: a control is obeyed when the events before it have been told.
        tokio::select! {
            biased;
            Some(event) = events.recv() => {
                stages.follow(&event);
                listener.event(&event);
            }
            control = controls.recv() => match control {
                Some(Control::Settle(reply)) => {
                    listener.settle();
                    let _ = reply.send(());
                }
                Some(Control::Report(mut report)) => {
                    report.log = stages.log().map(str::to_owned);
                    listener.report(&report);
                }
                Some(Control::Log { line, waiting }) => {
                    waiting.remove(1);
                    text::lines(&line);
                }
                Some(Control::End { result, reply }) => {
                    let mut report = result.as_ref().err().map(|error| Report::of(error, stages.current()));
                    if let Some(report) = &mut report {
                        report.log = stages.log().map(str::to_owned);
                    }
                    let code = result.unwrap_or_else(|error| error.get().class().exit_code());
                    listener.end(report.as_ref(), code);
                    let _ = reply.send(code);
                    return;
                }
                None => return,
            },
            _ = ticks.tick() => listener.tick(),
        }
    }
}
