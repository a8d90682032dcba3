//! What is wrong with a recipe, and where.

use crate::error::{Class, Classify};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Most findings that are reported: enough to go on with, and an end for text that was made to be wrong.
pub const MAX_FINDINGS: usize = 100;

/// Most characters of a message, and of what is shown of a line before and behind its mark.
const MAX_TEXT: usize = 400;

/// The text of a recipe and the name that findings call it by.
#[derive(Debug, Clone, Default)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    // The same bytes with line feeds only: what lines are counted in, and what is shown.
    lines: Arc<str>,
    next: Option<Arc<Source>>,
}

impl Source {
    /// `text`, which was read from `name`.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Self { name: name.into(), lines: with_line_feeds(&text), text, next: None }
    }

    /// The same, and behind it what a recipe has from elsewhere: bytes from [`Self::end`] on are those of `next`.
    #[must_use]
    pub fn followed_by(self, next: Self) -> Self {
        Self { next: Some(Arc::new(next)), ..self }
    }

    /// The texts that it consists of.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |part| part.next.as_deref())
    }

    /// The number of the first byte that is not of this text.
    pub fn end(&self) -> usize {
        self.text.len() + 1
    }

    /// The text that the bytes `span` are in, and where they are in it.
    fn part(&self, span: Range<usize>) -> (&Self, Range<usize>) {
        match (&self.next, span.start.checked_sub(self.end())) {
            (Some(next), Some(start)) => next.part(start..span.end.saturating_sub(self.end())),
            _ => (self, span),
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What findings call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of the character that the byte is in.
    fn boundary(&self, byte: usize) -> usize {
        (byte..self.text.len()).find(|byte| self.text.is_char_boundary(*byte)).unwrap_or(self.text.len())
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let (part, at) = self.part(byte..byte);
        let before = part.lines.get(..at.start).unwrap_or(&part.lines);
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
    }
}

/// To YAML a carriage return ends a line too (YAML 1.2, 5.4). One before a line feed is part of that end.
fn with_line_feeds(text: &Arc<str>) -> Arc<str> {
    if !text.contains('\r') {
        return Arc::clone(text);
    }
    let mut following = text.chars().skip(1);
    let lines = text.chars().map(|c| match (c, following.next()) {
        ('\r', Some('\n')) => ' ',
        ('\r', _) => '\n',
        _ => c,
    });
    lines.collect::<String>().into()
}

/// One thing that is wrong with a recipe.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What is wrong, in one sentence without a full stop.
    pub message: Cow<'static, str>,
    /// The recipe's file.
    pub file: String,
    /// Its line, from 1; 0 when the finding is about the file as a whole.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What to do about it.
    pub help: Option<String>,
    #[serde(skip)]
    span: Option<Range<usize>>,
    #[serde(skip)]
    source: Source,
}

impl Finding {
    /// A finding about the bytes `span` of `source`.
    pub fn new(source: &Source, span: Range<usize>, message: impl Into<Cow<'static, str>>) -> Self {
        let (source, span) = source.part(span);
        let (line, column) = source.position(span.start);
        let end = span.end.min(source.boundary(span.start + MAX_TEXT)).max(span.start);
        let (file, source, span) = (source.name.to_string(), source.clone(), span.start..end);
        Self { message: printable(message.into()), file, line, column, help: None, span: Some(span), source }
    }

    /// A finding about a file as a whole.
    pub fn of_file(name: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        let file = name.into();
        Self {
            message: printable(message.into()),
            file,
            line: 0,
            column: 0,
            help: None,
            span: None,
            source: Source::default(),
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(help.into().into()).into_owned());
        self
    }

    /// Line and column.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

/// Values of the recipe stand in messages: what could steer a terminal is spelled out, and what is long is cut.
fn printable(text: Cow<'static, str>) -> Cow<'static, str> {
    let control = |c: char| c.is_control();
    if text.len() <= MAX_TEXT && !text.contains(control) {
        return text;
    }
    let mut plain = String::new();
    for c in text.chars().take(MAX_TEXT) {
        if control(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    if text.chars().nth(MAX_TEXT).is_some() {
        plain.push_str("...");
    }
    plain.into()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Some(_) => write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Finding {}

/// Everything that is wrong with a recipe, in the order of its lines. Never empty.
#[derive(Debug, Clone, Error, Serialize)]
#[error("{}", self.summary())]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// The findings, when there are any.
    pub(crate) fn new(mut findings: Vec<Finding>) -> Option<Self> {
        let place = |finding: &Finding| (finding.file.clone(), finding.place());
        findings.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message)));
        findings.dedup_by(|a, b| place(a) == place(b) && a.message == b.message);
        findings.truncate(MAX_FINDINGS);
        (!findings.is_empty()).then_some(Self(findings))
    }

    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    /// The report for people: each finding with its source line. `fancy` for a terminal that knows colours and Unicode.
    pub fn render(&self, fancy: bool) -> String {
        let theme = if fancy { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_links(false).with_width(100);
        let mut report = String::new();
        for finding in &self.0 {
            if !report.is_empty() {
                report.push('\n');
            }
            // Writing to a string does not fail; a span outside of the text would, and then the line below remains.
            let length = report.len();
            if handler
                .render_report(&mut report, &Shown(finding, NamedSource::new(&finding.file, finding.source.clone())))
                .is_err()
            {
                report.truncate(length);
                report.push_str(&format!("{finding}\n"));
            }
        }
        report
    }

    fn summary(&self) -> String {
        let mut files: Vec<_> = self.0.iter().map(|finding| finding.file.as_str()).collect();
        files.dedup();
        let file = files.join(" and ");
        let have = if files.len() > 1 { "have" } else { "has" };
        match self.0.len() {
            1 => format!("{file} {have} a problem"),
            MAX_FINDINGS => format!("{file} {have} {MAX_FINDINGS} problems or more"),
            count => format!("{file} {have} {count} problems"),
        }
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

impl Classify for Findings {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn details(&self) -> Option<String> {
        Some(self.render(false).trim_end().to_owned())
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        // The handler asks without context for the mark's own line and column.
        if (before, after) == (0, 0) {
            return self.lines.read_span(span, 0, 0);
        }
        // The line of the mark and no other; of a very long one what is around the mark, because the handler pads with
        // format widths, which end at 65535.
        let (start, end) = (span.offset(), span.offset() + span.len());
        let before_mark = self.lines.get(..start).unwrap_or_default();
        let line = before_mark.rfind('\n').map_or(0, |newline| newline + 1);
        let from = line.max(self.boundary(start.saturating_sub(MAX_TEXT)));
        let rest = self.lines.get(end..).unwrap_or_default();
        let to = rest.find('\n').map_or(self.lines.len(), |length| end + length).min(self.boundary(end + MAX_TEXT));
        self.lines.read_span(&(from..to).into(), 0, 0)
    }
}

/// A finding as miette takes it.
#[derive(Debug)]
struct Shown<'a>(&'a Finding, NamedSource<Source>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.span {
            Some(_) => f.write_str(&self.0.message),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.span.as_ref().map(|_| &self.1 as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.0.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, span))))
    }
}
