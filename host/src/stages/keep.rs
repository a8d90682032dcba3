//! Keeping what stages have left, while the build goes on.

use super::{Found, Inputs, Stages, layer_name};
use crate::event::Events;
use crate::store::{Alone, Making, StoreError};
use crate::vm::scratch::Layer;
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Somebody who keeps layers as they are completed; it ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    task: JoinHandle<()>,
    given_up: Arc<AtomicBool>,
}

impl Keeper {
    /// Keep the layers that are sent. The channel closes when no further one is wanted.
    pub(super) fn new(stages: Stages, found: Found, most: u64, events: &Events) -> (Self, UnboundedSender<Layer>) {
        let (sender, layers) = unbounded_channel();
        let (events, given_up) = (events.clone(), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&given_up);
        let task = tokio::spawn(async move {
            match keep(&stages, found, layers, most, &flag).await {
                Ok(None) => {}
                Ok(Some(reason)) => events.detail(format!("no further stage is kept for later builds: {reason}")),
                Err(error) => {
                    let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                    events.warn(format!("no further stage is kept for later builds: {error}{reason}"));
                }
            }
        });
        (Self { task, given_up }, sender)
    }

    /// Wait until all that has been sent is kept. Nobody can send any more then.
    pub async fn finish(mut self) {
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// Keep layers as long as they come in their order, and follow from what is known of them. Gives why not, when one does not.
async fn keep(
    stages: &Stages,
    found: Found,
    mut layers: UnboundedReceiver<Layer>,
    most: u64,
    given_up: &Arc<AtomicBool>,
) -> Result<Option<&'static str>, StoreError> {
    let Found { layers: there, fetched: before, mut chain, mut top, mut alone } = found;
    let (mut next, mut left) = (there.len(), most);
    while let Some(layer) = layers.recv().await {
        let (true, Some((key, stage))) = (layer.stage == next, stages.keys.get(next)) else {
            return Ok(Some("one before it is missing"));
        };
        if !stages.files.are_unchanged(stage) {
            return Ok(Some("a file of the recipe was written to during the build"));
        }
        if !layer.indexes.iter().all(|index| stages.indexes.values().any(|known| known == index)) {
            return Ok(Some("packages come from an archive that no stage names, or that has changed during the build"));
        }
        let size = std::fs::metadata(&layer.path).map_or(u64::MAX, |data| data.blocks() * 512);
        let Some(rest) = left.checked_sub(size) else { return Ok(Some("it is more than --cache-size")) };
        left = rest;
        let inputs = before.inputs.iter().cloned().chain(layer.fetched.inputs).collect();
        let fetched = Inputs { inputs, omitted: before.omitted + layer.fetched.omitted };
        let made = stages.store.adopt(&layer_name(key, &top), &layer.path, fetched, given_up).await?;
        chain.push(made.path);
        stages.store.used(&chain);
        top = made.sha256;
        next += 1;
        // Before others are let in: they would begin with this stage's layer, and make the next one too.
        let name = stages.keys.get(next).map(|(key, _)| layer_name(key, &top));
        let following = name.map(|name| stages.store.try_alone(Making::Stage(&name))).transpose()?.flatten();
        let before: Option<Alone> = std::mem::replace(&mut alone, following);
        drop(before);
    }
    Ok(None)
}
