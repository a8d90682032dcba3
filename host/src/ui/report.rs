//! The report of an error: class, stage, causes, the last lines of output, and what to do.

use super::text;
use crate::clean;
use crate::error::{Class, Error};
use crate::plan::PlanError;
use crate::recipe::Findings;
use console::style;
use serde::Serialize;
use std::fmt::Write;

/// An error as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Class of the failure.
    pub class: &'static str,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// The stage that was under way.
    pub stage: Option<String>,
    /// What failed.
    pub message: String,
    /// Why, outermost cause first.
    pub causes: Vec<String>,
    /// The last lines of output, a tool's standard error.
    pub details: Option<String>,
    /// What is wrong with the recipe.
    pub findings: Option<Findings>,
    /// What to do about it.
    pub advice: Option<String>,
    /// The file with all that the build has told.
    pub log: Option<String>,
}

impl Report {
    /// The report of `error`, which ended the stage named `stage`.
    pub fn of(error: &Error, stage: Option<&str>) -> Self {
        // What servers, images and guests say is in all of it.
        let mut chain = error.chain().map(|text| clean::lines(&text));
        let message = chain.next().unwrap_or_default();
        let class = error.get().class();
        let findings = findings(error).cloned();
        Self {
            class: class.name(),
            exit_code: class.exit_code(),
            stage: stage.filter(|_| class != Class::Interrupted).map(str::to_owned),
            message,
            causes: chain.collect(),
            details: error.get().details().filter(|_| findings.is_none()).map(|text| clean::lines(&text)),
            findings,
            advice: error.get().advice().map(|text| clean::lines(&text)),
            log: None,
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = if self.class == Class::Interrupted.name() {
            writeln!(out, "{}", self.message)
        } else {
            self.write(&mut out)
        };
        if let Some(log) = &self.log {
            let _ = writeln!(out, "{} {log}", style("whole log:").for_stderr().bold());
        }
        out
    }

    /// Print the report for people to standard error.
    pub fn print(&self) {
        text::line(self.text().trim_end());
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let head = style(format!("error ({}):", self.class)).for_stderr().red().bold();
        let mut lines = self.message.lines();
        writeln!(out, "{head} {}", lines.next().unwrap_or_default())?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
        if let Some(stage) = &self.stage
            && !self.message.contains(stage.as_str())
        {
            writeln!(out, "  in stage {stage}")?;
        }
        for cause in &self.causes {
            writeln!(out, "  because: {}", cause.replace('\n', "\n           "))?;
        }
        if let Some(findings) = &self.findings {
            writeln!(out, "\n{}", findings.render(console::colors_enabled_stderr()).trim_end())?;
        }
        if let Some(details) = self.details.as_deref().map(str::trim_end).filter(|details| !details.is_empty()) {
            let bar = style("|").for_stderr().dim();
            writeln!(out)?;
            for line in details.lines() {
                writeln!(out, "  {bar} {line}")?;
            }
        }
        if let Some(advice) = &self.advice {
            writeln!(out, "\n{} {advice}", style("what to do:").for_stderr().bold())?;
        }
        Ok(())
    }
}

/// The findings that an error consists of.
fn findings(error: &Error) -> Option<&Findings> {
    let error: &(dyn std::error::Error + 'static) = error.get();
    match error.downcast_ref::<PlanError>() {
        Some(PlanError::Recipe(findings)) => Some(findings),
        Some(_) => None,
        None => error.downcast_ref::<Findings>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Classify;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("apt-get failed (exit status: 100)")]
    struct Apt(#[source] std::io::Error);

    impl Classify for Apt {
        fn class(&self) -> Class {
            Class::Build
        }

        fn advice(&self) -> Option<String> {
            Some("check the name of the package".into())
        }

        fn details(&self) -> Option<String> {
            Some("E: Unable to locate package foo\x1b[0m".into())
        }
    }

    #[test]
    fn a_report_names_class_stage_causes_output_and_advice() {
        console::set_colors_enabled_stderr(false);
        let error = Error::from(Apt(std::io::Error::other("pipe broke")));
        let report = Report { log: Some("/cache/logs/a.log".into()), ..Report::of(&error, Some("2/5 apt")) };
        let text = report.text();
        assert_eq!(
            text,
            "error (build): apt-get failed (exit status: 100)\n  in stage 2/5 apt\n  because: pipe broke\n\n  \
             | E: Unable to locate package foo\n\nwhat to do: check the name of the package\n\
             whole log: /cache/logs/a.log\n"
        );
    }

    #[derive(Debug, Error)]
    #[error("{0}")]
    struct Hostile(&'static str, #[source] Option<Box<Hostile>>);

    impl Classify for Hostile {
        fn class(&self) -> Class {
            Class::Build
        }

        fn advice(&self) -> Option<String> {
            Some(self.0.into())
        }

        fn details(&self) -> Option<String> {
            Some(self.0.into())
        }
    }

    #[test]
    fn nothing_of_a_report_steers_the_terminal() {
        let text = "two\n\x1b]0;title\x07lines\x1b[2J";
        let error = Error::from(Hostile(text, Some(Box::new(Hostile(text, None)))));
        let report = Report::of(&error, None);
        let parts = [&report.message, &report.causes[0], &report.details.unwrap(), &report.advice.unwrap()];
        assert_eq!(parts, ["two\nlines"; 4]);
    }
}
