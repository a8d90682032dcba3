//! Images from a folder into the store, and from there into a layout and into plain layers.

use super::*;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

/// A layout in a folder, the store, and a folder for what comes out.
struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

/// How a layer is packed.
#[derive(Clone, Copy, PartialEq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// The type of the packed layer that is only called so: the bytes count.
const LAYER: &str = document::LAYERS[1];

fn packed(plain: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::None => plain.to_owned(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(plain, 19).unwrap(),
    }
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        fs::create_dir_all(dir.path().join("layout/blobs/sha256")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        Self { dir, store }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest::of(bytes);
        let name = digest.strip_prefix("sha256:").unwrap();
        fs::write(self.dir.path().join("layout/blobs/sha256").join(name), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Write a layout of these layers: packed bytes, and the digest that the configuration says they have.
    fn write(&self, layers: &[(Vec<u8>, String)]) {
        let entries: Vec<_> = layers.iter().map(|(packed, _)| self.blob(LAYER, packed)).collect();
        let ids: Vec<_> = layers.iter().map(|(_, id)| id).collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } });
        let config = self.blob(document::CONFIGS[0], config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": entries });
        let manifest = self.blob(document::MANIFESTS[0], manifest.to_string().as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.dir.path().join("layout/index.json"), index.to_string()).unwrap();
    }

    fn write_packed(&self, layers: &[(&[u8], Packing)]) {
        let layers: Vec<_> =
            layers.iter().map(|(plain, packing)| (packed(plain, *packing), digest::of(plain))).collect();
        self.write(&layers);
    }

    async fn fetch(&self, max_size: u64) -> Result<Image, SourceError> {
        let reference = format!("oci:{}", self.dir.path().join("layout").display()).parse().unwrap();
        let options = Options { max_size, ..Options::new("amd64") };
        let dirs = Dirs::at(self.dir.path());
        Image::fetch(&reference, &options, &self.store, &dirs, &Events::none()).await
    }
}

fn text(error: SourceError) -> String {
    crate::Error::from(error).to_string()
}

#[tokio::test]
async fn layers_are_unpacked_whatever_their_packing() {
    let place = Place::new();
    let layers: [(&[u8], _); 4] =
        [(b"plain", Packing::None), (b"gzip", Packing::Gzip), (b"zstd", Packing::Zstd), (b"", Packing::None)];
    place.write_packed(&layers);
    let image = place.fetch(MAX_SIZE).await.unwrap();
    let paths = image.unpack(&place.out(), &Events::none()).await.unwrap();
    assert_eq!(paths.len(), 4);
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(*path, place.out().join(format!("layer-{number}.tar")));
        assert_eq!(fs::read(path).unwrap(), layers[number].0);
    }
    // A stream of several members, as some tools write them, is one layer.
    let twice = [packed(b"one", Packing::Gzip), packed(b"two", Packing::Gzip)].concat();
    let place = Place::new();
    place.write(&[(twice, digest::of(b"onetwo"))]);
    let paths = place.fetch(MAX_SIZE).await.unwrap().unpack(&place.out(), &Events::none()).await.unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), b"onetwo");
}

#[tokio::test]
async fn a_layout_is_an_image_again() {
    let place = Place::new();
    place.write_packed(&[(b"one", Packing::Gzip), (b"one", Packing::Gzip), (b"two", Packing::Zstd)]);
    let image = place.fetch(MAX_SIZE).await.unwrap();
    image.layout(&place.out(), &Events::none()).await.unwrap();
    let reference = format!("oci:{}", place.out().display()).parse().unwrap();
    let store = Store::open(&place.dir.path().join("other")).unwrap();
    let dirs = Dirs::at(place.dir.path());
    let again = Image::fetch(&reference, &Options::new("amd64"), &store, &dirs, &Events::none()).await.unwrap();
    assert_eq!((&again.digest, &again.manifest, &again.config), (&image.digest, &image.manifest, &image.config));
    assert_eq!(again.layers, image.layers);
}

