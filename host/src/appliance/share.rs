//! The packages of the appliance are those that most images begin with: the store of downloads gets them, so that the
//! first build does not fetch them a second time.

use super::fetch::Package;
use crate::dirs::Dirs;
use crate::event::Events;
use crate::store::{Fields, Store, StoreError};
use std::path::Path;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use url::Url;

/// Bytes that are copied at a time.
const PIECE: usize = 256 << 10;

/// Why a package did not get into the store.
#[derive(Debug, Error)]
enum ShareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Put `packages`, whose files lie in `archives` and have been verified, into the store, under the URLs by which guests
/// ask for them. What goes wrong is told and does no harm: they are fetched again.
pub async fn store(dirs: &Dirs, archives: &Path, packages: &[Package], events: &Events) {
    if let Err(error) = copy(dirs, archives, packages).await {
        events.detail(format!("the packages of the appliance are not in the store of downloads: {error}"));
    }
}

async fn copy(dirs: &Dirs, archives: &Path, packages: &[Package]) -> Result<(), ShareError> {
    let store = Store::open_waiting(dirs.store()).await?;
    let mut piece = vec![0; PIECE];
    // What comes through a TLS tunnel is not stored, so there is nobody to ask for it.
    for package in packages.iter().filter(|package| package.uri.starts_with("http://")) {
        // As the proxy writes it when a guest asks for it.
        let Ok(url) = Url::parse(&package.uri) else { continue };
        let mut file = tokio::fs::File::open(archives.join(&package.file)).await?;
        let mut object = store.put_stream(url.as_str(), Fields::default()).await?;
        loop {
            let read = file.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            object.write(&piece[..read]).await?;
        }
        object.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn packages_are_found_by_their_url() {
        let (cache, archives) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = Dirs::at(cache.path());
        let package = |scheme: &str, name: &str| {
            std::fs::write(archives.path().join(name), name).unwrap();
            Package { uri: format!("{scheme}://m/{name}"), file: name.into(), size: 1, sha256: String::new() }
        };
        let packages = [package("http", "a_1_all.deb"), package("https", "b_1_all.deb")];
        store(&dirs, archives.path(), &packages, &Events::none()).await;
        let store = Store::open(&dirs.store()).unwrap();
        let mut object = store.get("http://m/a_1_all.deb").await.unwrap().unwrap();
        let mut text = String::new();
        object.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a_1_all.deb");
        assert!(store.get("https://m/b_1_all.deb").await.unwrap().is_none());
    }
}
