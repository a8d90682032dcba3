//! Bars for a terminal: one for each step and stage under way; what has ended stays as a line above them.

use super::track::Stages;
use super::{Listener, Report, plain, text};
use crate::event::{Event, Unit};
use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;

const SPINNING: &str = "{spinner} {prefix} {elapsed:.dim} {wide_msg:.dim}";
const BYTES: &str = "{spinner} {prefix} {elapsed:.dim} {bar:30.cyan/dim} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
const BYTES_SO_FAR: &str = "{spinner} {prefix} {elapsed:.dim} {binary_bytes}, {binary_bytes_per_sec}";
const ITEMS: &str = "{spinner} {prefix} {elapsed:.dim} {bar:30.cyan/dim} {human_pos} of {human_len}";

/// The listener.
pub struct Bars {
    verbose: u8,
    all: MultiProgress,
    steps: HashMap<String, ProgressBar>,
    stage: Option<ProgressBar>,
    stages: Stages,
}

impl Bars {
    /// With the number of `-v`.
    pub fn new(verbose: u8) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { verbose, all, steps: HashMap::new(), stage: None, stages: Stages::default() }
    }

    fn bar(&self, name: &str, template: &str, total: Option<u64>) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        // The templates are constants; the tests render each.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(bar.with_style(style.progress_chars("━╸─")));
        bar.set_prefix(name.to_owned());
        bar
    }

    fn line(&self, text: &str) {
        // suspend() rather than println(): that one tells nothing while the terminal is not one.
        self.all.suspend(|| text::line(text));
    }

    fn done(&self, text: &str) {
        self.line(&format!("{} {text}", style("✓").for_stderr().green()));
    }

    fn show_stage(&self, line: &str) {
        if let Some(bar) = &self.stage {
            let fetched = text::fetched(self.stages.fetched()).map(|text| format!("{text}  ")).unwrap_or_default();
            bar.set_message(format!("{fetched}{line}"));
        }
    }
}

impl Listener for Bars {
    fn event(&mut self, event: &Event) {
        self.stages.follow(event);
        match event {
            Event::StepStarted { step, total, unit } => {
                let template = match (total, unit) {
                    (Some(_), Unit::Bytes) => BYTES,
                    (Some(_), Unit::Items) => ITEMS,
                    (None, Unit::Bytes) => BYTES_SO_FAR,
                    (None, Unit::Items) => SPINNING,
                };
                self.steps.insert(step.clone(), self.bar(step, template, *total));
            }
            Event::StepProgress { step, done } => {
                if let Some(bar) = self.steps.get(step) {
                    bar.set_position(*done);
                }
            }
            Event::StepFinished { step, seconds } => {
                if let Some(bar) = self.steps.remove(step) {
                    bar.finish_and_clear();
                }
                self.done(&format!("{step}: {}", text::seconds(*seconds)));
            }
            Event::StageReused { title, .. } => self.done(&text::reused(title)),
            Event::StageStarted { title, .. } => self.stage = Some(self.bar(title, SPINNING, None)),
            Event::StageOutput { index, line } => {
                if self.verbose > 0 {
                    self.line(&format!(
                        "{} {line}",
                        style(format!("{} |", self.stages.title(*index))).for_stderr().dim()
                    ));
                } else {
                    self.show_stage(line);
                }
            }
            Event::StageFinished { index, seconds, .. } => {
                if let Some(bar) = self.stage.take() {
                    bar.finish_and_clear();
                }
                self.done(&plain::finished(&self.stages, *index, *seconds));
            }
            Event::Warning { message } if self.stages.is_new_warning(message) => {
                self.line(&format!("{} {message}", style("warning:").for_stderr().yellow().bold()));
            }
            Event::Detail { message } if self.verbose > 0 => self.line(message),
            Event::Fetched { .. } | Event::Output { .. } => {
                if let Some(line) = plain::line_of(event, self.verbose) {
                    self.line(&line);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        self.steps.values().chain(&self.stage).for_each(ProgressBar::tick);
    }

    fn settle(&mut self) {
        self.steps.drain().map(|(_, bar)| bar).chain(self.stage.take()).for_each(|bar| bar.finish_and_clear());
    }

    fn report(&mut self, report: &Report) {
        self.all.suspend(|| report.print());
    }

    fn end(&mut self, report: Option<&Report>, _code: u8) {
        self.settle();
        if let Some(report) = report {
            report.print();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_can_be_rendered() {
        for template in [SPINNING, BYTES, BYTES_SO_FAR, ITEMS] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
