//! What the engine tells while it works. The terminal, JSON lines, the build log and the tests are listeners.

use crate::backlog::Backlog;
use serde::{Deserialize, Serialize};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// All processes of one program in a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, see proc_pid_comm(5).
    pub name: String,
    /// How many processes of it ended.
    pub runs: u64,
    /// Their processor time, each counted in whole hundredths.
    pub cpu_seconds: f64,
}

/// Most events that may wait for a listener before whoever passes on the guest's words holds back.
const MOST_WAITING: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step of the host begins: `appliance`, `download`, `start VM`, `convert qcow2`.
    StepStarted {
        /// Name of the step; unique among the steps under way.
        step: String,
        /// Size of the work, where it is known.
        total: Option<u64>,
        /// Whether `total` and the progress count bytes or items.
        unit: Unit,
    },
    /// A step of the host got on.
    StepProgress {
        /// The step.
        step: String,
        /// How much is done.
        done: u64,
    },
    /// A step of the host ended well.
    StepFinished {
        /// The step.
        step: String,
        /// How long it took.
        seconds: f64,
    },
    /// A stage is not run: an earlier build has made the same.
    StageReused {
        /// Position in the plan.
        index: usize,
        /// How many there are.
        count: usize,
        /// What people call it.
        title: String,
    },
    /// A stage begins in the guest.
    StageStarted {
        /// Position in the plan.
        index: usize,
        /// How many there are.
        count: usize,
        /// What people call it.
        title: String,
    },
    /// A line of output of a stage.
    StageOutput {
        /// The stage.
        index: usize,
        /// The line.
        line: String,
    },
    /// A stage ended well.
    StageFinished {
        /// The stage.
        index: usize,
        /// Wall time.
        seconds: f64,
        /// Processor time in the guest.
        cpu_seconds: f64,
        /// The programs that took most of it.
        programs: Vec<Program>,
    },
    /// Something was fetched for the guest, or a layer of an image.
    Fetched {
        /// The URL, `host:port` for a tunnel, or where in an archive it was.
        url: String,
        /// Size in bytes.
        size: u64,
        /// Whether it came from the store.
        cached: bool,
    },
    /// Worth knowing, not a failure; for instance that there is no KVM.
    Warning {
        /// One sentence.
        message: String,
    },
    /// A detail for `-v`.
    Detail {
        /// One sentence.
        message: String,
    },
    /// An output file is in its place.
    Output {
        /// Its path.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// SHA-256 in hexadecimal.
        sha256: String,
    },
    /// The log of a build that failed or was interrupted is in its place.
    LogKept {
        /// Its path.
        path: String,
    },
}

/// What a progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packages, files, requests.
    Items,
}

/// Where events are sent. Cheap to clone; nobody has to listen, and several may.
#[derive(Debug, Clone)]
pub struct Events(Vec<Sender>);

#[derive(Debug, Clone)]
struct Sender {
    queue: mpsc::UnboundedSender<Event>,
    waiting: Backlog,
}

impl Sender {
    /// A listener that has gone away does not end the work.
    fn send(&self, event: Event) {
        self.waiting.add(1);
        if self.queue.send(event).is_err() {
            self.waiting.remove(1);
        }
    }
}

/// The end of one listener.
#[derive(Debug)]
pub struct Listener {
    queue: mpsc::UnboundedReceiver<Event>,
    waiting: Backlog,
}

impl Listener {
    /// The next event; None when there will be none. Can be dropped and called again without loss.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// The same for a task that polls.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(self.queue.poll_recv(context));
        if event.is_some() {
            self.waiting.remove(1);
        }
        Poll::Ready(event)
    }

    /// The next event that waits already.
    ///
    /// # Errors
    /// When none waits.
    pub fn try_recv(&mut self) -> Result<Event, TryRecvError> {
        let event = self.queue.try_recv()?;
        self.waiting.remove(1);
        Ok(event)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.queue.close();
        while self.try_recv().is_ok() {}
    }
}

impl Events {
    /// A sender and the listener's end.
    pub fn channel() -> (Self, Listener) {
        Self::none().with_listener()
    }

