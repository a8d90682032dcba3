//! The keys of a configuration: which there are, what they are called, what type their values have.

use crate::recipe::document::{Entry, Kind, Node};
use crate::recipe::finding::{Finding, MAX_FINDINGS, Source};
use crate::recipe::near::nearest;
use crate::recipe::shape::{kind, listed};
use crate::recipe::size::{MIB, Size};
use std::ops::Range;
use std::sync::Arc;

/// The keys of a table.
pub struct Keys {
    /// Those that a recipe has something for.
    pub taken: &'static [&'static str],
    /// Those that blueprints have beside them, each with what to do instead.
    pub refused: &'static [(&'static str, &'static str)],
}

impl Keys {
    /// A table that has nothing beside what is taken.
    pub const fn only(taken: &'static [&'static str]) -> Self {
        Self { taken, refused: &[] }
    }
}

/// Looks at the values of a configuration, and collects what is wrong with them.
pub struct Reader<'a> {
    source: &'a Source,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    /// One for the configuration with this text. `findings` are those that there are already.
    pub fn new(source: &'a Source, findings: Vec<Finding>) -> Self {
        Self { source, findings }
    }

    /// What stands at `span` is wrong; `help` tells the way out.
    pub fn advise(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding::new(self.source, span.clone(), message.into()).help(help));
        }
    }

    /// The table of `entry`, called `what`, when it is one. Keys that are not taken are told.
    pub fn table<'n>(&mut self, what: &str, entry: &'n Entry, keys: &Keys) -> Option<&'n Node> {
        if !matches!(entry.node.kind, Kind::Mapping(_)) {
            let message = format!("`{what}` is a table, and not {}", kind(&entry.node));
            self.advise(&entry.key_span, message, format!("write `[{what}]`, and its keys beneath"));
            return None;
        }
        self.known(what, &entry.node, keys);
        Some(&entry.node)
    }

    /// The tables in the list of `entry`, called `what`.
    pub fn tables<'n>(&mut self, what: &str, entry: &'n Entry, keys: &Keys) -> Vec<&'n Arc<Node>> {
        let help = format!("write `[[{what}]]`, and the keys of one beneath");
        let Kind::List(items) = &entry.node.kind else {
            let message = format!("`{what}` is a list of tables, and not {}", kind(&entry.node));
            self.advise(&entry.key_span, message, help);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            if matches!(item.kind, Kind::Mapping(_)) {
                self.known(what, item, keys);
                tables.push(item);
            } else {
                let message = format!("`{what}` is a list of tables, and this is {}", kind(item));
                self.advise(&item.span, message, help.clone());
            }
        }
        tables
    }

    /// Tells the keys of a table that are not taken.
    pub fn known(&mut self, what: &str, table: &Node, keys: &Keys) {
        let shown = |key: &str| if what.is_empty() { key.to_owned() } else { format!("{what}.{key}") };
        for entry in entries(table).filter(|entry| !keys.taken.contains(&entry.key.as_str())) {
            if let Some((key, instead)) = keys.refused.iter().find(|(key, _)| *key == entry.key) {
                let message = format!("`{}` cannot be honoured", shown(key));
                self.advise(&entry.key_span, message, *instead);
            } else {
                let near = nearest(&entry.key, keys.taken);
                let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
                let message = format!("there is no `{}`", shown(&entry.key));
                self.advise(&entry.key_span, message, format!("{near}keys: {}", listed(keys.taken)));
            }
        }
    }

    /// The value of `key` in `table`, called `what`, which has to be there.
    pub fn required<'n>(&mut self, what: &str, table: &'n Node, key: &str) -> Option<&'n Entry> {
        let found = get(table, key);
        if found.is_none() {
            self.advise(&table.span, format!("this `{what}` has no `{key}`"), format!("give it one: `{key} = ...`"));
        }
        found
    }

    /// The text of `entry`, called `what`.
    pub fn text<'n>(&mut self, what: &str, entry: &'n Entry) -> Option<&'n str> {
        let text = entry.node.text();
        if text.is_none() {
            let message = format!("`{what}` is a text, and not {}", kind(&entry.node));
            self.advise(&entry.node.span, message, "text goes into quotes");
        }
        text
    }

    /// The size of `entry`, called `what`: a number of bytes, or a text like `10 GiB`. It is one to be had at least, and
    /// becomes a multiple of 1 MiB.
    pub fn size(&mut self, what: &str, entry: &Entry) -> Option<u64> {
        let bytes = match &entry.node.kind {
            Kind::Scalar { value, .. } if value.is_u64() => value.as_u64(),
            Kind::Scalar { value, .. } => value.as_str().and_then(|text| text.parse::<Size>().ok()).map(|size| size.0),
            _ => None,
        };
        let size = bytes.and_then(|bytes| bytes.checked_next_multiple_of(MIB)).filter(|size| *size > 0);
        if size.is_none() {
            let message = format!("`{what}` is not a size");
            self.advise(&entry.node.span, message, "write a number of bytes, or `\"10 GiB\"`");
        }
        size
    }
}

/// The keys of a table that have a value.
pub fn entries(table: &Node) -> impl Iterator<Item = &Entry> {
    table.entries().iter().filter(|entry| !entry.node.is_null())
}

/// The value of `key` with the key.
pub fn get<'n>(table: &'n Node, key: &str) -> Option<&'n Entry> {
    entries(table).find(|entry| entry.key == key)
}
