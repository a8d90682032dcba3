//! Putting of a whole appliance into its place in the cache.

use super::background::{self, GivenUp};
use super::cache;
use super::error::ApplianceError;
use super::manifest::{self, Manifest, file};
use super::verify;
use crate::dirs::Dirs;
use crate::event::Events;
use crate::workspace::Workspace;
use std::fs::{self, File};
use std::path::Path;

/// What an archive is brought for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The build that names it.
    OneBuild,
    /// All builds from now on.
    AllBuilds,
}

/// Bring the appliance of an archive into its place. The caller holds the lock. Gives the digest.
///
/// # Errors
/// When the archive is none of an appliance for this program, or the cache cannot be written.
pub async fn import(dirs: &Dirs, archive: &Path, purpose: Purpose, events: &Events) -> Result<String, ApplianceError> {
    let (dirs, archive, events) = (dirs.clone(), archive.to_owned(), events.clone());
    background::run(move |given_up| {
        let workspace = Workspace::new(&dirs.appliances()).map_err(ApplianceError::Workspace)?;
        let (blobs, made) = (workspace.path().join("blobs"), workspace.path().join("made"));
        for folder in [&blobs, &made] {
            fs::create_dir(folder).map_err(ApplianceError::io("create", folder))?;
        }
        let manifest = super::import::read(&archive, &blobs, &made, given_up, &events)?;
        // The digest is what the archive says: it may not take the place of one that was built here, nor be taken for all
        // builds when it came for one.
        let folder = cache::folder(&dirs, &manifest.digest);
        let is_known = purpose == Purpose::OneBuild || cache::is_entered(&dirs, &manifest.digest);
        if !(is_known && verify::is_sound(&folder, &dirs)) {
            place(&dirs, &made, &manifest)?;
        }
        Ok(manifest.digest)
    })
    .await
}

/// Describe the files in `made` in the manifest, and write it there.
///
/// # Errors
/// When a file is missing or cannot be read, the manifest cannot be written, or nobody waits any more.
pub fn describe(made: &Path, manifest: &mut Manifest, given_up: &GivenUp) -> Result<(), ApplianceError> {
    for name in file::ALL {
        let path = made.join(name);
        let file = File::open(&path).map_err(ApplianceError::io("open", &path))?;
        let file = manifest::measure(given_up.reader(file), |_| Ok(())).map_err(ApplianceError::io("read", path))?;
        manifest.files.insert(name.to_owned(), file);
    }
    let path = made.join(manifest::FILE);
    let text = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::from);
    let text = text.map_err(ApplianceError::io("write", &path))?;
    fs::write(&path, text).map_err(ApplianceError::io("write", &path))
}

/// Bring the files in `made` to the disk, and the folder to its place in the cache.
///
/// # Errors
/// When the cache cannot be written.
pub fn place(dirs: &Dirs, made: &Path, manifest: &Manifest) -> Result<(), ApplianceError> {
    let sync =
        |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(ApplianceError::io("write", path));
    for name in manifest.files.keys().map(String::as_str).chain([manifest::FILE]) {
        sync(&made.join(name))?;
    }
    sync(made)?;
    let folder = cache::folder(dirs, &manifest.digest);
    if folder.exists() {
        // It is damaged, or nobody knows where it came from: of no use to whoever has it open.
        cache::bury(dirs, &manifest.digest)?;
    }
    fs::rename(made, &folder).map_err(ApplianceError::io("create", &folder))?;
    sync(&dirs.appliances())
}
