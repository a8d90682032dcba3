//! What the stages of earlier builds have left on the scratch disk, for builds that begin with the same stages.
//!
//! After each stage the disk gets a new layer ([`crate::vm::scratch`]), and the one before it is kept in the store. It goes
//! by the name of the stage's key (`key.rs`), in which everything is that the stage's work follows from, and by the digest of the
//! layer below it: a layer is what has changed on top of those very bytes, and fits on no others.

mod error;
mod explain;
mod files;
mod indexes;
mod keep;
mod key;

pub use error::FileError;
pub use explain::Explained;
pub use files::{Files, Reading};
pub use keep::Keeper;

use crate::event::Events;
use crate::output::manifest::Input;
use crate::plan::Planned;
use crate::recipe::Recipe;
use crate::store::{Adopted, Alone, Making, Store, StoreError};
use crate::vm::scratch::Layer;
use key::{Key, Start};
use particle_vm_protocol::Stage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// What is known of the stages of a build, before its VM starts.
#[derive(Debug)]
pub struct Stages {
    store: Store,
    /// The first stages with their keys, up to one that follows from more than can be known.
    keys: Vec<(Key, Stage)>,
    /// What all of them, and what each of them follows from.
    ingredients: Vec<Value>,
    files: Arc<Files>,
    /// The URLs of indexes of packages, and the digests of what is there.
    indexes: BTreeMap<String, String>,
}

/// What of it the store has.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that QEMU may read, lowest first: one for each of the first stages. Whoever prunes the store leaves them alone.
    pub layers: Vec<PathBuf>,
    /// What these stages have fetched.
    pub fetched: Inputs,
    /// The same files in the store.
    chain: Vec<PathBuf>,
    /// The digest of the uppermost layer; empty when there is none.
    top: String,
    /// Nobody else makes the next one as long as this is held.
    alone: Option<Alone>,
}

/// What stages have fetched, kept beside their layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// As the manifest has it.
    pub inputs: Vec<Input>,
    /// How many requests are missing there.
    pub omitted: u64,
}

impl Stages {
    /// Find out what the stages of `planned` follow from: `files`, and what archives have. `appliance` is the digest of what
    /// they run in.
    pub async fn of(
        recipe: &Recipe,
        planned: &Planned,
        appliance: &str,
        files: Arc<Files>,
        store: &Store,
        events: &Events,
    ) -> Self {
        let plan = &planned.plan;
        let count = key::knowable(recipe, plan);
        let indexes = indexes::digests(&plan.stages[..count], events).await;
        let start = Start::new(planned, appliance);
        let (keys, mut ingredients): (Vec<_>, Vec<_>) =
            key::keys(&start, plan, count, &files, &indexes).into_iter().unzip();
        ingredients.insert(0, key::written(&start));
        let stages = plan.stages.iter().map(|planned| planned.stage.clone());
        let keys = keys.into_iter().zip(stages).collect();
        Self { store: store.clone(), keys, ingredients, files, indexes }
    }

    /// How many of the first stages can be known again.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is nothing to keep, nor to look for.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Look for the layers of as many first stages as there are, but not of more than `most`, and put them into the folder
    /// `workspace`. What is being made by another build at the moment is waited for.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn find(&self, most: Option<usize>, workspace: &Path, events: &Events) -> Result<Found, StoreError> {
        let most = most.unwrap_or(usize::MAX);
        loop {
            let mut found = self.look(most, workspace).await?;
            let depth = found.layers.len();
            let Some((next, _)) = self.keys.get(depth).filter(|_| depth < most) else { return Ok(found) };
            let name = layer_name(next, &found.top);
            if let Some(alone) = self.store.try_alone(Making::Stage(&name))? {
                found.alone = Some(alone);
                return Ok(found);
            }
            let step =
                events.step("wait for another build, which runs the same stages", None, crate::event::Unit::Items);
            drop(self.store.alone(Making::Stage(&name)).await?);
            step.finish();
        }
    }

    /// How many of the first stages would not run, as far as the store has them.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn depth(&self, workspace: &Path) -> Result<usize, StoreError> {
        Ok(self.look(usize::MAX, workspace).await?.layers.len())
    }

    async fn look(&self, most: usize, workspace: &Path) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for (number, (key, _)) in self.keys.iter().take(most).enumerate() {
            let Some((layer, fetched)) = self.store.adopted(&layer_name(key, &found.top)).await? else { break };
            let Adopted { path, sha256 } = layer;
            let own = workspace.join(format!("kept{number}.qcow2"));
            let Some(own) = linked(&path, own) else { break };
            found.layers.push(own);
            found.chain.push(path);
            found.top = sha256;
            found.fetched = fetched;
        }
        for input in &mut found.fetched.inputs {
            input.from_store = true;
        }
        self.store.used(&found.chain);
        Ok(found)
    }

    /// Whoever keeps what the next stages make, and where they are sent; `found` is what is there already. No more than `most`
    /// bytes are kept.
    pub fn keeper(self, found: Found, most: u64, events: &Events) -> (Keeper, UnboundedSender<Layer>) {
        Keeper::new(self, found, most, events)
    }
}

