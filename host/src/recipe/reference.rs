//! The reference of recipes, made from their schema.

use super::alias;
use super::schema::{schema, some, stage_types};
use serde_json::Value;
use std::fmt::Write;

const BEGIN: &str = "\
# Recipes

<!-- Made from the types in `host/src/recipe/types.rs` and `protocol/src/stage/`. To make it anew after changing them:
     PARTICLE_VM_WRITE_REFERENCE=1 cargo test -p particle-vm the_reference_is_in_step -->

A recipe is one YAML document. `particle-vm check recipe.yml` tells everything that is wrong with one, with its place;
`particle-vm schema` prints the JSON Schema for editors. `recipes/` has some to start from.

Nothing is ignored: a key that is not in this reference is an error. A key that may be left out may also stand there
without a value (`groups:`); it is the same.

- **Sizes** are a number with a unit, `512MiB` or `4GiB`, or a whole number of bytes.
- **Times** are numbers with units, `90s`, `20min` or `1h 30min`.
- **Files** of a recipe (`source`, `file`, `keyring`) are named relative to the recipe's folder and lie in it.
- **Variables**: `${NAME}` in a value stands for the variable of this name under `variables`, or for what
  `--set NAME=VALUE` gives. A value without quotes is read as YAML again after that, so that `cpus: ${CPUS}` is a number.
  The value of a variable itself is text as it is written: `CPUS: 2` and `CPUS: \"2\"` are the same.
  In `script`, `content`, `run`, `expect` and `diag`, what is no variable of the recipe stays as it is, for the shell.
  Within `[ ]` and `{ }` YAML wants quotes around it: `[\"${SUITE}\"]`.
";

const STAGES: &str = "\
## Stages

The stages run in their order, as root, in the tree that the first one (`debootstrap`) makes. When the last one has run,
the disk is made of the tree, and the bootloader installed on it. Packages of several stages are installed in one go, by
the first of these stages, where nothing that stands between them can tell the difference; that one then has the
`timeout` of all of them.

The stage `ostree.deploy` ends the work on the tree: a commit of it, or one that was fetched, becomes the system on the
disk. The stages after it change `/etc` and `/var` of that system and nothing else; `bootloader` is one of them.

What a stage has made is kept, and a later build whose recipe begins with the same stages does not run it again. The same is
a stage with the same options, files of the recipe's folder, package lists of the archives that stages name, and stages before
it. What else a script fetches is not looked at: such a stage says `cache: false`, or is run with `--from`. The UUIDs of file
systems follow from the `name` and the `disk` of a recipe, so that images of one recipe have the same.

With a `base-image` the tree is that of a container image, and `engine` says how it becomes a system. With `plain` its
files are those of the disk, and the stages go on with them as with those of `debootstrap`; one of them has to be
`bootloader`. With `native-ostree` it is deployed as OSTree does it: `/usr` is the image's and read-only, and stages change
`/etc` and `/var`. `apt` and `debootstrap` have no place there, `kernel` sets the command line only, and without a stage
`bootloader` GRUB boots it on BIOS and UEFI. With `bootc` the same comes of the `bootc` that the image has, which installs
it; an image for its composefs backend boots by systemd-boot, on UEFI. Where an image has bootupd and metadata of GRUB, that
installs GRUB, in a system of either. Without `engine` it is what `particle-vm inspect` says of the image, and an
image that no engine fits is refused before anything starts, with what to change in it.

`/tmp` and `/run` are for the stages: what they put there is not in the image. Neither is what makes one machine of all
copies of an image: an image with systemd has no machine id and no host keys of ssh, and makes them when it first boots.
The package lists and archives of apt, `/var/tmp`, and the logs of the build are emptied. What `files` and `copy` have
written anywhere but in `/tmp` and `/run` stays.
";

