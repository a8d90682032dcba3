//! Plain lines: one when a step or stage begins, one when it ends, and now and then one in between.

use super::track::Stages;
use super::{Listener, Report, text};
use crate::event::{Event, Unit};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often a step that counts tells how far it is.
const EVERY: Duration = Duration::from_secs(10);

/// The listener.
pub struct Plain {
    verbose: u8,
    stages: Stages,
    steps: HashMap<String, Step>,
}

struct Step {
    total: Option<u64>,
    unit: Unit,
    told: Instant,
}

impl Plain {
    /// With the number of `-v`.
    pub fn new(verbose: u8) -> Self {
        Self { verbose, stages: Stages::default(), steps: HashMap::new() }
    }

    fn step_progress(&mut self, name: &str, done: u64) {
        if let Some(step) = self.steps.get_mut(name)
            && step.told.elapsed() >= EVERY
        {
            step.told = Instant::now();
            text::line(&format!("{name}: {}", text::amount(done, step.total, step.unit)));
        }
    }
}

impl Listener for Plain {
    fn event(&mut self, event: &Event) {
        self.stages.follow(event);
        match event {
            Event::StepStarted { step, total, unit } => {
                let amount = total.map(|total| format!(" ({})", text::amount(total, None, *unit))).unwrap_or_default();
                text::line(&format!("{step}{amount}"));
                self.steps.insert(step.clone(), Step { total: *total, unit: *unit, told: Instant::now() });
            }
            Event::StepProgress { step, done } => self.step_progress(step, *done),
            Event::StepFinished { step, seconds } => {
                self.steps.remove(step);
                text::line(&format!("{step}: done in {}", text::seconds(*seconds)));
            }
            Event::StageReused { title, .. } => text::line(&text::reused(title)),
            Event::StageStarted { title, .. } => text::line(title),
            Event::StageOutput { index, line } if self.verbose > 0 => {
                text::line(&format!("{} | {line}", self.stages.title(*index)));
            }
            Event::StageFinished { index, seconds, .. } => {
                text::line(&finished(&self.stages, *index, *seconds));
            }
            Event::Warning { message } if self.stages.is_new_warning(message) => {
                text::line(&format!("warning: {message}"));
            }
            Event::Detail { message } if self.verbose > 0 => text::line(message),
            Event::Fetched { .. } | Event::Output { .. } => {
                if let Some(line) = line_of(event, self.verbose) {
                    text::line(&line);
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, report: &Report) {
        report.print();
    }

    fn end(&mut self, report: Option<&Report>, _code: u8) {
        if let Some(report) = report {
            report.print();
        }
    }
}

/// The line that tells the end of a stage.
pub fn finished(stages: &Stages, index: usize, seconds: f64) -> String {
    let fetched = text::fetched(stages.fetched()).map(|fetched| format!(", {fetched}")).unwrap_or_default();
    format!("{}: done in {}{fetched}", stages.title(index), text::seconds(seconds))
}

/// The line for something fetched or put out, if it is to be told.
pub fn line_of(event: &Event, verbose: u8) -> Option<String> {
    match event {
        Event::Fetched { url, size, cached } if verbose > 1 => {
            let from = if *cached { ", from the store" } else { "" };
            Some(format!("fetched {url} ({}{from})", text::size(*size)))
        }
        Event::Output { path, size, sha256 } => Some(format!("{path}: {}, SHA-256 {sha256}", text::size(*size))),
        _ => None,
    }
}
