//! Parts of a recipe that nobody has written as such. Each has the place of what it was made of.

use crate::recipe::document::{Entry, Kind, Node};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;

/// A text.
pub fn text(text: impl Into<String>, span: &Range<usize>) -> Arc<Node> {
    scalar(Value::String(text.into()), span)
}

/// A number.
pub fn number(number: u64, span: &Range<usize>) -> Arc<Node> {
    scalar(number.into(), span)
}

/// A truth value.
pub fn truth(value: bool, span: &Range<usize>) -> Arc<Node> {
    scalar(value.into(), span)
}

fn scalar(value: Value, span: &Range<usize>) -> Arc<Node> {
    Arc::new(Node::new(span.clone(), Kind::Scalar { value, plain: false }))
}

/// A list.
pub fn list(items: Vec<Arc<Node>>, span: &Range<usize>) -> Arc<Node> {
    Arc::new(Node::new(span.clone(), Kind::List(items)))
}

/// A mapping.
pub fn mapping(entries: Vec<Entry>, span: &Range<usize>) -> Arc<Node> {
    Arc::new(Node::new(span.clone(), Kind::Mapping(entries)))
}

/// A key and its value.
pub fn entry(key: &str, span: &Range<usize>, node: Arc<Node>) -> Entry {
    Entry { key: key.to_owned(), key_span: span.clone(), node }
}

/// The value of `entry` with the key that a recipe has for it.
pub fn renamed(entry: &Entry, key: &str) -> Entry {
    Entry { key: key.to_owned(), ..entry.clone() }
}

/// A stage.
pub fn stage(kind: &str, span: &Range<usize>, options: Vec<Entry>) -> Arc<Node> {
    let entries = vec![entry("type", span, text(kind, span)), entry("options", span, mapping(options, span))];
    mapping(entries, span)
}
