//! What comes from elsewhere, and what it does to the appliances of this machine.

use super::manifest::{self, file};
use super::*;
use std::fs;

/// The digest of every appliance here.
fn digest() -> String {
    "ab".repeat(32)
}

/// An appliance in `folder`, whose files hold `content` after their names.
fn write(folder: &Path, content: &str) {
    fs::create_dir_all(folder).unwrap();
    let mut manifest = manifest::tests::sample();
    for name in file::ALL {
        fs::write(folder.join(name), format!("{name}{content}")).unwrap();
    }
    publish::describe(folder, &mut manifest, &background::GivenUp::default()).unwrap();
}

/// An archive of such an appliance.
async fn archive(folder: &Path, content: &str) -> PathBuf {
    let (source, path) = (folder.join(format!("source{content}")), folder.join(format!("archive{content}.tar")));
    write(&source, content);
    let appliance = Appliance::open(&source, &Dirs::at(folder)).await.unwrap();
    export::write(&appliance, &path, &background::GivenUp::default(), &Events::none()).unwrap();
    path
}

/// The archive without the digest in its index, which would have the cache answer at once.
fn unannounced(archive: &Path) {
    let bytes = fs::read(archive).unwrap();
    let (old, new) = (oci::APPLIANCE.as_bytes(), oci::APPLIANCE.replace("digest", "xxxxxx"));
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let changed = [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat();
    fs::write(archive, changed).unwrap();
    assert_eq!(import::announced(archive), None);
}

fn kernel(appliance: &Appliance) -> String {
    fs::read_to_string(appliance.kernel()).unwrap()
}

#[tokio::test]
async fn an_import_is_for_all_builds_also_when_the_appliance_is_there() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = Dirs::at(cache.path());
    let archive = archive(folder.path(), "").await;
    for _ in 0..2 {
        cache::enter(&dirs, None, &"0".repeat(64)).unwrap();
        import(&dirs, &archive, &Events::none()).await.unwrap();
        assert_eq!(cache::indexed(&dirs, None), Some(digest()));
    }
}

#[tokio::test]
async fn an_archive_is_looked_at_without_unpacking_it() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = Dirs::at(cache.path());
    let archive = archive(folder.path(), "").await;
    let request = Request { appliance: Some(archive.clone()), mirror: None };
    assert!(Appliance::present(&dirs, &request).await.unwrap().is_none());
    import(&dirs, &archive, &Events::none()).await.unwrap();
    assert!(Appliance::present(&dirs, &request).await.unwrap().is_some());
    fs::write(&archive, "text").unwrap();
    assert!(Appliance::present(&dirs, &request).await.is_err());
}

#[tokio::test]
async fn an_archive_for_one_build_is_not_for_the_next() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = Dirs::at(cache.path());
    let archive = archive(folder.path(), "").await;
    let found = Appliance::brought(&dirs, &archive, &Events::none()).await.unwrap();
    assert_eq!(found.digest(), digest());
    assert_eq!(cache::indexed(&dirs, None), None);
    assert!(!cache::is_entered(&dirs, &digest()));
}

#[tokio::test]
async fn an_archive_does_not_take_the_place_of_a_sound_appliance() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = Dirs::at(cache.path());
    let place = cache::folder(&dirs, &digest());
    write(&place, "");
    cache::enter(&dirs, None, &digest()).unwrap();
    let foreign = archive(folder.path(), "-foreign").await;
    unannounced(&foreign);
    let found = import(&dirs, &foreign, &Events::none()).await.unwrap();
    assert_eq!(kernel(&found), file::KERNEL);
    drop(found);
    // A damaged one does no good there.
    fs::write(place.join(file::KERNEL), "x").unwrap();
    let found = import(&dirs, &foreign, &Events::none()).await.unwrap();
    assert_eq!(kernel(&found), format!("{}-foreign", file::KERNEL));
}

#[tokio::test]
async fn what_came_for_one_build_is_not_imported_for_all() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = Dirs::at(cache.path());
    let (foreign, genuine) = (archive(folder.path(), "-foreign").await, archive(folder.path(), "").await);
    drop(Appliance::brought(&dirs, &foreign, &Events::none()).await.unwrap());
    let found = import(&dirs, &genuine, &Events::none()).await.unwrap();
    assert_eq!(kernel(&found), file::KERNEL);
    assert!(cache::is_entered(&dirs, &digest()));
}

#[tokio::test]
async fn an_appliance_in_use_is_not_removed() {
    let cache = tempfile::tempdir().unwrap();
    let dirs = Dirs::at(cache.path());
    let place = cache::folder(&dirs, &digest());
    write(&place, "");
    let found = Appliance::open(&place, &dirs).await.unwrap();
    let second = found.clone();
    drop(found);
    let error = remove(&dirs, "ababab", &Events::none()).await.unwrap_err();
    assert!(matches!(error, ApplianceError::InUse { .. }), "{error}");
    // Who goes on with the paths of its firmware only.
    let firmware = crate::boot::UefiFiles::from(&second);
    drop(second);
    let error = remove(&dirs, "ababab", &Events::none()).await.unwrap_err();
    assert!(matches!(error, ApplianceError::InUse { .. }), "{error}");
    drop(firmware);
    remove(&dirs, "ababab", &Events::none()).await.unwrap();
    assert!(!place.exists());
}

#[test]
fn an_appliance_that_lacks_a_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for name in &file::ALL[1..] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let mut manifest = manifest::tests::sample();
    let error = publish::describe(folder.path(), &mut manifest, &background::GivenUp::default()).unwrap_err();
    assert!(matches!(&error, ApplianceError::Io { path, .. } if path.ends_with(file::ALL[0])), "{error}");
}
