//! The JSON Schema of recipes, made from the types that they are read into.

use super::alias;
use super::types::Recipe;
use schemars::Schema;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static SCHEMA: LazyLock<Schema> = LazyLock::new(make);

/// The schema of a recipe: JSON Schema Draft 2020-12 with descriptions.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

/// One type of stage in the schema.
pub(super) struct StageType<'a> {
    /// Its name without aliases.
    pub name: &'a str,
    /// What it does.
    pub description: &'a str,
    /// Schema of its options.
    pub options: &'a Value,
}

/// The types of stages in the order of the documentation.
pub(super) fn stage_types() -> impl Iterator<Item = StageType<'static>> {
    let variants = SCHEMA.as_value()["$defs"]["RecipeStage"]["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
    variants.iter().filter_map(|variant| {
        let name = variant["properties"]["type"]["enum"].get(0)?.as_str()?;
        let description = variant["description"].as_str().unwrap_or_default();
        Some(StageType { name, description, options: some(&variant["properties"]["options"]) })
    })
}

/// The schema that `schema` refers to, or itself.
pub(super) fn resolve(schema: &'static Value) -> &'static Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &SCHEMA.as_value()["$defs"][name])
}

/// The schema of a value that may be left out, of the value itself.
pub(super) fn some(schema: &'static Value) -> &'static Value {
    let either = schema["anyOf"].as_array().into_iter().flatten();
    let schema = either.into_iter().find(|one| one["type"] != "null").unwrap_or(schema);
    resolve(schema)
}

fn make() -> Schema {
    let mut schema = schemars::schema_for!(Recipe);
    let required: Vec<(String, bool)> = schema.as_value()["$defs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, definition)| {
            (name.clone(), definition["required"].as_array().is_some_and(|keys| !keys.is_empty()))
        })
        .collect();
    if let Some(stage) = schema.pointer_mut("/$defs/RecipeStage") {
        // What `flatten` leaves open: a key that belongs neither to the stage nor to its type.
        stage["unevaluatedProperties"] = json!(false);
        for variant in stage["oneOf"].as_array_mut().into_iter().flatten() {
            finish_variant(variant, &required);
            empty_is_left_out(variant);
        }
    }
    let mut whole = schema.clone().to_value();
    empty_is_left_out(&mut whole);
    for definition in whole["$defs"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        empty_is_left_out(definition);
    }
    if let Some(variables) = whole.pointer_mut("/properties/variables/additionalProperties") {
        // Whatever stands there is text: see `variables`.
        variables["type"] = json!(["string", "number", "boolean"]);
    }
    // Without a container image to start from there have to be stages; whether a disk, the formats decide.
    whole["if"] =
        json!({ "not": { "required": ["base-image"], "properties": { "base-image": { "type": "string" } } } });
    whole["then"] = json!({ "required": ["stages"] });
    // An object is always a schema.
    Schema::try_from(whole).unwrap_or(schema)
}

/// A key without a value is as if it were left out: where one may be, null may stand for it.
fn empty_is_left_out(schema: &mut Value) {
    let required: Vec<String> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (_, property) in properties.into_iter().flatten().filter(|(key, _)| !required.contains(key)) {
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(reference) = property.remove("$ref") {
            property.insert("anyOf".into(), json!([{ "$ref": reference }, { "type": "null" }]));
        } else if let Some(Value::String(kind)) = property.get("type") {
            property.insert("type".into(), json!([kind, "null"]));
            if let Some(possible) = property.get_mut("enum").and_then(Value::as_array_mut) {
                possible.push(Value::Null);
            }
        }
    }
}

/// The aliases of the type, and options that may be left out where none is required.
fn finish_variant(variant: &mut Value, required: &[(String, bool)]) {
    let Some(name) = variant["properties"]["type"]["const"].as_str().map(str::to_owned) else { return };
    let names: Vec<String> = std::iter::once(name.clone()).chain(alias::of(&name).map(str::to_owned)).collect();
    variant["properties"]["type"] = json!({ "type": "string", "enum": names });
    let options = variant["properties"]["options"]["$ref"].as_str().unwrap_or_default();
    if required.iter().any(|(name, needed)| !needed && options.strip_prefix("#/$defs/") == Some(name)) {
        variant["required"] = json!(["type"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_draft_2020_12_and_knows_every_stage() {
        assert_eq!(schema().as_value()["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let names: Vec<_> = stage_types().map(|stage| stage.name).collect();
        assert_eq!(names.first(), Some(&"debootstrap"));
        assert!(names.contains(&"bootloader"), "{names:?}");
        assert!(stage_types().all(|stage| !stage.description.is_empty() && stage.options["type"] == "object"));
    }

    #[test]
    fn everything_is_described() {
        fn look(schema: &Value, at: &str, missing: &mut Vec<String>) {
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                if key != "type" && key != "options" && property["description"].as_str().is_none() {
                    missing.push(format!("{at}.{key}"));
                }
            }
        }
        let mut missing = Vec::new();
        look(schema().as_value(), "", &mut missing);
        for (name, definition) in schema().as_value()["$defs"].as_object().unwrap() {
            look(definition, name, &mut missing);
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
