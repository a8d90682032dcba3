//! The scratch disk of a build: empty, or with what earlier builds have made of the same stages.

use super::EngineError;
use super::prepare::{Options, Prepared, Reuse};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::{Event, Events};
use crate::recipe::Recipe;
use crate::stages::{Files, Inputs, Keeper, Stages};
use crate::store::Store;
use crate::vm::scratch::{Layers, create_empty};
use crate::vm::{Disk, VmConfig};
use particle_vm_protocol::Plan;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a build begins with.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    empty: Option<Disk>,
    layers: Option<Layers>,
    done: usize,
    missing: Range<usize>,
    /// What the stages have fetched that are done.
    pub(super) fetched: Inputs,
    /// Who keeps what the others make.
    pub(super) keeper: Option<Keeper>,
}

impl Scratch {
    /// What there is for the build of `prepared`, whose VM has the folder `workspace`.
    ///
    /// # Errors
    /// When the store cannot be used, or there is no such stage as the command line names.
    pub(super) async fn of(
        (prepared, options, files): (&Prepared, &Options, &Arc<Files>),
        appliance: &str,
        (store, dirs): (&Store, &Dirs),
        workspace: &Path,
        events: &Events,
    ) -> Result<Self> {
        let bytes = prepared.planned.needs.scratch_bytes;
        let empty = || Self { empty: Some(Disk { path: workspace.join("scratch.raw"), bytes }), ..Self::default() };
        let most = match &options.reuse {
            Reuse::Nothing => return Ok(empty()),
            Reuse::Before(stage) => Some(number(&prepared.recipe, stage)?),
            Reuse::All => None,
        };
        let (recipe, planned) = (&prepared.recipe, &prepared.planned);
        let stages = Stages::of(recipe, planned, appliance, Arc::clone(files), store, events).await;
        if stages.is_empty() {
            return Ok(empty());
        }
        if let Err(error) = stages.remember(&prepared.recipe.name, dirs) {
            events.warn(format!("`explain` will not know of this build: {error}"));
        }
        let found = stages.find(most, workspace, events).await?;
        let (kept, fetched) = (found.layers.clone(), found.fetched.clone());
        let (done, missing) = (kept.len(), kept.len()..stages.len());
        let empty = workspace.join("empty.qcow2");
        create_empty(&empty, bytes).await.map_err(EngineError::Layer)?;
        // Each of the missing stages ends one, and what comes after them needs one too.
        let written = (0..=missing.len()).map(|number| workspace.join(format!("scratch{number}.qcow2"))).collect();
        let (keeper, complete) = stages.keeper(found, options.cache_bytes.unwrap_or(u64::MAX), events);
        let layers = Some(Layers { empty, kept, written, complete });
        Ok(Self { empty: None, layers, done, missing, fetched, keeper: Some(keeper) })
    }

    /// Give the VM this disk.
    pub(super) fn attach(&mut self, config: &mut VmConfig) {
        config.scratch = self.empty.take();
        config.layers = self.layers.take();
    }

    /// How many stages are done.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// The VM has not come up.
    pub(super) fn doubt(&self, events: &Events) {
        if self.done > 0 {
            events.warn("the VM began with what an earlier build has made; --no-cache does without");
        }
    }

    /// Say in `plan` what is done, and what is to be kept.
    pub(super) fn enter(&self, plan: &mut Plan) {
        plan.done = self.done;
        for planned in plan.stages[self.missing.clone()].iter_mut() {
            planned.keep = true;
        }
    }

    /// Tell of the stages that are done; gives their titles.
    pub(super) fn tell(&self, plan: &Plan, events: &Events) -> Vec<String> {
        let before = plan.steps_before_stages();
        let count = before + plan.stages.len() + plan.steps_after_stages();
        let done = plan.stages.iter().take(self.done).enumerate();
        let told = done.map(|(index, planned)| {
            events.send(Event::StageReused { index: before + index, count, title: planned.title.clone() });
            planned.title.clone()
        });
        told.collect()
    }
}

/// The position of the stage that `name` stands for: its number, its name, or its type if there is one of that only.
fn number(recipe: &Recipe, name: &str) -> Result<usize> {
    let count = recipe.stages.len();
    let by_number = name.parse::<usize>().ok().filter(|number| (1..=count).contains(number)).map(|number| number - 1);
    let position = |is: &dyn Fn(&crate::recipe::RecipeStage) -> bool| {
        let mut positions = recipe.stages.iter().enumerate().filter(|(_, stage)| is(stage)).map(|(index, _)| index);
        positions.next().filter(|_| positions.next().is_none())
    };
    let found = by_number
        .or_else(|| position(&|stage| stage.name.as_deref() == Some(name)))
        .or_else(|| position(&|stage| stage.stage.name() == name));
    let known = || {
        let name = |(index, stage): (usize, &crate::recipe::RecipeStage)| {
            format!("{} {}", index + 1, stage.name.as_deref().unwrap_or(stage.stage.name()))
        };
        recipe.stages.iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
    };
    found.ok_or_else(|| EngineError::NoStage { name: name.into(), known: known() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};
    use std::collections::BTreeMap;

    #[test]
    fn a_stage_is_named_by_its_number_name_or_type() {
        let text = "name: x
stages:
  - { type: debootstrap, options: { suite: trixie } }
  - { type: run, name: one, options: { script: 'true' } }
  - { type: run, name: two, options: { script: 'true' } }
disk: { size: 4GiB }
";
        let recipe = parse(Source::new("r.yml", text), Path::new("."), &BTreeMap::new()).unwrap();
        let at = |name: &str| number(&recipe, name).ok();
        assert_eq!([at("1"), at("debootstrap"), at("two")], [Some(0), Some(0), Some(2)]);
        assert_eq!([at("0"), at("4"), at("run"), at("three")], [None; 4]);
        let error = number(&recipe, "three").unwrap_err();
        assert_eq!(error.to_string(), "the recipe has no stage `three`, or more than one");
        assert!(error.get().advice().unwrap().contains("1 debootstrap, 2 one, 3 two"));
    }
}