/// A second name for a file of the store, which stays when that one goes; on another file system there is none, and the first
/// has to do. None when it has gone already.
fn linked(path: &Path, own: PathBuf) -> Option<PathBuf> {
    let linked = match std::fs::hard_link(path, &own) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&own).and_then(|()| std::fs::hard_link(path, &own))
        }
        linked => linked,
    };
    match linked {
        Ok(()) => Some(own),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(path.to_owned()),
    }
}

/// The name of the layer of a stage on top of the one with the digest `below`.
fn layer_name(key: &Key, below: &str) -> String {
    format!("stage {key} on {below}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(store: &Store, count: usize) -> Stages {
        let stage: Stage =
            serde_json::from_value(serde_json::json!({ "type": "hostname", "options": { "hostname": "a" } })).unwrap();
        let keys = (0..count).map(|number| (Key::of(&number), stage.clone())).collect();
        let (ingredients, files, indexes) = (Vec::new(), Arc::default(), BTreeMap::new());
        Stages { store: store.clone(), keys, ingredients, files, indexes }
    }

    /// Keep what the stages that are missing make, up to the one at `last`.
    async fn make(stages: Stages, dir: &Path, last: usize) {
        let found = stages.find(None, dir, &Events::none()).await.unwrap();
        let first = found.layers.len();
        let (keeper, layers) = stages.keeper(found, u64::MAX, &Events::none());
        for stage in first..=last {
            let path = dir.join(format!("made{stage}"));
            std::fs::write(&path, format!("{stage} {:?}", std::time::SystemTime::now())).unwrap();
            layers.send(Layer { stage, path, ..Layer::default() }).unwrap();
        }
        drop(layers);
        keeper.finish().await;
    }

    #[tokio::test]
    async fn a_layer_is_found_on_the_one_that_it_was_made_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let depth = async |most| {
            let found = stages(&store, 3).find(most, dir.path(), &Events::none()).await.unwrap();
            (found.layers.len(), found.chain.last().cloned())
        };
        make(stages(&store, 3), dir.path(), 2).await;
        assert_eq!(depth(None).await.0, 3);
        assert_eq!((depth(Some(1)).await.0, depth(Some(0)).await.0), (1, 0));
        // The lowest is lost and made again, with other bytes: those that were made on it are of no use.
        std::fs::remove_file(depth(Some(1)).await.1.unwrap()).unwrap();
        assert_eq!(depth(None).await.0, 0);
        make(stages(&store, 3), dir.path(), 0).await;
        assert_eq!(depth(None).await.0, 1);
    }

    #[tokio::test]
    async fn what_another_build_makes_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (one, two) = (stages(&store, 1), stages(&store, 1));
        let first = one.find(None, dir.path(), &Events::none()).await.unwrap();
        let second = async {
            let found = two.find(None, dir.path(), &Events::none()).await.unwrap();
            found.layers.len()
        };
        let work = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let (keeper, layers) = one.keeper(first, u64::MAX, &Events::none());
            let path = dir.path().join("made");
            std::fs::write(&path, "made").unwrap();
            layers.send(Layer { stage: 0, path, ..Layer::default() }).unwrap();
            drop(layers);
            keeper.finish().await;
        };
        assert_eq!(tokio::join!(second, work).0, 1);
    }

    #[tokio::test]
    async fn what_does_not_come_in_its_turn_or_is_too_much_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, name.repeat(10_000)).unwrap();
            path
        };
        let unknown = Layer { indexes: vec!["another".into()], ..Layer::default() };
        for (layer, most) in [
            (Layer { stage: 1, ..Layer::default() }, u64::MAX),
            (Layer::default(), 100),
            // From an archive that only the guest knows.
            (unknown, u64::MAX),
        ] {
            let found = stages(&store, 2).find(None, dir.path(), &Events::none()).await.unwrap();
            let (keeper, layers) = stages(&store, 2).keeper(found, most, &Events::none());
            layers.send(Layer { path: path("made"), ..layer }).unwrap();
            layers.closed().await;
            keeper.finish().await;
            assert_eq!(stages(&store, 2).find(None, dir.path(), &Events::none()).await.unwrap().layers.len(), 0);
        }
    }
}
