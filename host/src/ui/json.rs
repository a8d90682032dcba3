//! JSON lines for programs: each event, then `{"event": "error", ...}` or `{"event": "done"}`.

use super::{Listener, Report, text};
use crate::event::Event;
use serde::Serialize;

/// The listener.
pub struct Json;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum End<'a> {
    Error(&'a Report),
    Done { exit_code: u8 },
}

impl Listener for Json {
    fn event(&mut self, event: &Event) {
        print(event);
    }

    fn report(&mut self, report: &Report) {
        print(&End::Error(report));
    }

    fn end(&mut self, report: Option<&Report>, code: u8) {
        print(&match report {
            Some(report) => End::Error(report),
            None => End::Done { exit_code: code },
        });
    }
}

fn print(message: &impl Serialize) {
    // The types hold strings and numbers only; nothing in them cannot be written as JSON.
    if let Ok(json) = serde_json::to_string(message) {
        text::line(&json);
    }
}
