//! Container images that tests make: their blobs, an OCI image layout of them, and what is wrong with some.

use crate::Layer;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Media types of OCI.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// See [`MANIFEST`].
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// See [`MANIFEST`].
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// See [`MANIFEST`].
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its blobs by their digests, without the manifest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Its manifest, to be changed.
    pub manifest: Value,
    /// Digests of its unpacked layers.
    pub diff_ids: Vec<String>,
}

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Bytes that do not compress, the same each time.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A layer with one file.
pub fn layer(path: &str, content: &[u8]) -> Vec<u8> {
    Layer::new().file(path, 0o644, content).done()
}

/// The layers of an image that is deployed, and of which nobody expects that it boots.
pub fn bootable() -> Vec<Vec<u8>> {
    let names = ["boot", "dev", "proc", "run", "sys", "sysroot", "tmp"];
    vec![
        names.iter().fold(Layer::new(), |layer, name| layer.folder(name, 0o755)).done(),
        layer("etc/os-release", b"ID=debian\n"),
        layer("var/lib/state", b"kept\n"),
        layer("usr/lib/modules/6.1/vmlinuz", &noise(300_000, 26)),
        layer("usr/lib/modules/6.1/initramfs.img", &noise(300_000, 27)),
    ]
}

impl Image {
    /// An image for `architecture` with layers that are given as tar archives.
    pub fn of(architecture: &str, layers: &[Vec<u8>]) -> Self {
        Self::labelled(architecture, layers, &json!({ "org.example.purpose": "test" }))
    }

    /// The same with other labels.
    pub fn labelled(architecture: &str, layers: &[Vec<u8>], labels: &Value) -> Self {
        let mut blobs = BTreeMap::new();
        let mut put = |media_type: &str, bytes: Vec<u8>| {
            let (digest, size) = (digest(&bytes), bytes.len());
            blobs.insert(digest.clone(), bytes);
            json!({ "mediaType": media_type, "digest": digest, "size": size })
        };
        let packed = |layer: &Vec<u8>| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(layer).unwrap();
            put(LAYER, encoder.finish().unwrap())
        };
        let entries: Vec<_> = layers.iter().map(packed).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = put(CONFIG, config.to_string().into_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": entries });
        Self { blobs, manifest, diff_ids }
    }

    /// One with two layers, of some bytes and of a good megabyte. Each `seed` makes another.
    pub fn sample(seed: u64) -> Self {
        // What has no os-release is no system, and `inspect` ends with 1.
        let text = format!("ID=debian\n# sample {seed}\n");
        Self::of("amd64", &[layer("etc/os-release", text.as_bytes()), layer("usr/noise", &noise(1_200_000, seed))])
    }

    /// The manifest as it is sent.
    pub fn text(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    /// The digest of layer `number`.
    pub fn layer(&self, number: usize) -> String {
        self.manifest["layers"][number]["digest"].as_str().unwrap().to_owned()
    }

    /// The digest of the configuration.
    pub fn config(&self) -> String {
        self.manifest["config"]["digest"].as_str().unwrap().to_owned()
    }

    /// Write it as an OCI image layout.
    pub fn write_layout(&self, dir: &Path, tag: &str) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let text = self.text();
        let own = digest(&text);
        for (digest, bytes) in self.blobs.iter().chain([(&own, &text)]) {
            std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        }
        let entry = json!({
            "mediaType": MANIFEST, "digest": own, "size": text.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
        });
        std::fs::write(dir.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())
            .unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}
