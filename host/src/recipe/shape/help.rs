//! What to write instead of a value of the wrong type.

use super::words::{may_be, required};
use crate::recipe::document::Kind;
use crate::recipe::size::{Size, Timeout};
use serde_json::Value;

/// What to write where `schema` wants something else than `kind`, which is written as `text`.
pub fn wrong_type(schema: &'static Value, kind: &Kind, text: &str) -> Option<String> {
    let Kind::Scalar { value, plain } = kind else { return None };
    let format = schema["format"].as_str();
    if value.is_null() {
        let defaults = may_be(schema, "object") && required(schema).next().is_none();
        return Some(if defaults { "write `{}` for the defaults" } else { "give it a value" }.into());
    }
    match format {
        Some("timeout") if format!("{text}s").parse::<Timeout>().is_ok() => {
            return Some(format!("give it a unit: `{text}s` or `{text}min`"));
        }
        Some("size") if format!("{text}GiB").parse::<Size>().is_ok() => {
            return Some(format!("give it a unit: `{text}GiB`"));
        }
        Some("timeout") => return Some("write a number and a unit, like `20min`".into()),
        Some("size") => return Some("write a number and a unit, like `4GiB`".into()),
        _ => {}
    }
    if may_be(schema, "array") {
        Some(format!("write `[{text}]`"))
    } else if *plain && may_be(schema, "string") {
        Some(format!("write it in quotes: `\"{text}\"`"))
    } else if !*plain
        && (may_be(schema, "integer") && text_is_number(value) || may_be(schema, "boolean") && text_is_truth(value))
    {
        Some("write it without quotes".into())
    } else {
        None
    }
}

/// Whether the text would be a number if it stood there without quotes.
fn text_is_number(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<u64>().is_ok())
}

fn text_is_truth(value: &Value) -> bool {
    matches!(value.as_str(), Some("true" | "false"))
}
