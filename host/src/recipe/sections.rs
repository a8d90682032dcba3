//! A recipe in parts, each read into its type by itself.

use super::path::Path;
use super::types::{Disk, Network, Output, RecipeStage, Resources, Test};
use super::unread::Unread;
use particle_vm_protocol::{Engine, Stage};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What could be read of a recipe.
#[derive(Debug, Default)]
pub struct Sections {
    /// Its name.
    pub name: Option<String>,
    /// The container image that it starts from.
    pub base_image: Option<String>,
    /// How that becomes a system.
    pub engine: Option<Engine>,
    /// Its stages.
    pub stages: Vec<Section>,
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
    /// What of all that are stand-ins.
    pub unread: Unread,
}

/// A stage.
#[derive(Debug)]
pub struct Section {
    /// The type that is written, without aliases.
    pub kind: Option<String>,
    /// The stage, if its type is one.
    pub stage: Option<RecipeStage>,
    /// Whether all of it could be read.
    pub whole: bool,
}

impl Section {
    /// The stage, if all of it could be read.
    pub fn known(&self) -> Option<&RecipeStage> {
        self.stage.as_ref().filter(|_| self.whole)
    }
}

impl Sections {
    /// The first stage of the type `kind`, whether its options could be read or not.
    pub fn first(&self, kind: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.kind.as_deref() == Some(kind))
    }

    /// Whether its tree is made of one of these suites, as far as that can be read.
    pub fn is_of(&self, suites: &[&str]) -> bool {
        self.stages.iter().filter_map(Section::known).any(|stage| match &stage.stage {
            Stage::Debootstrap(options) => suites.contains(&options.suite.as_str()),
            _ => false,
        })
    }
}

/// Reads the parts of a recipe that has been brought into shape.
pub fn read(recipe: &Value, unread: Unread) -> Sections {
    let stages = recipe["stages"].as_array().into_iter().flatten().enumerate().map(|(index, value)| {
        let kind = value["type"].as_str().map(str::to_owned);
        let whole = unread.spares(&Path::root().key("stages").index(index));
        Section { kind, stage: typed(value), whole }
    });
    Sections {
        stages: stages.collect(),
        tests: recipe["tests"].as_array().into_iter().flatten().map(typed).collect(),
        name: typed(&recipe["name"]),
        base_image: typed(&recipe["base-image"]),
        engine: typed(&recipe["engine"]),
        network: typed(&recipe["network"]),
        disk: typed(&recipe["disk"]),
        output: typed(&recipe["output"]),
        resources: typed(&recipe["resources"]),
        unread,
    }
}

/// The value in its type. None when there is none, or when it has no shape of its own, like a stage of a type that
/// nobody knows; that has been told.
fn typed<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}
