//! Whether a document has the shape of a recipe: keys, types and names, after the JSON Schema.
//!
//! Reading into the types would stop at the first mistake and not know its place. This walks the document beside the
//! schema that is made of the same types, and tells them all.

use super::alias;
use super::document::{Entry, Kind, Node};
use super::finding::{Finding, MAX_FINDINGS, Source};
use super::schema::{resolve, schema, stage_types};
use super::size::{Size, Timeout};
use serde_json::Value;
use std::ops::Range;

/// Compares `root` with the schema of recipes.
pub fn check(source: &Source, root: &Node) -> Vec<Finding> {
    let mut shape = Shape { source, findings: Vec::new() };
    shape.value("the recipe", schema().as_value(), root, &root.span);
    shape.findings
}

struct Shape<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Shape<'_> {
    /// `what` is how findings call the value; `mark` is where it stands, the key for a list or a mapping.
    fn value(&mut self, what: &str, schema: &'static Value, node: &Node, mark: &Range<usize>) {
        if self.findings.len() >= MAX_FINDINGS {
            return;
        }
        let schema = resolve(schema);
        if let Some(either) = schema["anyOf"].as_array() {
            // What schemars makes of an `Option`: the type or null.
            if let Some(some) = either.iter().find(|one| one["type"] != "null").filter(|_| !node.is_null()) {
                self.value(what, some, node, mark);
            }
            return;
        }
        if schema["properties"]["stages"].is_object() || schema["oneOf"][0]["properties"].is_null() {
            self.plain_value(what, schema, node, mark);
        } else {
            self.stage(schema, node, mark);
        }
    }

    fn plain_value(&mut self, what: &str, schema: &'static Value, node: &Node, mark: &Range<usize>) {
        let names = names(schema);
        if !names.is_empty() {
            return self.name(what, &names, node, mark);
        }
        if !accepts(schema, node) {
            return self.wrong_type(what, schema, node, mark);
        }
        match &node.kind {
            Kind::Scalar { value, .. } => self.format(schema, value, mark),
            Kind::List(items) => {
                for item in items {
                    self.value(&format!("an item of {what}"), &schema["items"], item, &item.span);
                }
            }
            Kind::Mapping(entries) => self.mapping(what, schema, entries, mark),
        }
    }

    fn mapping(&mut self, what: &str, schema: &'static Value, entries: &[Entry], mark: &Range<usize>) {
        let properties = schema["properties"].as_object();
        for entry in entries {
            let known = properties.and_then(|properties| properties.get(&entry.key));
            let mark = if matches!(entry.node.kind, Kind::Scalar { .. }) && !entry.node.span.is_empty() {
                &entry.node.span
            } else {
                &entry.key_span
            };
            match known.or_else(|| Some(&schema["additionalProperties"]).filter(|rest| rest.is_object())) {
                Some(schema) => self.value(&format!("`{}`", entry.key), schema, &entry.node, mark),
                None if self.findings.len() >= MAX_FINDINGS => return,
                None => self.unknown_key(what, &entry.key, &keys(schema), &entry.key_span),
            }
        }
        self.required(what, schema, entries, mark);
    }

    fn required(&mut self, what: &str, schema: &Value, entries: &[Entry], mark: &Range<usize>) {
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|entry| entry.key == key) {
                let description = schema["properties"][key]["description"].as_str().unwrap_or_default();
                let finding = Finding::new(self.source, mark.clone(), format!("{what} lacks the key `{key}`"));
                self.findings.push(match description.split_inclusive(". ").next() {
                    Some(first) if !first.is_empty() => finding.help(format!("`{key}`: {}", first.trim_end())),
                    _ => finding,
                });
            }
        }
    }

    fn stage(&mut self, schema: &'static Value, node: &Node, mark: &Range<usize>) {
        let Kind::Mapping(entries) = &node.kind else {
            return self.found(mark, format!("a stage is a mapping with `type` and `options`, and not {}", kind(node)));
        };
        let written = entries.iter().find(|entry| entry.key == "type");
        let name = written.and_then(|entry| entry.node.text()).map(alias::canonical);
        let known = stage_types().find(|stage| Some(stage.name) == name);
        let what = known.as_ref().map_or("a stage".to_owned(), |stage| format!("the stage `{}`", stage.name));
        match (written, &known) {
            (None, _) => {
                let finding = Finding::new(self.source, mark.clone(), "a stage lacks the key `type`");
                self.findings.push(finding.help(format!("types: {}", listed(&stage_names()))));
            }
            (Some(entry), None) => {
                let mut names = stage_names();
                names.extend(stage_types().flat_map(|stage| alias::of(stage.name)));
                match entry.node.text() {
                    Some(text) => {
                        let near = nearest(text, &names);
                        let help = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                        let finding = Finding::new(
                            self.source,
                            entry.node.span.clone(),
                            format!("there is no stage type `{text}`"),
                        );
                        self.findings.push(finding.help(format!("{help}types: {}", listed(&stage_names()))));
                    }
                    None => self.found(
                        &entry.key_span,
                        format!("`type` is the name of a stage, and not {}", kind(&entry.node)),
                    ),
                }
            }
            (Some(_), Some(_)) => {}
        }
        let common = &schema["properties"];
        for entry in entries {
            let mark = if entry.node.text().is_some() { &entry.node.span } else { &entry.key_span };
            match entry.key.as_str() {
                "type" => {}
                "options" => {
                    if let Some(stage) = known.as_ref().filter(|_| !entry.node.is_null()) {
                        self.value(&format!("the stage `{}`", stage.name), stage.options, &entry.node, &entry.key_span);
                    }
                }
                key => match common.get(key) {
                    Some(schema) => self.value(&format!("`{key}`"), schema, &entry.node, mark),
                    None => self.misplaced(&what, key, known.as_ref().map(|stage| stage.options), &entry.key_span),
                },
            }
        }
        let options = entries.iter().find(|entry| entry.key == "options");
        if let Some(stage) = known.filter(|_| options.is_none_or(|entry| entry.node.is_null())) {
            let mark = options.map_or(mark, |entry| &entry.key_span);
            self.required(&what, stage.options, &[], mark);
        }
    }

    /// A key of a stage beside `type` and `options`; often an option that is not indented enough.
    fn misplaced(&mut self, what: &str, key: &str, options: Option<&Value>, mark: &Range<usize>) {
        if options.is_some_and(|options| options["properties"].get(key).is_some()) {
            let finding = Finding::new(self.source, mark.clone(), format!("{what} has `{key}` outside of its options"));
            self.findings
                .push(finding.help(format!("write `options: {{ {key}: ... }}`, or indent it beneath `options:`")));
        } else {
            self.unknown_key(what, key, &["type", "options", "name", "timeout"], mark);
        }
    }

    fn unknown_key(&mut self, what: &str, key: &str, known: &[&str], mark: &Range<usize>) {
        let near = nearest(key, known).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let finding = Finding::new(self.source, mark.clone(), format!("{what} has no key `{key}`"));
        self.findings.push(finding.help(format!("{near}keys: {}", listed(known))));
    }

    fn name(&mut self, what: &str, names: &[&str], node: &Node, mark: &Range<usize>) {
        match node.text() {
            Some(text) if names.contains(&text) => {}
            Some(text) => {
                let near = nearest(text, names).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                let finding = Finding::new(self.source, mark.clone(), format!("{what} cannot be `{text}`"));
                self.findings.push(finding.help(format!("{near}possible: {}", listed(names))));
            }
            None => {
                let finding =
                    Finding::new(self.source, mark.clone(), format!("{what} is a name, and not {}", kind(node)));
                self.findings.push(finding.help(format!("possible: {}", listed(names))));
            }
        }
    }

    fn wrong_type(&mut self, what: &str, schema: &Value, node: &Node, mark: &Range<usize>) {
        let message = format!("{what} is {}, and not {}", expected(schema), kind(node));
        let finding = Finding::new(self.source, mark.clone(), message);
        let text = self.source.text().get(node.span.clone()).unwrap_or_default();
        self.findings.push(match (&node.kind, schema["type"].as_str()) {
            (Kind::Scalar { value, .. }, Some("object")) if value.is_null() => {
                finding.help("write `{}` for the defaults")
            }
            (Kind::Scalar { value, .. }, _) if value.is_null() => finding.help("give it a value, or remove the key"),
            (Kind::Scalar { value, .. }, _) if value.is_number() && schema["format"] == "timeout" => {
                finding.help(format!("give it a unit: `{text}s` or `{text}min`"))
            }
            (Kind::Scalar { value, .. }, _) if value.is_f64() && schema["format"] == "size" => {
                finding.help(format!("give it a unit: `{text}GiB`"))
            }
            (Kind::Scalar { .. }, Some("array")) => finding.help(format!("write `[{text}]`")),
            (Kind::Scalar { plain: true, .. }, _) if may_be(schema, "string") => {
                finding.help(format!("write it in quotes: `\"{text}\"`"))
            }
            (Kind::Scalar { plain: false, .. }, Some("integer" | "boolean")) => finding.help("write it without quotes"),
            _ => finding,
        });
    }

    fn format(&mut self, schema: &Value, value: &Value, mark: &Range<usize>) {
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
            let names: Vec<_> = possible.iter().map(ToString::to_string).collect();
            self.found(mark, format!("{value} is not possible here: it is {}", names.join(" or ")));
        }
    }

    fn found(&mut self, mark: &Range<usize>, message: String) {
        self.findings.push(Finding::new(self.source, mark.clone(), message));
    }
}

