//! The text of a configuration as a tree in which every value knows where it stands.

use super::make;
use crate::recipe::document::{self, Entry, Kind, Node};
use crate::recipe::finding::{Finding, Findings, MAX_FINDINGS, Source};
use serde_json::{Map, Number, Value};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// What configurations are called in findings about a whole file.
const WHAT: &str = "the configuration";

/// A configuration that has been read.
pub struct Configuration {
    /// Its text.
    pub source: Source,
    /// The table that it is.
    pub root: Arc<Node>,
    /// What is wrong with it all the same.
    pub findings: Vec<Finding>,
}

/// Read the file at `path`: TOML or JSON, as its name says.
///
/// # Errors
/// When it is not there, or not in the language that its name promises.
pub fn read(path: &Path) -> Result<Configuration, Findings> {
    let source = |language| crate::recipe::read_text(path, WHAT, language);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => from_toml(source("TOML")?),
        Some("json") => from_json(source("JSON")?),
        _ => {
            let finding = Finding::of_file(path.display().to_string(), "nothing tells in which language this is");
            Err(finding.help("call it `config.toml` or `config.json`").into())
        }
    }
}

/// JSON is read as what it is first; the tree is made by the reader of recipes, because JSON is YAML too.
pub(super) fn from_json(source: Source) -> Result<Configuration, Findings> {
    if let Err(error) = serde_json::from_str::<Map<String, Value>>(source.text()) {
        let before: usize = source.text().split_inclusive('\n').take(error.line().max(1) - 1).map(str::len).sum();
        let at = (before + error.column().max(1) - 1).min(source.text().len());
        let said = error.to_string();
        // The place follows in brackets, which the finding has itself.
        let said = said.split(" at line ").next().unwrap_or_default();
        let wrong = match error.is_data() {
            true => "a configuration is an object, `{ ... }`".to_owned(),
            false => format!("this is not JSON: {said}"),
        };
        return Err(Finding::new(&source, at..at, wrong).into());
    }
    let source = Source::new(source.name(), without_surrogates(source.text()));
    let (root, findings) = document::read(&source)?;
    Ok(Configuration { source, root, findings })
}

/// JSON with the escapes of characters beyond U+FFFF as YAML has them: JSON writes two halves (RFC 8259, section 7), and
/// in YAML these are no characters.
fn without_surrogates(json: &str) -> String {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let pair = unit(escape).zip(escape.get(6..).and_then(unit));
        let pair = pair.and_then(|(high, low)| char::decode_utf16([high, low]).next()?.ok());
        match pair.filter(|character| u32::from(*character) > 0xffff) {
            Some(character) => {
                text.push_str(&format!("\\U{:08x}", u32::from(character)));
                rest = &escape[12..];
            }
            None => {
                // The backslash and what it is before, which may be another one.
                let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
                text.push_str(&escape[..end]);
                rest = &escape[end..];
            }
        }
    }
    text + rest
}

pub(super) fn from_toml(source: Source) -> Result<Configuration, Findings> {
    let text = source.text().to_owned();
    let (table, errors) = DeTable::parse_recoverable(&text);
    let wrong = errors.iter().take(MAX_FINDINGS).map(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        Finding::new(&source, error.span().unwrap_or_default(), format!("this is not TOML: {message}"))
    });
    if let Some(findings) = Findings::new(wrong.collect()) {
        return Err(findings);
    }
    let mut tree = Tree { source: &source, findings: Vec::new() };
    let root = tree.table(table.span(), table.get_ref());
    let findings = tree.findings;
    Ok(Configuration { root, findings, source })
}

struct Tree<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Tree<'_> {
    fn table(&mut self, span: Range<usize>, table: &DeTable<'_>) -> Arc<Node> {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<toml::de::DeString<'_>> = key;
            Entry { key: key.get_ref().to_string(), key_span: key.span(), node: self.value(value) }
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        // A table in a list has no key of its own to point at; its first one will do.
        let span = match entries.first() {
            Some(first) => first.key_span.start..first.node.span.end.max(first.key_span.end),
            None => span,
        };
        make::mapping(entries, &self.first_line(span))
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Arc<Node> {
        let span = self.first_line(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(number) => match integer(number) {
                Some(number) => Value::Number(number),
                None => self.wrong(&span, format!("`{number}` is more than a number can be")),
            },
            DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => self.wrong(&span, format!("`{number}` is no number of anything")),
            },
            DeValue::Datetime(date) => self.wrong(&span, format!("`{date}` is a date, and nothing here is one")),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| self.value(item)).collect();
                return make::list(items, &span);
            }
            DeValue::Table(table) => return self.table(value.span(), table),
        };
        Arc::new(Node::new(span, Kind::Scalar { value, plain: false }))
    }

    /// What cannot be a value is told, and stands for none.
    fn wrong(&mut self, span: &Range<usize>, message: String) -> Value {
        if self.findings.len() < MAX_FINDINGS {
            let help = "text goes into quotes";
            self.findings.push(Finding::new(self.source, span.clone(), message).help(help));
        }
        Value::Null
    }

    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let line = self.source.text().get(span.clone()).and_then(|text| text.lines().next()).unwrap_or_default();
        span.start..span.start + line.trim_end().len()
    }
}

fn integer(number: &DeInteger<'_>) -> Option<Number> {
    let (text, radix) = (number.as_str(), number.radix());
    u64::from_str_radix(text, radix)
        .map(Number::from)
        .or_else(|_| i64::from_str_radix(text, radix).map(Number::from))
        .ok()
}
