//! Configuration, manifest and index of a container (image-spec: config.md, manifest.md, image-index.md, image-layout.md).

use super::Contents;
use super::layer::Layer;
use crate::recipe::Compression;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What says who made the layer.
const CREATED_BY: &str = "particle-vm build";

/// The path of programs in a Debian system, as its login sets it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// application/vnd.oci.image.config.v1+json, with its fields in the order of the specification.
#[derive(Debug, Serialize)]
struct Configuration<'a> {
    created: String,
    architecture: &'a str,
    os: &'static str,
    config: Runtime<'a>,
    rootfs: RootFs,
    history: [History; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Runtime<'a> {
    env: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}

#[derive(Debug, Serialize)]
struct History {
    created: String,
    created_by: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Platform {
    architecture: String,
    os: &'static str,
}

/// The configuration of a container with this layer.
pub(super) fn configuration(contents: &Contents, diff_id: &str) -> io::Result<Vec<u8>> {
    let seconds = i64::try_from(contents.source_date).map_err(io::Error::other)?;
    let created = jiff::Timestamp::from_second(seconds).map_err(io::Error::other)?.to_string();
    let settings = &contents.container;
    let own = settings.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let path = (!settings.environment.contains_key("PATH")).then(|| PATH.to_owned());
    let configuration = Configuration {
        created: created.clone(),
        architecture: &contents.architecture,
        os: "linux",
        config: Runtime {
            env: path.into_iter().chain(own).collect(),
            entrypoint: &settings.entrypoint,
            cmd: &settings.command,
            labels: &settings.labels,
        },
        rootfs: RootFs { kind: "layers", diff_ids: [format!("sha256:{diff_id}")] },
        history: [History { created, created_by: CREATED_BY }],
    };
    Ok(serde_json::to_vec(&configuration)?)
}

/// Write all but the layer, which is in its place. Returns the digest of the manifest.
pub(super) fn write(layout: &Path, contents: &Contents, layer: &Layer) -> io::Result<String> {
    let configuration = configuration(contents, &layer.diff_id)?;
    let config = blob(layout, "application/vnd.oci.image.config.v1+json", &configuration)?;
    let layer = Descriptor {
        media_type: match layer.compression {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        },
        digest: format!("sha256:{}", layer.digest),
        size: layer.size,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::to_vec(&Manifest { schema_version: 2, media_type, config, layers: [layer] })?;
    let mut descriptor = blob(layout, media_type, &manifest)?;
    let digest = descriptor.digest.clone();
    descriptor.platform = Some(Platform { architecture: contents.architecture.clone(), os: "linux" });
    descriptor.annotations.insert("org.opencontainers.image.ref.name", contents.reference.clone());
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::to_vec(&Index { schema_version: 2, media_type, manifests: [descriptor] })?;
    create(&layout.join("index.json"), &index)?;
    create(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

fn blob(layout: &Path, media_type: &'static str, content: &[u8]) -> io::Result<Descriptor> {
    let digest = hex::encode(Sha256::digest(content));
    create(&layout.join("blobs/sha256").join(&digest), content)?;
    Ok(Descriptor {
        media_type,
        digest: format!("sha256:{digest}"),
        size: content.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    })
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    File::create_new(path)?.write_all(content)
}
