//! A recipe in parts, each read into its type by itself, so that a mistake in one does not hide those in another.

use super::alias;
use super::document::{Kind, Node};
use super::finding::{Finding, Source};
use super::path::Path;
use super::types::{Disk, Network, Output, Recipe, RecipeStage, Resources, Test};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What could be read of a recipe.
#[derive(Debug, Default)]
pub struct Sections {
    /// All of it.
    pub recipe: Option<Recipe>,
    /// Its name.
    pub name: Option<String>,
    /// Its stages: the type that is written, without aliases, and what could be read.
    pub stages: Vec<(Option<String>, Option<RecipeStage>)>,
    /// Whether there are none.
    pub empty: bool,
    /// What the build may reach.
    pub network: Option<Network>,
    /// The disk.
    pub disk: Option<Disk>,
    /// The outputs.
    pub output: Option<Output>,
    /// The tests.
    pub tests: Vec<Option<Test>>,
    /// The resources.
    pub resources: Option<Resources>,
}

/// Reads the parts of `root`, and says what did not fit the types.
pub fn read(source: &Source, root: &Node) -> (Sections, Vec<Finding>) {
    let mut whole = root.to_value();
    for stage in whole.get_mut("stages").and_then(Value::as_array_mut).into_iter().flatten() {
        normalise(stage);
    }
    let mut reader = Reader { source, root, misfits: Vec::new() };
    let top = Path::root();
    let stages = whole["stages"].as_array().into_iter().flatten().enumerate().map(|(index, value)| {
        let kind = value["type"].as_str().map(str::to_owned);
        (kind, reader.typed(&top.key("stages").index(index), value))
    });
    let stages = stages.collect();
    let tests = whole["tests"].as_array().into_iter().flatten().enumerate();
    let tests = tests.map(|(index, value)| reader.typed(&top.key("tests").index(index), value)).collect();
    let sections = Sections {
        stages,
        tests,
        empty: whole["stages"].as_array().is_some_and(Vec::is_empty),
        name: reader.key(&whole, "name"),
        network: reader.key(&whole, "network"),
        disk: reader.key(&whole, "disk"),
        output: reader.key(&whole, "output"),
        resources: reader.key(&whole, "resources"),
        recipe: if matches!(root.kind, Kind::Mapping(_)) { reader.typed(&top, &whole) } else { None },
    };
    (sections, reader.misfits)
}

/// Aliases become names, and options that are left out an empty mapping.
fn normalise(stage: &mut Value) {
    if let Some(name) = stage["type"].as_str().map(|name| alias::canonical(name).to_owned())
        && let Some(stage) = stage.as_object_mut()
    {
        stage.insert("type".into(), json!(name));
        let options = stage.entry("options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
    }
}

struct Reader<'a> {
    source: &'a Source,
    root: &'a Node,
    misfits: Vec<Finding>,
}

impl Reader<'_> {
    fn key<T: DeserializeOwned>(&mut self, whole: &Value, key: &str) -> Option<T> {
        let value = whole.get(key)?;
        self.typed(&Path::root().key(key), value)
    }

    fn typed<T: DeserializeOwned>(&mut self, path: &Path, value: &Value) -> Option<T> {
        match T::deserialize(value) {
            Ok(typed) => Some(typed),
            Err(error) => {
                self.misfits.push(Finding::new(self.source, self.root.locate(path), error.to_string()));
                None
            }
        }
    }
}