    /// A sender that nobody listens to.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// A sender to the same listeners and to one more.
    pub fn with_listener(&self) -> (Self, Listener) {
        let (sender, queue) = mpsc::unbounded_channel();
        let waiting = Backlog::default();
        let mut senders = self.0.clone();
        senders.push(Sender { queue: sender, waiting: waiting.clone() });
        (Self(senders), Listener { queue, waiting })
    }

    /// Tell the listeners.
    pub fn send(&self, event: Event) {
        let Some((last, others)) = self.0.split_last() else { return };
        for sender in others {
            sender.send(event.clone());
        }
        last.send(event);
    }

    /// Wait until the listeners have got on. Whoever passes on what a guest says waits before each message, so that a
    /// guest that talks faster than a listener hears does not fill the memory; one at a time may wait.
    pub async fn room(&self) {
        for sender in &self.0 {
            sender.waiting.below(MOST_WAITING).await;
        }
    }

    /// Whether the listeners get on, so that [`Self::room`] would not wait.
    pub fn has_room(&self) -> bool {
        self.0.iter().all(|sender| sender.waiting.is_below(MOST_WAITING))
    }

    /// Tell a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning { message: message.into() });
    }

    /// Tell a detail.
    pub fn detail(&self, message: impl Into<String>) {
        self.send(Event::Detail { message: message.into() });
    }

    /// Begin a step of the host; it is finished when [`Step::finish`] is called.
    pub fn step(&self, step: impl Into<String>, total: Option<u64>, unit: Unit) -> Step {
        let step = step.into();
        self.send(Event::StepStarted { step: step.clone(), total, unit });
        Step { events: self.clone(), step, started: std::time::Instant::now() }
    }
}

/// A step of the host that is under way.
#[derive(Debug)]
pub struct Step {
    events: Events,
    step: String,
    started: std::time::Instant,
}

impl Step {
    /// It got on: `done` of its total.
    pub fn progress(&self, done: u64) {
        self.events.send(Event::StepProgress { step: self.step.clone(), done });
    }

    /// It ended well.
    pub fn finish(self) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.events.send(Event::StepFinished { step: self.step, seconds });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn every_listener_hears_and_one_may_leave() {
        let (events, mut first) = Events::channel();
        let (both, mut second) = events.with_listener();
        both.detail("one");
        drop(first.try_recv().unwrap());
        drop(first);
        both.detail("two");
        let heard: Vec<_> = std::iter::from_fn(|| second.try_recv().ok()).collect();
        let detail = |message: &str| Event::Detail { message: message.into() };
        assert_eq!(heard, [detail("one"), detail("two")]);
    }

    #[tokio::test]
    async fn whoever_talks_too_fast_waits_for_the_listeners() {
        let (events, mut slow) = Events::channel();
        let (events, gone) = events.with_listener();
        for _ in 0..MOST_WAITING {
            events.room().await;
            events.detail("a line");
        }
        drop(gone);
        assert!(!events.has_room() && events.room().now_or_never().is_none());
        slow.recv().await.unwrap();
        events.room().await;
        assert!(events.has_room());
    }

    #[test]
    fn every_event_is_documented() {
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
        let document = std::fs::read_to_string(document).unwrap();
        let text = String::new;
        let all = [
            Event::StepStarted { step: text(), total: None, unit: Unit::Bytes },
            Event::StepProgress { step: text(), done: 0 },
            Event::StepFinished { step: text(), seconds: 0.0 },
            Event::StageStarted { index: 0, count: 0, title: text() },
            Event::StageOutput { index: 0, line: text() },
            Event::StageFinished { index: 0, seconds: 0.0, cpu_seconds: 0.0, programs: Vec::new() },
            Event::Fetched { url: text(), size: 0, cached: false },
            Event::Warning { message: text() },
            Event::Detail { message: text() },
            Event::Output { path: text(), size: 0, sha256: text() },
            Event::LogKept { path: text() },
        ];
        for event in all {
            let json = serde_json::to_value(&event).unwrap();
            let start = format!("| `{}` | ", json["event"].as_str().unwrap());
            let row = document.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{start}"));
            for key in json.as_object().unwrap().keys().filter(|key| *key != "event") {
                assert!(row.contains(&format!("`{key}`")), "{key} in {row}");
            }
        }
    }
}
