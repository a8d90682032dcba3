//! What a build would do with each stage, without a build.

use super::host::Host;
use super::prepare::{Options, Prepared};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::Events;
use crate::stages::{Explained, Reading, Stages};
use crate::store::Store;
use crate::vm::Accel;
use crate::workspace::Workspace;
use std::sync::Arc;

/// Tell of each stage of `prepared` whether a build would run it, and why. Nothing is started and nothing built: without an
/// appliance all stages would run.
///
/// # Errors
/// When the store or a file of the recipe cannot be read.
pub async fn explain(prepared: &Prepared, options: &Options, dirs: &Dirs, events: &Events) -> Result<Vec<Explained>> {
    let plan = &prepared.planned.plan;
    let titles: Vec<String> = plan.stages.iter().map(|planned| planned.title.clone()).collect();
    let host = Host::detect(dirs.clone(), Accel::Auto, events).await?;
    if host.appliance_need(&options.sources)?.is_some() {
        let because = vec!["there is no appliance yet".to_owned()];
        return Ok(titles.into_iter().map(|title| Explained { title, runs: true, because: because.clone() }).collect());
    }
    let appliance = host.appliance(&options.sources, events).await?;
    let store = Store::open_waiting(dirs.store()).await?;
    let files = Arc::new(Reading::start(&prepared.recipe).finish().await?);
    let stages = Stages::of(&prepared.recipe, &prepared.planned, appliance.digest(), files, &store, events).await;
    let workspace = Workspace::new(&dirs.work())?;
    let reused = stages.depth(workspace.path()).await?;
    Ok(stages.explain(&prepared.recipe.name, &titles, reused, dirs))
}
