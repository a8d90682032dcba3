//! Building of an appliance: fetch, unpack, write, put in its place.

use super::assemble::Work;
use super::definition::{Definition, FORMAT};
use super::error::ApplianceError;
use super::fetch::Apt;
use super::manifest::{self, Manifest};
use super::{Appliance, ROOM, background, cache, definition, finish, publish, share};
use crate::dirs::Dirs;
use crate::event::Events;
use crate::vm::Hypervisor;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Build the appliance of the embedded definition from `mirror`, unless the cache has the very same one. The caller
/// holds the lock. Gives the digest.
///
/// # Errors
/// When packages cannot be fetched, verified or unpacked, or the cache cannot be written.
pub async fn build(
    dirs: &Dirs,
    hypervisor: &Hypervisor,
    mirror: &str,
    events: &Events,
) -> Result<String, ApplianceError> {
    let definition = Arc::new(Definition::embedded().map_err(ApplianceError::Definition)?);
    let parent = dirs.appliances();
    let workspace = Arc::new(Workspace::new(&parent).map_err(ApplianceError::Workspace)?);
    let apt = Apt::new(&workspace.path().join("apt"), &definition, mirror)?;
    let packages = apt.resolve(&definition, events).await?;
    let digest = manifest::digest(&packages);
    let place = cache::folder(dirs, &digest);
    // One of this digest that is not in the index was brought for a single build by an archive, which may say of itself
    // what it likes.
    if place.exists() && cache::is_entered(dirs, &digest) {
        match Appliance::open(&place, dirs).await {
            Ok(_) => return Ok(digest),
            Err(error) => events.warn(format!("{error}; it is built anew")),
        }
    }
    check_space(&parent, ROOM)?;
    apt.download(&packages, events).await?;

    let made = workspace.path().join("made");
    fs::create_dir(&made).map_err(ApplianceError::io("create", &made))?;
    let work = Work {
        definition: Arc::clone(&definition),
        packages,
        archives: apt.archives(),
        spools: workspace.path().to_owned(),
        made: made.clone(),
        events: events.clone(),
    };
    // The workspace stays until the blocking work has ended, also when nobody waits for it any more.
    let kept = Arc::clone(&workspace);
    let parts = background::run(move |given_up| {
        let parts = work.run(given_up);
        drop(kept);
        parts
    });
    let parts = parts.await?;
    let archives = apt.archives();
    let finished = finish::run(hypervisor, &workspace, &made, events);
    let (finished, ()) = tokio::join!(finished, share::store(dirs, &archives, &parts.shared, events));
    finished?;

    let mut manifest = Manifest {
        format: FORMAT,
        digest: digest.clone(),
        definition: definition::digest(),
        architecture: definition.architecture.clone(),
        suites: definition.suites.iter().map(|suite| suite.name.clone()).collect(),
        mirror: mirror.to_owned(),
        kernel_release: parts.kernel_release,
        modules: parts.modules,
        packages: parts.packages,
        files: BTreeMap::new(),
    };
    let dirs = dirs.clone();
    background::run(move |given_up| {
        publish::describe(&made, &mut manifest, given_up)?;
        publish::place(&dirs, &made, &manifest)?;
        drop(workspace);
        Ok(digest)
    })
    .await
}

/// Refuse to begin what cannot end well.
fn check_space(folder: &Path, needed: u64) -> Result<(), ApplianceError> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| ApplianceError::io("look at the space of", folder)(error.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    if free < needed {
        return Err(ApplianceError::Space { path: folder.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Classify};

    #[test]
    fn an_appliance_that_has_no_room_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        check_space(dir.path(), 1).unwrap();
        let error = check_space(dir.path(), 1 << 60).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("the appliance needs 1.0 EiB in {}, where ", dir.path().display())),
            "{text}"
        );
        assert!(matches!(error, ApplianceError::Space { needed, free, .. } if needed == 1 << 60 && free > 0), "{text}");
        assert_eq!(error.class(), Class::Host);
        assert!(error.advice().is_some());
    }
}
