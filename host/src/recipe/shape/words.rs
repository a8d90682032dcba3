//! What a schema says, and how findings put it.

use crate::recipe::alias;
use crate::recipe::document::{Entry, Kind, Node};
use crate::recipe::near::nearest;
use crate::recipe::schema::{resolve, stage_types};
use serde_json::{Map, Value, json};

/// The names that an enumeration of texts knows.
pub fn names(schema: &'static Value) -> Vec<&'static str> {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let single = variants.filter_map(|variant| variant["const"].as_str());
    let plain = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    schema["const"].as_str().into_iter().chain(single).chain(plain).collect()
}

/// The keys that a mapping may have.
pub fn keys(schema: &'static Value) -> Vec<&'static str> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// The keys that a mapping must have.
pub fn required(schema: &'static Value) -> impl Iterator<Item = &'static str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The same for a mapping with `entries`: some are required where another is missing (`if` and `then` of the schema).
pub fn required_beside(schema: &'static Value, entries: &[Entry]) -> Vec<&'static str> {
    let instead = schema["if"]["not"]["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_there = |key: &str| entries.iter().any(|entry| entry.key == key && !entry.node.is_null());
    let there = instead.into_iter().any(is_there);
    let further = if there { &Value::Null } else { &schema["then"] };
    required(schema).chain(required(further)).collect()
}

/// The types of stages, as recipes name them.
pub fn stage_names() -> Vec<&'static str> {
    stage_types().map(|stage| stage.name).collect()
}

/// The type of stage that `written` most likely means. What people bring along from osbuild is compared without what
/// all its names have in common.
pub fn nearest_stage(written: &str) -> Option<String> {
    for prefix in ["org.osbuild.debian.", "org.osbuild.", ""] {
        if let Some(own) = written.strip_prefix(prefix) {
            let mut names = stage_names();
            names.extend(stage_types().flat_map(|stage| alias::of(stage.name)));
            let names: Vec<&str> = names.into_iter().filter_map(|name| name.strip_prefix(prefix)).collect();
            return nearest(own, &names).map(|near| format!("{prefix}{near}"));
        }
    }
    None
}

/// Whether `schema` takes values of this JSON type.
pub fn may_be(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    }
}

/// Whether `schema` takes a value of the type that `node` has.
pub fn accepts(schema: &Value, node: &Node) -> bool {
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

/// What `schema` wants, in words.
pub fn expected(schema: &Value) -> &'static str {
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

/// What `node` is, in words.
pub fn kind(node: &Node) -> String {
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

/// A value that `schema` accepts, to stand in for one that cannot be read.
pub fn stand_in(schema: &'static Value) -> Value {
    let schema = resolve(schema);
    if let Some(name) = names(schema).first() {
        return json!(name);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|possible| possible.first()) {
        return first.clone();
    }
    match ["null", "array", "object", "boolean", "integer"].into_iter().find(|kind| may_be(schema, kind)) {
        Some("array") => json!([]),
        Some("object") => {
            let keys = required(schema).map(|key| (key.to_owned(), stand_in(&schema["properties"][key])));
            Value::Object(keys.collect::<Map<_, _>>())
        }
        Some("boolean") => json!(false),
        Some("integer") => json!(0),
        Some(_) => Value::Null,
        None if may_be(schema, "string") => json!(""),
        None => Value::Null,
    }
}

/// Names in a sentence.
pub fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
