//! Whether a document has the shape of a recipe: keys, types and names, after the JSON Schema.
//!
//! Reading into the types would stop at the first mistake and not know its place. This walks the document beside the
//! schema that is made of the same types, and tells them all. What it gives back has the shape: aliases of stages are
//! names, keys without a value are left out, and a stand-in is where something could not be read, so that the values
//! around it can be checked too.

mod help;
mod words;

use super::alias;
use super::document::{Entry, Kind, Node};
use super::finding::{Finding, MAX_FINDINGS, Source};
use super::near::nearest;
use super::path::Path;
use super::schema::{resolve, schema, stage_types};
use super::size::{Size, Timeout};
use super::unread::Unread;
use serde_json::{Map, Value, json};
use std::ops::Range;
use words::{accepts, expected, keys, names, nearest_stage, required_beside, stage_names, stand_in};
pub(super) use words::{kind, listed};

/// The keys of every stage.
const STAGE: [&str; 5] = ["type", "options", "name", "timeout", "cache"];

/// A document that has been compared with the schema.
pub struct Shaped {
    /// What does not fit.
    pub findings: Vec<Finding>,
    /// The document with stand-ins for it.
    pub value: Value,
    /// Where those are.
    pub unread: Unread,
}

/// Compares `root` with the schema of recipes.
pub fn check(source: &Source, root: &Node) -> Shaped {
    let mut shape = Shape { source, findings: Vec::new(), unread: Unread::default() };
    let place = Place { node: root, mark: root.span.clone(), path: Path::root() };
    let value = shape.value("the recipe", schema().as_value(), &place).unwrap_or_else(|| {
        shape.unread.value(place.path);
        Value::Null
    });
    Shaped { findings: shape.findings, value, unread: shape.unread }
}

struct Shape<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
    unread: Unread,
}

/// A value of the document.
struct Place<'n> {
    node: &'n Node,
    /// What findings point at: the key for a list or a mapping.
    mark: Range<usize>,
    path: Path,
}

impl<'n> Place<'n> {
    fn of_entry(&self, entry: &'n Entry) -> Self {
        let scalar = matches!(entry.node.kind, Kind::Scalar { .. }) && !entry.node.span.is_empty();
        let mark = if scalar { entry.node.span.clone() } else { entry.key_span.clone() };
        Self { node: &entry.node, mark, path: self.path.key(&entry.key) }
    }
}

