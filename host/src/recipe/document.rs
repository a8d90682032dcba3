//! YAML text as a tree in which every value knows where it stands.
//!
//! One parser gives both the values and their places, so that they cannot disagree. What hostile text could make
//! large (the text itself, its depth, what its aliases unfold to) is capped before anything is made of it.

use super::finding::{Finding, Findings, MAX_FINDINGS, Source};
use super::path::{Path, Step};
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Largest recipe in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// Most weight of a document with what its aliases stand for. A value weighs [`VALUE_WEIGHT`] and its text's bytes.
pub(super) const MAX_WEIGHT: usize = 16 << 20;

/// About what a value takes in memory beside its text.
const VALUE_WEIGHT: usize = 64;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// The bytes of the text that a finding about it points at: a scalar, the key of a mapping or a list, or the
    /// first line of one without a key.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
    // With everything in it, aliases unfolded.
    pub(super) weight: usize,
}

/// What a [`Node`] is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Text, number, truth value or null.
    Scalar {
        /// The value.
        value: Value,
        /// Whether it was written without quotes and not as a block.
        plain: bool,
    },
    /// A list.
    List(Vec<Arc<Node>>),
    /// A mapping.
    Mapping(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its place.
    pub key_span: Range<usize>,
    /// Its value.
    pub node: Arc<Node>,
}

impl Node {
    /// A value that stands at `span`.
    pub fn new(span: Range<usize>, kind: Kind) -> Self {
        let within: usize = match &kind {
            Kind::List(items) => items.iter().map(|item| item.weight).sum(),
            Kind::Mapping(entries) => entries.iter().map(|entry| entry.node.weight + entry.key.len()).sum(),
            Kind::Scalar { value, .. } => value.as_str().map_or(0, str::len),
        };
        Self { span, kind, weight: within + VALUE_WEIGHT }
    }

    /// The value of `key`, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Arc<Node>> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The items, when this is a list.
    pub fn items(&self) -> &[Arc<Node>] {
        if let Kind::List(items) = &self.kind { items } else { &[] }
    }

    /// The entries, when this is a mapping.
    pub fn entries(&self) -> &[Entry] {
        if let Kind::Mapping(entries) = &self.kind { entries } else { &[] }
    }

    /// The text, when this is one.
    pub fn text(&self) -> Option<&str> {
        if let Kind::Scalar { value: Value::String(text), .. } = &self.kind { Some(text) } else { None }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar { value: Value::Null, .. })
    }

    /// Where the key that `path` ends in stands.
    pub fn locate_key(&self, path: &Path) -> Range<usize> {
        let key = path.split_last().and_then(|(above, step)| match step {
            Step::Key(key) => self.at(&above)?.entries().iter().find(|entry| entry.key == *key),
            Step::Index(_) => None,
        });
        key.map_or_else(|| self.locate(path), |entry| entry.key_span.clone())
    }

    /// The value at `path`.
    pub fn at(&self, path: &Path) -> Option<&Node> {
        path.steps().iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.get(key).map(Arc::as_ref),
            Step::Index(index) => node.items().get(*index).map(Arc::as_ref),
        })
    }

    /// Where the value at `path` stands; where there is none, the nearest value around it.
    pub fn locate(&self, path: &Path) -> Range<usize> {
        let (mut node, mut span) = (self, self.span.clone());
        for step in path.steps() {
            let next = match step {
                Step::Key(key) => {
                    node.entries().iter().find(|entry| entry.key == *key).map(|entry| (&entry.node, &entry.key_span))
                }
                Step::Index(index) => node.items().get(*index).map(|item| (item, &item.span)),
            };
            let Some((found, mark)) = next else { break };
            node = found;
            span = if matches!(node.kind, Kind::Scalar { .. }) && !node.span.is_empty() {
                node.span.clone()
            } else {
                mark.clone()
            };
        }
        span
    }
}

/// The one document that `source` holds. Duplicate keys do not keep it from being read further; they are given back
/// beside it.
///
/// # Errors
/// What makes the text unreadable: it is not YAML, empty, more than one document, too deep, or too large when unfolded.
pub fn read(source: &Source) -> Result<(Arc<Node>, Vec<Finding>), Findings> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(source.text()) {
        let (event, span) = event.map_err(|error| {
            let at = builder.characters.byte(error.marker().index());
            // The parser stands behind a tab that it does not like.
            let at = at - usize::from(source.text().get(..at).is_some_and(|before| before.ends_with('\t')));
            Finding::new(source, at..at, format!("this is not YAML: {}", error.info()))
        })?;
        let start = builder.characters.byte(span.start.index());
        let end = builder.characters.byte(span.end.index()).max(start);
        builder.event(event, start..end)?;
    }
    builder.finish()
}

struct Builder<'a> {
    source: &'a Source,
    characters: Characters<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    findings: Vec<Finding>,
}

// A list or mapping whose end has not come yet.
struct Open {
    span: Range<usize>,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Mapping { entries: Vec<Entry>, first: HashMap<String, usize>, key: Option<(String, Range<usize>)> },
}

