//! JSON lines for programs: each event, errors that do not end the verb as `{"event": "problem", ...}`, and at the end
//! `{"event": "done", ...}` or, when the verb failed, `{"event": "error", ...}`.

use super::{Listener, Report, text};
use crate::event::Event;
use serde::Serialize;

/// The listener.
#[derive(Default)]
pub struct Json {
    // The error after which the verb went on; when it ends in the same failure, this is why.
    problem: Option<Report>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Problem(&'a Report),
    Error(&'a Report),
    Done { exit_code: u8 },
}

impl Listener for Json {
    fn event(&mut self, event: &Event) {
        print(event);
    }

    fn report(&mut self, report: &Report) {
        print(&Line::Problem(report));
        self.problem = Some(report.clone());
    }

    fn end(&mut self, report: Option<&Report>, code: u8) {
        print(&last(report.or(self.problem.as_ref()), code));
    }
}

/// The last line.
fn last(report: Option<&Report>, code: u8) -> Line<'_> {
    match report {
        Some(report) if code != 0 => Line::Error(report),
        _ => Line::Done { exit_code: code },
    }
}

fn print(message: &impl Serialize) {
    // The types hold strings and numbers only; nothing in them cannot be written as JSON.
    if let Ok(json) = serde_json::to_string(message) {
        text::line(&json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Finding, Findings};
    use serde_json::{Value, json};

    fn report() -> Report {
        Report::of(&Findings::from(Finding::of_file("r.yml", "it is empty")).into(), None)
    }

    #[test]
    fn the_last_line_goes_by_the_exit_code() {
        let report = report();
        let line = |report, code| serde_json::to_value(last(report, code)).unwrap();
        assert_eq!(line(Some(&report), 2)["event"], "error");
        assert_eq!(line(None, 0), json!({ "event": "done", "exit_code": 0 }));
        let problem = serde_json::to_value(Line::Problem(&report)).unwrap();
        assert_eq!((&problem["event"], &problem["findings"][0]["message"]), (&json!("problem"), &json!("it is empty")));
    }

    #[test]
    fn an_error_has_all_its_keys() {
        let error = serde_json::to_value(Line::Error(&Report::of(&crate::plan::PlanError::NoMirror.into(), None)));
        let error: Value = error.unwrap();
        for key in ["class", "exit_code", "stage", "message", "causes", "details", "findings", "advice"] {
            assert!(error.get(key).is_some(), "{key}");
        }
    }
}
