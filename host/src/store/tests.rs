use super::*;
use std::time::Duration;

const KEY: &str = "http://example.org/pool/a_1_amd64.deb";

async fn put(store: &Store, key: &str, bytes: &[u8]) {
    let mut put = store.put_stream(key, Fields::default()).await.unwrap();
    put.write(bytes).await.unwrap();
    put.commit().await.unwrap();
}

async fn read(store: &Store, key: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut store.get(key).await.unwrap()?.file, &mut bytes).unwrap();
    Some(bytes)
}

fn files(root: &Path) -> usize {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn an_object_is_there_when_it_is_complete_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.get(KEY).await.unwrap().is_none());
    let fields = Fields::new(None, None, Some("\"1\"".into()));
    let mut put = store.put_stream(KEY, fields.clone()).await.unwrap();
    put.write(b"hel").await.unwrap();
    assert!(store.get(KEY).await.unwrap().is_none());
    put.write(b"lo").await.unwrap();
    put.commit().await.unwrap();
    let object = store.get(KEY).await.unwrap().unwrap();
    assert_eq!((object.size, &object.fields), (5, &fields));
    assert_eq!(object.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(read(&store, KEY).await.unwrap(), b"hello");
    assert_eq!(store.size().unwrap(), 5);
}

#[tokio::test]
async fn an_object_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut put = store.put_stream(KEY, Fields::default()).await.unwrap();
    put.write(b"half").await.unwrap();
    drop(put);
    assert_eq!(files(&dir.path().join(UNFINISHED)), 0);
    assert!(store.get(KEY).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_by_the_next_one_that_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(UNFINISHED).join("left");
    let first = Store::open(dir.path()).unwrap();
    std::fs::create_dir(left.parent().unwrap()).unwrap();
    File::create(&left).unwrap();
    let second = Store::open(dir.path()).unwrap();
    assert!(left.exists());
    drop((first, second));
    Store::open(dir.path()).unwrap();
    assert!(!left.exists());
}

#[tokio::test]
async fn a_rotten_object_is_absent_and_can_be_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, KEY, b"hello").await;
    let path = store.contents().unwrap().remove(0).path;
    for rot in [&b"hullo"[..], b"hell", b""] {
        std::fs::write(&path, rot).unwrap();
        assert!(store.get(KEY).await.unwrap().is_none());
        put(&store, KEY, b"hello").await;
        assert_eq!(read(&store, KEY).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn a_doubted_object_is_absent_until_it_is_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.doubt(KEY).unwrap();
    put(&store, KEY, b"wrong").await;
    store.doubt(KEY).unwrap();
    assert!(store.get(KEY).await.unwrap().is_none());
    put(&store, KEY, b"right").await;
    assert_eq!(read(&store, KEY).await.unwrap(), b"right");
}

#[tokio::test]
async fn prune_removes_what_has_not_been_used_for_the_longest_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (name, age) in [("b", 20), ("a", 30), ("c", 10)] {
        put(&store, name, name.repeat(10).as_bytes()).await;
        let sha256 = store.get(name).await.unwrap().unwrap().sha256;
        let ours = |content: &Content| sha256.ends_with(content.path.file_name().unwrap().to_str().unwrap());
        let content = store.contents().unwrap().into_iter().find(ours).unwrap();
        let used = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(content.path).unwrap().set_modified(used).unwrap();
    }
    put(&store, "second name of a", &b"a".repeat(10)).await;
    assert_eq!(store.prune(30).unwrap(), Pruned::default());
    assert!(read(&store, "b").await.is_some());
    assert_eq!(store.prune(10).unwrap(), Pruned { objects: 2, bytes: 20 });
    assert_eq!(store.size().unwrap(), 10);
    assert!(read(&store, "c").await.is_none());
}

#[tokio::test]
async fn many_writers_of_one_object_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let stores: Vec<_> = (0..8).map(|_| Store::open(dir.path()).unwrap()).collect();
    let bytes = vec![7; 300_000];
    let writes = stores.iter().map(|store| put(store, KEY, &bytes));
    futures::future::join_all(writes).await;
    assert_eq!(read(&stores[0], KEY).await.unwrap(), bytes);
    assert_eq!(stores[1].size().unwrap(), 300_000);
}

#[tokio::test]
async fn a_store_that_is_being_swept_is_waited_for_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let other = File::open(dir.path().join("lock")).unwrap();
    other.lock().unwrap();
    let opened = Store::open_waiting(dir.path().to_owned());
    tokio::pin!(opened);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut opened).await.is_err());
    drop(other);
    opened.await.unwrap();
}

#[tokio::test]
async fn one_after_the_other_fetches_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.alone(Making::Download(KEY)).await.unwrap();
    // Another handle is what another process has.
    let other = Store::open(dir.path()).unwrap();
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(300), other.alone(Making::Download(KEY))).await;
    assert!(waiting.is_err(), "two are alone");
    let (_, second) = tokio::join!(async { drop(first) }, other.alone(Making::Download(KEY)));
    drop(second.unwrap());
    assert_eq!(files(&dir.path().join("locks")), 1, "each has made a file");
}
