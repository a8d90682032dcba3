//! Configuration, manifest and index of a container (image-spec: config.md, manifest.md, image-index.md, image-layout.md).

use super::Contents;
use super::layer::Layer;
use crate::recipe::Compression;
use oci_spec::OciSpecError;
use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What says who made the layer.
const CREATED_BY: &str = "particle-vm build";

/// The path of programs in a Debian system, as its login sets it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of a container with this layer.
pub(super) fn configuration(contents: &Contents, diff_id: &str) -> io::Result<Vec<u8>> {
    let seconds = i64::try_from(contents.source_date).map_err(io::Error::other)?;
    let created = jiff::Timestamp::from_second(seconds).map_err(io::Error::other)?.to_string();
    let settings = &contents.container;
    let own = settings.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let path = (!settings.environment.contains_key("PATH")).then(|| PATH.to_owned());
    let mut config = contents.inherited.clone();
    config.set_env(Some(path.into_iter().chain(own).collect()));
    config.set_entrypoint(Some(settings.entrypoint.clone()).filter(|arguments| !arguments.is_empty()));
    config.set_cmd(Some(settings.command.clone()).filter(|arguments| !arguments.is_empty()));
    config.set_labels(
        Some(settings.labels.clone().into_iter().collect()).filter(|labels: &HashMap<_, _>| !labels.is_empty()),
    );
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids([format!("sha256:{diff_id}")]);
    let history = HistoryBuilder::default().created(created.clone()).created_by(CREATED_BY);
    let configuration = ImageConfigurationBuilder::default()
        .created(created)
        .architecture(contents.architecture.as_str())
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs.build().map_err(cannot)?)
        .history([history.build().map_err(cannot)?]);
    json(&configuration.build().map_err(cannot)?)
}

/// Write all but the layer, which is in its place. Returns the digest of the manifest.
pub(super) fn write(layout: &Path, contents: &Contents, layer: &Layer) -> io::Result<String> {
    let config = blob(layout, MediaType::ImageConfig, &configuration(contents, &layer.diff_id)?)?;
    let media_type = match layer.compression {
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    };
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers([descriptor(media_type, layer.size, &layer.digest)?]);
    let mut manifest = blob(layout, MediaType::ImageManifest, &json(&manifest.build().map_err(cannot)?)?)?;
    let digest = manifest.digest().to_string();
    let platform = PlatformBuilder::default().architecture(contents.architecture.as_str()).os(Os::Linux);
    manifest.set_platform(Some(platform.build().map_err(cannot)?));
    manifest.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), contents.reference.clone())])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest]);
    create(&layout.join("index.json"), &json(&index.build().map_err(cannot)?)?)?;
    create(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

fn blob(layout: &Path, media_type: MediaType, content: &[u8]) -> io::Result<Descriptor> {
    let digest = hex::encode(Sha256::digest(content));
    create(&layout.join("blobs/sha256").join(&digest), content)?;
    descriptor(media_type, content.len() as u64, &digest)
}

fn descriptor(media_type: MediaType, size: u64, digest: &str) -> io::Result<Descriptor> {
    Ok(Descriptor::new(media_type, size, digest.parse::<Sha256Digest>().map_err(cannot)?))
}

/// With sorted keys, since the maps of these types have no order: the same container has the same bytes.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    File::create_new(path)?.write_all(content)
}

fn cannot(error: OciSpecError) -> io::Error {
    io::Error::other(error)
}
