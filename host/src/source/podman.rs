//! Images in podman's store, which podman hands out itself: how layers are kept there depends on the storage driver, and
//! rootless they belong to other users than ours.

use super::error::Problem;
use super::reference::PodmanStore;
use super::{Context, Image, local};
use crate::child;
use crate::workspace::Workspace;
use std::time::Duration;

/// Long enough for the largest images on a slow disk.
const DEADLINE: Duration = Duration::from_secs(60 * 60);

/// Have podman write the image into a folder of ours, and read it there.
///
/// # Errors
/// When podman is not there, or does not have the image.
pub async fn fetch(context: &Context<'_>, store: Option<&PodmanStore>, name: &str) -> Result<Image, Problem> {
    let workspace = Workspace::new(&context.dirs.work()).map_err(Problem::Workspace)?;
    let layout = workspace.path().join("image");
    let mut command = child::command("podman");
    // Nothing big is written to /tmp.
    command.env("TMPDIR", workspace.path());
    if let Some(PodmanStore { driver, root, run_root }) = store {
        command.arg("--root").arg(root);
        if let Some(run_root) = run_root {
            command.arg("--runroot").arg(run_root);
        }
        if let Some(driver) = driver {
            command.arg("--storage-driver").arg(driver);
        }
    }
    command.args(["image", "save", "--quiet", "--format", "oci-dir", "--output"]).arg(&layout).arg("--").arg(name);
    let step = context.events.step(format!("podman: save {name}"), None, crate::event::Unit::Bytes);
    child::run(command, DEADLINE).await.map_err(Problem::Podman)?;
    step.finish();
    local::folder(context, &layout, None).await
}