/// `docs/recipe.md`.
pub fn reference() -> String {
    let mut text = BEGIN.to_owned();
    let root = schema().as_value();
    section(&mut text, "## Keys of a recipe", root);
    for (key, definition) in [
        ("network", "Network"),
        ("stages", "RecipeStage"),
        ("disk", "Disk"),
        ("disk.partitions", "Partition"),
        ("output", "Output"),
        ("tests", "Test"),
        ("resources", "Resources"),
    ] {
        section(&mut text, &format!("### `{key}`"), &root["$defs"][definition]);
    }
    write(&mut text, format_args!("\n{STAGES}"));
    for stage in stage_types() {
        write(&mut text, format_args!("\n### `{}`\n\n{}\n", stage.name, stage.description));
        let aliases: Vec<String> = alias::of(stage.name).map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            write(&mut text, format_args!("\nAlso: {}\n", aliases.join(", ")));
        }
        options(&mut text, stage.options, "");
    }
    text
}

fn section(text: &mut String, title: &str, schema: &'static Value) {
    write(text, format_args!("\n{title}\n\n{}\n", described(schema)));
    if schema["oneOf"].is_array() {
        text.push_str("\n- `type`: which stage, see below. **Required.**\n- `options`: its options.\n");
    } else {
        text.push('\n');
    }
    properties(text, schema, "");
}

/// A list of the keys of `schema`, and of the keys of the mappings in it.
fn options(text: &mut String, schema: &'static Value, indent: &str) {
    if schema["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
        text.push('\n');
        properties(text, schema, indent);
    }
}

fn properties(text: &mut String, schema: &'static Value, indent: &str) {
    let required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|one| one == key));
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let (kind, inner) = kind(property);
        write(text, format_args!("{indent}- `{key}` ({kind}): {}", described(property)));
        if required(key) {
            text.push_str(" **Required.**");
        } else if let Some(default) = default(property) {
            write(text, format_args!(" Default: `{default}`."));
        }
        text.push('\n');
        for variant in variants(property) {
            let name = variant["const"].as_str().unwrap_or_default();
            write(text, format_args!("{indent}  - `{name}`: {}\n", described(variant)));
        }
        // The parts of a recipe have sections of their own; what is within options stands right there.
        if let Some(inner) = inner.filter(|_| !own_section(property)) {
            properties(text, inner, &format!("{indent}  "));
        }
    }
}

fn own_section(property: &Value) -> bool {
    let text = property.to_string();
    ["Network", "RecipeStage", "Disk", "Partition", "Output", "Test", "Resources"]
        .iter()
        .any(|name| text.contains(&format!("\"#/$defs/{name}\"")))
}

/// The type of a value in words, and the schema of the mapping in it.
fn kind(schema: &'static Value) -> (String, Option<&'static Value>) {
    let schema = some(schema);
    match schema["format"].as_str() {
        Some("size") => return ("size".into(), None),
        Some("timeout") => return ("time".into(), None),
        _ => {}
    }
    if !is_list(schema) && !variants(schema).is_empty() {
        return ("name".into(), None);
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().filter(|value| !value.is_null()).map(Value::to_string);
        return (values.collect::<Vec<_>>().join(" or "), None);
    }
    let single = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str),
        one => one.as_str(),
    };
    match single {
        Some("array") => {
            let (kind, inner) = kind(&schema["items"]);
            (format!("list of {kind}s"), inner)
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            let (kind, inner) = kind(&schema["additionalProperties"]);
            (format!("mapping of names to {kind}s"), inner)
        }
        Some("object") => ("mapping".into(), Some(schema)),
        Some("integer") => ("number".into(), None),
        Some("boolean") => ("`true` or `false`".into(), None),
        _ => ("text".into(), None),
    }
}

fn is_list(schema: &Value) -> bool {
    schema["type"] == "array" || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "array"))
}

fn variants(schema: &'static Value) -> Vec<&'static Value> {
    let schema = some(schema);
    let schema = if is_list(schema) { some(&schema["items"]) } else { schema };
    schema["oneOf"].as_array().into_iter().flatten().filter(|variant| variant["const"].is_string()).collect()
}

/// A default that tells something.
fn default(schema: &Value) -> Option<&Value> {
    let default = &schema["default"];
    let telling = match default {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => false,
        _ => true,
    };
    telling.then_some(default)
}

fn described(schema: &'static Value) -> String {
    let own = schema["description"].as_str().or_else(|| some(schema)["description"].as_str());
    own.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writing to a string does not fail.
fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_in_step() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipe.md");
        if std::env::var_os("PARTICLE_VM_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, reference()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == reference(), "docs/recipe.md is out of step; its first lines say how to make it anew");
    }
}