impl Shape<'_> {
    /// The value as `schema` has it; none when it does not fit. `what` is how findings call it.
    fn value(&mut self, what: &str, schema: &'static Value, place: &Place<'_>) -> Option<Value> {
        if self.findings.len() >= MAX_FINDINGS {
            return None;
        }
        let schema = resolve(schema);
        if let Some(either) = schema["anyOf"].as_array() {
            // A value that may be left out: the type or null.
            return match either.iter().find(|one| one["type"] != "null").filter(|_| !place.node.is_null()) {
                Some(some) => self.value(what, some, place),
                None => Some(Value::Null),
            };
        }
        if schema["properties"]["stages"].is_object() || schema["oneOf"][0]["properties"].is_null() {
            self.plain_value(what, schema, place)
        } else {
            self.stage(schema, place)
        }
    }

    fn plain_value(&mut self, what: &str, schema: &'static Value, place: &Place<'_>) -> Option<Value> {
        let names = names(schema);
        if !names.is_empty() {
            return self.name(what, &names, place);
        }
        if !accepts(schema, place.node) {
            self.wrong_type(what, schema, place);
            return None;
        }
        match &place.node.kind {
            Kind::Scalar { value, .. } => self.format(schema, value, &place.mark),
            Kind::List(items) => {
                let items = items.iter().enumerate().map(|(index, item)| {
                    let place = Place { node: item, mark: item.span.clone(), path: place.path.index(index) };
                    let value = self.value(&format!("an item of {what}"), &schema["items"], &place);
                    value.unwrap_or_else(|| {
                        self.unread.value(place.path);
                        stand_in(&schema["items"])
                    })
                });
                Some(items.collect())
            }
            Kind::Mapping(entries) => {
                let value = self.mapping(what, schema, entries, place);
                self.required(what, schema, entries, &place.mark);
                Some(value)
            }
        }
    }

    fn mapping(&mut self, what: &str, schema: &'static Value, entries: &[Entry], place: &Place<'_>) -> Value {
        let properties = schema["properties"].as_object();
        let mut read = Map::new();
        for entry in entries {
            let known = properties.and_then(|properties| properties.get(&entry.key));
            match known.or_else(|| Some(&schema["additionalProperties"]).filter(|rest| rest.is_object())) {
                Some(schema) => {
                    let place = place.of_entry(entry);
                    match self.value(&format!("`{}`", entry.key), schema, &place) {
                        // A key without a value is as if it were left out.
                        Some(Value::Null) => {}
                        Some(value) => drop(read.insert(entry.key.clone(), value)),
                        None => self.unread.value(place.path),
                    }
                }
                None if self.findings.len() >= MAX_FINDINGS => break,
                None => {
                    self.unread.unknown_key(&place.path);
                    self.unknown_key(what, &entry.key, &keys(schema), &entry.key_span);
                }
            }
        }
        for key in required_beside(schema, entries) {
            if !read.contains_key(key) {
                self.unread.value(place.path.key(key));
                read.insert(key.to_owned(), stand_in(&schema["properties"][key]));
            }
        }
        Value::Object(read)
    }

    /// The keys that are neither among `entries` nor meant by one of them, which has a finding of its own then.
    fn required(&mut self, what: &str, schema: &'static Value, entries: &[Entry], mark: &Range<usize>) {
        let known = keys(schema);
        let meant =
            |entry: &Entry| if known.contains(&entry.key.as_str()) { None } else { nearest(&entry.key, &known) };
        for key in required_beside(schema, entries) {
            if !entries.iter().any(|entry| entry.key == key || meant(entry) == Some(key)) {
                let description = schema["properties"][key]["description"].as_str().unwrap_or_default();
                let finding = Finding::new(self.source, mark.clone(), format!("{what} lacks the key `{key}`"));
                self.findings.push(match description.split_inclusive(". ").next() {
                    Some(first) if !first.is_empty() => finding.help(format!("`{key}`: {}", first.trim_end())),
                    _ => finding,
                });
            }
        }
    }

    fn stage(&mut self, schema: &'static Value, place: &Place<'_>) -> Option<Value> {
        let Kind::Mapping(entries) = &place.node.kind else {
            let message = format!("a stage is a mapping with `type` and `options`, and not {}", kind(place.node));
            self.found(&place.mark, message);
            return None;
        };
        let written = entries.iter().find(|entry| entry.key == "type");
        let name = written.and_then(|entry| entry.node.text()).map(alias::canonical);
        let known = stage_types().find(|stage| Some(stage.name) == name);
        self.stage_type(written, known.is_some(), place);
        let what = known.as_ref().map_or("a stage".to_owned(), |stage| format!("the stage `{}`", stage.name));
        let mut read = Map::new();
        read.insert("type".into(), json!(name));
        for entry in entries {
            let stage = &place.path;
            let place = place.of_entry(entry);
            let schema = match (entry.key.as_str(), &known) {
                ("type", _) => continue,
                ("options", Some(_)) if !entry.node.is_null() => {
                    let mark = entry.key_span.clone();
                    let place = Place { mark, ..place };
                    let options = known.as_ref().map(|stage| stage.options);
                    let value = options.and_then(|options| self.value(&what, options, &place));
                    match value {
                        Some(value) => drop(read.insert("options".into(), value)),
                        None => self.unread.value(place.path),
                    }
                    continue;
                }
                ("options", _) => continue,
                (key, _) => &schema["properties"][key],
            };
            if schema.is_null() {
                self.unread.unknown_key(stage);
                self.unread.unknown_key(&stage.key("options"));
                self.misplaced(&what, &entry.key, known.as_ref().map(|stage| stage.options), &entry.key_span);
                continue;
            }
            match self.value(&format!("`{}`", entry.key), schema, &place) {
                Some(Value::Null) => {}
                Some(value) => drop(read.insert(entry.key.clone(), value)),
                None => self.unread.value(place.path),
            }
        }
        if let Some(stage) = known {
            let options = entries.iter().find(|entry| entry.key == "options");
            if options.is_none_or(|entry| entry.node.is_null()) {
                let mark = options.map_or(&place.mark, |entry| &entry.key_span).clone();
                let place = Place { node: place.node, mark, path: place.path.key("options") };
                read.insert("options".into(), self.mapping(&what, stage.options, &[], &place));
                // Those beside the place of the options, or beneath a misspelt one, have findings of their own.
                let misspelt = |entry: &Entry| entry.key != "options" && nearest(&entry.key, &STAGE) == Some("options");
                if !entries.iter().any(misspelt) {
                    self.required(&what, stage.options, entries, &place.mark);
                }
            } else if !read.contains_key("options") {
                read.insert("options".into(), stand_in(stage.options));
            }
        }
        Some(Value::Object(read))
    }

    /// What is wrong with the `type` of a stage.
    fn stage_type(&mut self, written: Option<&Entry>, known: bool, place: &Place<'_>) {
        let types = || format!("types: {}", listed(&stage_names()));
        match written {
            _ if known => {}
            None => {
                let finding = Finding::new(self.source, place.mark.clone(), "a stage lacks the key `type`");
                self.findings.push(finding.help(types()));
            }
            Some(entry) => match entry.node.text() {
                Some(text) => {
                    let help = nearest_stage(text).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                    let message = format!("there is no stage type `{text}`");
                    let finding = Finding::new(self.source, entry.node.span.clone(), message);
                    self.findings.push(finding.help(help + &types()));
                }
                None => {
                    let message = format!("`type` is the name of a stage, and not {}", kind(&entry.node));
                    self.found(&entry.key_span, message);
                }
            },
        }
        if !known {
            self.unread.value(place.path.key("type"));
        }
    }

    /// A key of a stage beside `type` and `options`; often an option that is not indented enough.
    fn misplaced(&mut self, what: &str, key: &str, options: Option<&Value>, mark: &Range<usize>) {
        if options.is_some_and(|options| options["properties"].get(key).is_some()) {
            let finding = Finding::new(self.source, mark.clone(), format!("{what} has `{key}` outside of its options"));
            self.findings
                .push(finding.help(format!("write `options: {{ {key}: ... }}`, or indent it beneath `options:`")));
        } else {
            self.unknown_key(what, key, &STAGE, mark);
        }
    }

    fn unknown_key(&mut self, what: &str, key: &str, known: &[&str], mark: &Range<usize>) {
        let near = nearest(key, known).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let finding = Finding::new(self.source, mark.clone(), format!("{what} has no key `{key}`"));
        self.findings.push(finding.help(format!("{near}keys: {}", listed(known))));
    }

    fn name(&mut self, what: &str, names: &[&str], place: &Place<'_>) -> Option<Value> {
        let (message, help) = match place.node.text() {
            Some(text) if names.contains(&text) => return Some(json!(text)),
            Some(text) => {
                let near = nearest(text, names).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                (format!("{what} cannot be `{text}`"), near)
            }
            None => (format!("{what} is a name, and not {}", kind(place.node)), String::new()),
        };
        let finding = Finding::new(self.source, place.mark.clone(), message);
        self.findings.push(finding.help(format!("{help}possible: {}", listed(names))));
        None
    }

    fn wrong_type(&mut self, what: &str, schema: &'static Value, place: &Place<'_>) {
        let message = format!("{what} is {}, and not {}", expected(schema), kind(place.node));
        let finding = Finding::new(self.source, place.mark.clone(), message);
        let text = self.source.text().get(place.node.span.clone()).unwrap_or_default();
        self.findings.push(match help::wrong_type(schema, &place.node.kind, text) {
            Some(help) => finding.help(help),
            None => finding,
        });
    }

    fn format(&mut self, schema: &Value, value: &Value, mark: &Range<usize>) -> Option<Value> {
        let text = value.as_str();
        let wrong = match schema["format"].as_str() {
            Some("size") => text.and_then(|text| text.parse::<Size>().err()),
            Some("timeout") => text.and_then(|text| text.parse::<Timeout>().err()),
            Some("uint32") if value.as_u64().is_some_and(|number| u32::try_from(number).is_err()) => {
                Some(format!("{value} is more than the {} that are possible", u32::MAX))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.found(mark, wrong);
        } else if let Some(possible) = schema["enum"].as_array().filter(|possible| !possible.contains(value)) {
            let names: Vec<_> = possible.iter().filter(|one| !one.is_null()).map(ToString::to_string).collect();
            self.found(mark, format!("{value} is not possible here: it is {}", names.join(" or ")));
        } else {
            return Some(value.clone());
        }
        None
    }

    fn found(&mut self, mark: &Range<usize>, message: String) {
        self.findings.push(Finding::new(self.source, mark.clone(), message));
    }
}