#[tokio::test]
async fn a_bomb_is_cut_off() {
    let zeros = vec![0; 4 << 20];
    for packing in [Packing::Gzip, Packing::Zstd] {
        let place = Place::new();
        let packed = packed(&zeros, packing);
        assert!(packed.len() < 1 << 14);
        place.write(&[(packed, digest::of(&zeros))]);
        let mut image = place.fetch(MAX_SIZE).await.unwrap();
        image.always = 3 << 20;
        let error = text(image.unpack(&place.out(), &Events::none()).await.unwrap_err());
        assert!(error.contains("layer 1 unpacks to more than 3.0 MiB, from"), "{error}");
        assert_eq!(fs::read_dir(place.out()).unwrap().count(), 0);
        // So much is found in real layers.
        image.always = unpack::ALWAYS;
        image.unpack(&place.out(), &Events::none()).await.unwrap();
    }
}

#[tokio::test]
async fn an_image_has_no_more_than_it_may() {
    let place = Place::new();
    let layers = [vec![1; 6000], vec![2; 6000]];
    place.write_packed(&[(&layers[0], Packing::Gzip), (&layers[1], Packing::Gzip)]);
    let image = place.fetch(10_000).await.unwrap();
    let error = image.unpack(&place.out(), &Events::none()).await.unwrap_err();
    assert!(error.to_string().contains("cannot use the image oci:"));
    assert!(matches!(error.source, Problem::Unpacked { most: 10_000 }), "{error:?}");
}

#[tokio::test]
async fn a_layer_that_is_another_is_refused() {
    let failing = async |packed: Vec<u8>, id: String| {
        let place = Place::new();
        place.write(&[(packed, id)]);
        let image = place.fetch(MAX_SIZE).await.unwrap();
        let error = text(image.unpack(&place.out(), &Events::none()).await.unwrap_err());
        assert_eq!(fs::read_dir(place.out()).unwrap().count(), 0);
        error
    };
    let error = failing(packed(b"one", Packing::Gzip), digest::of(b"two")).await;
    assert!(error.contains("layer 1, unpacked, has the digest"), "{error}");
    let mut broken = packed(&[7; 5000], Packing::Gzip);
    broken.truncate(broken.len() / 2);
    let error = failing(broken, digest::of(&[7; 5000])).await;
    assert!(error.contains("layer 1 cannot be unpacked"), "{error}");
    let error = failing(b"\xfd7zXZ\0".to_vec(), digest::of(b"")).await;
    assert!(error.contains("neither gzip nor zstd"), "{error}");
}

#[tokio::test]
async fn what_rots_in_the_store_is_noticed() {
    let place = Place::new();
    place.write_packed(&[(b"one", Packing::None)]);
    let image = place.fetch(MAX_SIZE).await.unwrap();
    let mut folders = vec![place.dir.path().join("store/content-v2")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if fs::read(entry.path()).unwrap() == b"one" {
                fs::write(entry.path(), b"two").unwrap();
            }
        }
    }
    let error = text(image.unpack(&place.out(), &Events::none()).await.unwrap_err());
    assert!(error.contains("layer 1 has the digest"), "{error}");
    let error = text(image.layout(&place.out(), &Events::none()).await.unwrap_err());
    assert!(error.contains("layer 1 has the digest"), "{error}");
    // The next fetch finds out, and takes it from where it came.
    fs::remove_dir_all(place.out()).unwrap();
    fs::create_dir(place.out()).unwrap();
    let image = place.fetch(MAX_SIZE).await.unwrap();
    image.unpack(&place.out(), &Events::none()).await.unwrap();
    place.store.prune(0).unwrap();
    let error = text(image.layout(&place.out(), &Events::none()).await.unwrap_err());
    assert!(error.contains("layer 1 is not in the store any more"), "{error}");
}

#[tokio::test]
async fn what_a_layout_lacks_is_named() {
    let place = Place::new();
    let error = text(place.fetch(MAX_SIZE).await.unwrap_err());
    assert!(error.contains("it has no index.json"), "{error}");
    place.write_packed(&[(b"one", Packing::None)]);
    let blob = digest::of(b"one").replace("sha256:", "layout/blobs/sha256/");
    fs::write(place.dir.path().join(&blob), "two").unwrap();
    let error = text(place.fetch(MAX_SIZE).await.unwrap_err());
    assert!(error.contains("layer 1 has the digest"), "{error}");
    fs::write(place.dir.path().join(&blob), "more").unwrap();
    let error = text(place.fetch(MAX_SIZE).await.unwrap_err());
    assert!(error.contains("layer 1 has 4 bytes, and not 3"), "{error}");
    fs::remove_file(place.dir.path().join(&blob)).unwrap();
    let error = text(place.fetch(MAX_SIZE).await.unwrap_err());
    assert!(error.contains("layer 1 is missing"), "{error}");
}