/// The names that an enumeration of texts knows.
fn names(schema: &'static Value) -> Vec<&'static str> {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let single = variants.filter_map(|variant| variant["const"].as_str());
    let plain = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    schema["const"].as_str().into_iter().chain(single).chain(plain).collect()
}

fn keys(schema: &'static Value) -> Vec<&'static str> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn stage_names() -> Vec<&'static str> {
    stage_types().map(|stage| stage.name).collect()
}

fn may_be(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    }
}

fn accepts(schema: &Value, node: &Node) -> bool {
    match &node.kind {
        Kind::List(_) => may_be(schema, "array"),
        Kind::Mapping(_) => may_be(schema, "object"),
        Kind::Scalar { value, .. } => match value {
            Value::Null => may_be(schema, "null"),
            Value::Bool(_) => may_be(schema, "boolean"),
            Value::Number(number) => number.is_u64() && may_be(schema, "integer") || may_be(schema, "number"),
            _ => may_be(schema, "string"),
        },
    }
}

fn expected(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("size") => return "a size like `4GiB`",
        Some("timeout") => return "a length of time like `20min`",
        _ => {}
    }
    [
        ("string", "a text"),
        ("integer", "a whole number from 0"),
        ("boolean", "`true` or `false`"),
        ("array", "a list"),
        ("object", "a mapping"),
    ]
    .into_iter()
    .find(|(kind, _)| may_be(schema, kind))
    .map_or("something else", |(_, name)| name)
}

fn kind(node: &Node) -> String {
    match &node.kind {
        Kind::List(_) => "a list".into(),
        Kind::Mapping(_) => "a mapping".into(),
        Kind::Scalar { value, .. } => match value {
            Value::Null => "empty".into(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(number) => format!("the number {number}"),
            _ => "a text".into(),
        },
    }
}

/// The name among `known` that `written` most likely means.
pub fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // Nobody means a name by this, and comparing takes time.
    if written.len() > 100 {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let likeness = |name: &str| {
        let name = plain(name);
        // Slips of the finger by their number; names that begin alike by their beginning.
        let slips = strsim::damerau_levenshtein(&written, &name);
        let few = slips <= (written.chars().count() / 4).max(1);
        let alike = strsim::jaro_winkler(&written, &name);
        (few || alike > 0.92).then_some((alike, std::cmp::Reverse(slips)))
    };
    let likely = known.iter().filter_map(|name| Some((likeness(name)?, *name)));
    likely.max_by(|(a, _), (b, _)| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0))).map(|(_, name)| name)
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