impl<'a> Builder<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            characters: Characters::new(source.text()),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            findings: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Findings> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let finding = self.finding(span, "a second document begins here");
                return Err(finding.help("a recipe is one YAML document; put this one into a file of its own").into());
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let value = self.scalar(&text, plain, tag.as_deref(), &span)?;
                let span = self.first_line(span);
                self.place(
                    Node { span, kind: Kind::Scalar { value, plain }, weight: VALUE_WEIGHT + text.len() },
                    anchor,
                )?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &span)?;
                self.begin(span, anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &span)?;
                self.begin(span, anchor, Content::Mapping { entries: Vec::new(), first: HashMap::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| self.finding(span.clone(), "an alias stands inside of its own anchor"))?;
                let unfolded = Node { span, kind: node.kind.clone(), weight: node.weight };
                self.place(unfolded, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, span: Range<usize>, anchor: usize, content: Content) -> Result<(), Findings> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.finding(span, format!("this is nested more than {MAX_DEPTH} levels deep")).into());
        }
        let span = self.first_line(span);
        self.open.push(Open { span, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Findings> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (mut span, anchor) = (open.span, open.anchor);
        let kind = match open.content {
            Content::List(items) => Kind::List(items),
            Content::Mapping { entries, .. } => {
                // A mapping in a list has no key of its own to point at; its first entry will do.
                if let Some(first) = entries.first() {
                    span = self.first_line(first.key_span.start..first.node.span.end.max(first.key_span.end));
                }
                Kind::Mapping(entries)
            }
        };
        self.place(Node::new(span, kind), anchor)
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Findings> {
        if node.weight > MAX_WEIGHT {
            let message = format!("with its aliases unfolded this takes more than {} MiB", MAX_WEIGHT >> 20);
            let finding = self.finding(node.span, message);
            return Err(finding.help("write out what the aliases (`*name`) stand for, or use fewer of them").into());
        }
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Mapping { entries, first, key }) => match key.take() {
                Some((key, key_span)) => match first.get(&key) {
                    Some(_) if self.findings.len() >= MAX_FINDINGS => {}
                    Some(first) => {
                        let line = self.source.position(*first).0;
                        let finding = self.finding(key_span, format!("the key `{key}` is given a second time"));
                        self.findings.push(finding.help(format!("it stands in line {line} already; keep one of them")));
                    }
                    None => {
                        first.insert(key.clone(), key_span.start);
                        entries.push(Entry { key, key_span, node });
                    }
                },
                None => match &node.kind {
                    Kind::Scalar { value, .. } => {
                        let text = match value {
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        };
                        *key = Some((text, node.span.clone()));
                    }
                    _ => return Err(self.finding(node.span.clone(), "a list or a mapping cannot be a key").into()),
                },
            },
        }
        Ok(())
    }

    fn scalar(&self, text: &str, plain: bool, tag: Option<&Tag>, span: &Range<usize>) -> Result<Value, Findings> {
        match tag {
            None if plain => Ok(plain_scalar(text)),
            None => Ok(Value::String(text.to_owned())),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Value::String(text.to_owned())),
            Some(_) => self.refuse_tag(tag, span).map(|()| Value::Null),
        }
    }

    fn refuse_tag(&self, tag: Option<&Tag>, span: &Range<usize>) -> Result<(), Findings> {
        match tag {
            Some(tag) => {
                let finding = self.finding(span.clone(), format!("the YAML tag `{tag}` means nothing in a recipe"));
                Err(finding.help("remove it; text that looks like a number goes into quotes").into())
            }
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<(Arc<Node>, Vec<Finding>), Findings> {
        match self.root {
            Some(root) if !root.is_null() => Ok((root, self.findings)),
            _ => Err(Finding::new(self.source, 0..0, "the recipe is empty").into()),
        }
    }

    fn finding(&self, span: Range<usize>, message: impl Into<Cow<'static, str>>) -> Finding {
        Finding::new(self.source, self.first_line(span), message)
    }

    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let text = self.source.text().get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().trim_end();
        span.start..span.start + line.len()
    }
}

/// YAML 1.2 core schema, section 10.3.2. Numbers with leading zeros stay text, so that a file mode needs no quotes.
pub fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || padded {
        return Value::String(text.to_owned());
    }
    let number = text.trim_start_matches('+');
    let whole = number.parse::<u64>().map(Number::from).or_else(|_| number.parse::<i64>().map(Number::from));
    let number = whole.ok().or_else(|| {
        let fraction = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
        fraction.then(|| number.parse().ok().and_then(Number::from_f64)).flatten()
    });
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Finds the byte of a character that the parser counts.
struct Characters<'a> {
    text: &'a str,
    // Byte of every [`STRIDE`]th character, so that a long text is not walked through for every value.
    marks: Vec<usize>,
}

const STRIDE: usize = 64;

impl<'a> Characters<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, marks: text.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect() }
    }

    fn byte(&self, character: usize) -> usize {
        let Some(mark) = self.marks.get(character / STRIDE) else { return self.text.len() };
        let rest = self.text.get(*mark..).unwrap_or_default();
        mark + rest.char_indices().nth(character % STRIDE).map_or(rest.len(), |(offset, _)| offset)
    }
}
