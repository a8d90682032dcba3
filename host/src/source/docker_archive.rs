//! Images as `docker save` and `podman save` write them: their layers are tar archives, and there is no manifest as
//! registries have it, so one is made.
//!
//! Source: docker's "Image Specification v1.2", "Combined Image JSON + Filesystem Changeset Format".

use super::document::{self, CONFIGS, LAYERS, MANIFESTS, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST};
use super::error::Problem;
use super::files::{Files, Section};
use super::local::Local;
use super::{Context, Image, digest};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// The list of images in the archive.
pub const MANIFEST: &str = "manifest.json";

/// An image of that list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Read an image from the archive `path`.
///
/// # Errors
/// When there is none, or it is not whole.
pub async fn fetch(context: &Context<'_>, path: &Path, name: Option<&str>) -> Result<Image, Problem> {
    let owned = path.to_owned();
    let files = super::background(move |_| Files::archive(&owned, "archive of docker's")).await?;
    if files.open(MANIFEST)?.is_none() && files.open("index.json")?.is_some() {
        return Err(files.wrong("it is the archive of an OCI image layout: name it with oci-archive:"));
    }
    let items: Vec<Item> = document::parse("its manifest.json", &files.read(MANIFEST, MAX_MANIFEST)?)?;
    let item = choose(items, name, &files)?;
    if item.layers.len() > MAX_LAYERS {
        return Err(files.wrong(format!("it has {} layers, more than {MAX_LAYERS}", item.layers.len())));
    }
    let config = files.read(&item.config, MAX_CONFIG)?;
    let diff_ids = document::diff_ids(&config, &context.options.architecture, item.layers.len())?;
    let config_digest = digest::of(&config);
    let mut names = HashMap::from([(config_digest.clone(), item.config)]);
    let mut layers = Vec::new();
    for (number, (name, diff_id)) in item.layers.into_iter().zip(diff_ids).enumerate() {
        let what = document::layer_name(number);
        let missing = || files.wrong(format!("{what} is missing: it has no {}", document::shown(&name)));
        let section = files.open(&name)?.ok_or_else(missing)?;
        let size = section.size();
        let (media_type, digest) = match compression(&section) {
            None => (LAYERS[0], diff_id),
            Some(media_type) => (media_type, measure(section, &files).await?),
        };
        layers.push(json!({ "mediaType": media_type, "digest": digest, "size": size }));
        names.insert(digest, name);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFESTS[0],
        "config": { "mediaType": CONFIGS[0], "digest": config_digest, "size": config.len() },
        "layers": layers,
    });
    context.image(manifest.to_string().into_bytes(), None, &Local { files, names }).await
}

/// The image that is meant.
fn choose(mut items: Vec<Item>, name: Option<&str>, files: &Files) -> Result<Item, Problem> {
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let names: Vec<_> = items.iter().flat_map(tags).take(50).map(|name| document::shown(&name)).collect();
    if let Some(name) = name {
        let full = format!("{name}:latest");
        items.retain(|item| tags(item).iter().any(|tag| *tag == name || *tag == full));
    }
    match (items.pop(), items.is_empty()) {
        (Some(item), true) => Ok(item),
        _ => Err(Problem::Choice { place: files.name(), wanted: name.map(str::to_owned), names }),
    }
}

/// The type of a layer that is compressed, which `docker load` takes too.
fn compression(section: &Section) -> Option<&'static str> {
    let mut magic = [0; 4];
    // A layer of less is none that is compressed.
    section.clone().read_exact(&mut magic).ok()?;
    match magic {
        [0x1f, 0x8b, ..] => Some(LAYERS[1]),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(LAYERS[2]),
        _ => None,
    }
}

async fn measure(mut section: Section, files: &Files) -> Result<String, Problem> {
    let mut hash = Sha256::new();
    loop {
        let chunk = section.chunk().await.map_err(|error| files.wrong(format!("it cannot be read ({error})")))?;
        if chunk.is_empty() {
            return Ok(digest::finish(hash));
        }
        hash.update(&chunk);
    }
}
