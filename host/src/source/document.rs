//! Manifests, indexes and configurations: what they may be, and which one of an index is taken.
//!
//! Sources: OCI Image Format Specification 1.1 ("Image Index", "Image Manifest", "Image Configuration"); docker's "Image
//! Manifest Version 2, Schema 2".

use super::digest;
use super::error::Problem;
use bytesize::ByteSize;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Most bytes of a manifest or an index: what registries accept.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// Most bytes of a configuration.
pub const MAX_CONFIG: u64 = 4 << 20;

/// Most layers, wherever they are looked at. Overlay file systems take 500, docker 125.
pub const MAX_LAYERS: usize = 512;

/// Type of an index, as OCI and docker call it.
pub const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Type of a manifest, as OCI and docker call it.
pub const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Type of a configuration, as OCI and docker call it.
pub const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Types of layers. The compression is told by the bytes: what these say of it is not always so.
pub const LAYERS: [&str; 11] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// An annotation of what belongs to an image in its index and is none itself: a signature, a provenance.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// What a name leads to.
#[derive(Debug)]
pub enum Top {
    /// Several images.
    Index(Box<ImageIndex>),
    /// One image, with the type of its manifest.
    Manifest(Box<ImageManifest>, &'static str),
}

/// What tells one from the other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

/// Read `text`, which was handed out as `declared`.
///
/// # Errors
/// When it is neither an index nor a manifest, or could be taken for either (CVE-2021-41190).
pub fn top(text: &[u8], declared: Option<&str>) -> Result<Top, Problem> {
    let shape: Shape = parse("its manifest", text)?;
    if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
        return Err(Problem::FirstSchema);
    }
    let malformed = |reason: &str| Problem::Malformed { what: "its manifest".into(), reason: reason.into() };
    // The type may carry parameters, and servers of files have types of their own for all that is JSON.
    let declared = declared.map(|text| text.split(';').next().unwrap_or_default().trim());
    let declared =
        declared.filter(|text| !["application/json", "text/plain", "application/octet-stream"].contains(text));
    if let (Some(own), Some(declared)) = (shape.media_type.as_deref(), declared)
        && own != declared
    {
        return Err(malformed(&format!("it is handed out as {}, and calls itself {}", shown(declared), shown(own))));
    }
    let guessed = if shape.manifests.is_some() { INDEXES[0] } else { MANIFESTS[0] };
    let media_type = shape.media_type.as_deref().or(declared).unwrap_or(guessed);
    if shape.manifests.is_some() && shape.layers.is_some() {
        return Err(malformed("it is an index and a manifest at once"));
    }
    if INDEXES.contains(&media_type) {
        return Ok(Top::Index(Box::new(parse("its index", text)?)));
    }
    match MANIFESTS.into_iter().find(|own| *own == media_type) {
        Some(media_type) => Ok(Top::Manifest(Box::new(parse("its manifest", text)?), media_type)),
        None => Err(Problem::MediaType { what: "what the name leads to".into(), media_type: shown(media_type) }),
    }
}

/// Read a JSON document.
///
/// # Errors
/// When it cannot be read.
pub fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, Problem> {
    let malformed =
        |error: serde_json::Error| Problem::Malformed { what: what.into(), reason: shown(&error.to_string()) };
    serde_json::from_slice(text).map_err(malformed)
}

/// A document that is larger than any.
pub fn oversized(what: &str, size: u64, most: u64) -> Problem {
    let reason = format!("it has {}, and may have {}", ByteSize(size), ByteSize(most));
    Problem::Malformed { what: what.into(), reason }
}

/// Words of somebody else, as far as they fit into a message.
pub fn shown(text: &str) -> String {
    let line = crate::clean::line(text);
    if line.chars().count() <= 200 { line.into_owned() } else { line.chars().take(200).chain(['…']).collect() }
}

/// The manifest for `architecture`. Where an index has several for variants of a processor, the one that runs on all of
/// them is taken.
///
/// # Errors
/// When there is none.
pub fn choose<'a>(index: &'a ImageIndex, architecture: &str) -> Result<&'a Descriptor, Problem> {
    let images = || {
        let is_image =
            |entry: &&Descriptor| !entry.annotations().as_ref().is_some_and(|notes| notes.contains_key(ATTESTATION));
        index.manifests().iter().filter(is_image)
    };
    let fits = |entry: &&Descriptor| {
        entry.platform().as_ref().is_some_and(|platform| {
            platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture
        })
    };
    let variant = |entry: &&Descriptor| entry.platform().as_ref().and_then(|platform| platform.variant().clone());
    if let Some(entry) = images().filter(fits).min_by_key(variant) {
        return Ok(entry);
    }
    // One that says nothing is held to its configuration.
    let mut silent = images().filter(|entry| entry.platform().is_none());
    if let (Some(entry), None) = (silent.next(), silent.next()) {
        return Ok(entry);
    }
    let platform = |entry: &Descriptor| {
        let platform = entry.platform().as_ref()?;
        Some(shown(&format!("{}/{}", platform.os(), platform.architecture())))
    };
    let mut found: Vec<_> = images().filter_map(platform).take(50).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        found.push("nothing at all".into());
    }
    Err(Problem::Architecture { wanted: architecture.into(), found })
}

/// Hold a manifest to what an image may be. `most` is the most bytes of all layers.
///
/// # Errors
/// When it is no image, or larger than any.
pub fn check_manifest(manifest: &ImageManifest, most: u64) -> Result<(), Problem> {
    let config = manifest.config().media_type().to_string();
    if !CONFIGS.contains(&config.as_str()) {
        return Err(Problem::MediaType { what: "its configuration".into(), media_type: shown(&config) });
    }
    check_digest("its configuration", manifest.config())?;
    let count = manifest.layers().len();
    if count > MAX_LAYERS {
        let reason = format!("it has {count} layers, and an image has at most {MAX_LAYERS}");
        return Err(Problem::Malformed { what: "its manifest".into(), reason });
    }
    let mut total = 0_u64;
    for (number, layer) in manifest.layers().iter().enumerate() {
        let what = layer_name(number);
        let media_type = layer.media_type().to_string();
        if media_type.ends_with("+encrypted") {
            return Err(Problem::Encrypted { what });
        }
        if !LAYERS.contains(&media_type.as_str()) {
            return Err(Problem::MediaType { what, media_type: shown(&media_type) });
        }
        check_digest(&what, layer)?;
        total = total.saturating_add(layer.size());
    }
    if total > most {
        return Err(Problem::TooLarge { what: "the sum of its layers", size: total, most });
    }
    Ok(())
}

/// What a layer is called in messages.
pub fn layer_name(number: usize) -> String {
    format!("layer {}", number + 1)
}

/// Hold a descriptor to a digest that is known here.
///
/// # Errors
/// When it has another.
pub fn check_digest(what: &str, descriptor: &Descriptor) -> Result<(), Problem> {
    if digest::sha256(descriptor.digest().as_ref()).is_some() {
        return Ok(());
    }
    let reason = format!("its digest is no SHA-256 in lower case: {}", shown(descriptor.digest().as_ref()));
    Err(Problem::Malformed { what: what.into(), reason })
}

/// The digests of the unpacked layers, from the configuration.
///
/// # Errors
/// When the image is for another architecture, or does not have `layers` of them.
pub fn diff_ids(config: &[u8], architecture: &str, layers: usize) -> Result<Vec<String>, Problem> {
    let config: ImageConfiguration = parse("its configuration", config)?;
    let (os, own) = (config.os().to_string(), config.architecture().to_string());
    if os != "linux" || own != architecture {
        let found = vec![shown(&format!("{os}/{own}"))];
        return Err(Problem::Architecture { wanted: architecture.into(), found });
    }
    let malformed = |reason| Problem::Malformed { what: "its configuration".into(), reason };
    let found = config.rootfs().diff_ids();
    if found.len() != layers {
        return Err(malformed(format!("it names {} layers, and its manifest {layers}", found.len())));
    }
    if let Some(wrong) = found.iter().find(|id| digest::sha256(id).is_none()) {
        return Err(malformed(format!("it names a layer by what is no SHA-256: {}", shown(wrong))));
    }
    Ok(found.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn entry(architecture: &str, variant: Option<&str>, size: u64) -> Value {
        let mut platform = json!({ "os": "linux", "architecture": architecture });
        if let Some(variant) = variant {
            platform["variant"] = variant.into();
        }
        json!({ "mediaType": MANIFESTS[0], "digest": DIGEST, "size": size, "platform": platform })
    }

    fn index(entries: &[Value]) -> ImageIndex {
        serde_json::from_value(json!({ "schemaVersion": 2, "manifests": entries })).unwrap()
    }

    fn manifest(layers: usize, media_type: &str) -> ImageManifest {
        let layer = json!({ "mediaType": media_type, "digest": DIGEST, "size": 10 });
        let config = json!({ "mediaType": CONFIGS[0], "digest": DIGEST, "size": 10 });
        serde_json::from_value(json!({ "schemaVersion": 2, "config": config, "layers": vec![layer; layers] })).unwrap()
    }

    #[test]
    fn the_architecture_is_chosen_and_its_plainest_variant() {
        let both = index(&[entry("arm64", None, 1), entry("amd64", Some("v3"), 2), entry("amd64", None, 3)]);
        assert_eq!(choose(&both, "amd64").unwrap().size(), 3);
        assert_eq!(choose(&both, "arm64").unwrap().size(), 1);
        let error = choose(&both, "riscv64").unwrap_err().to_string();
        assert_eq!(error, "it is not for linux/riscv64; it is for linux/amd64, linux/arm64");
    }

    #[test]
    fn what_is_attached_to_an_image_is_not_taken_for_one() {
        let mut attached = entry("amd64", None, 1);
        attached["annotations"] = json!({ ATTESTATION: "attestation-manifest" });
        assert!(choose(&index(&[attached]), "amd64").is_err());
        let mut silent = entry("amd64", None, 7);
        silent.as_object_mut().unwrap().remove("platform");
        assert_eq!(choose(&index(&[silent.clone()]), "amd64").unwrap().size(), 7);
        assert!(choose(&index(&[silent.clone(), silent]), "amd64").is_err());
    }

    #[test]
    fn what_could_be_two_things_is_neither() {
        let refused = |value: Value, declared: Option<&str>| top(value.to_string().as_bytes(), declared).unwrap_err();
        let both = json!({ "schemaVersion": 2, "manifests": [], "layers": [], "config": {} });
        assert!(refused(both, None).to_string().contains("an index and a manifest at once"));
        let other = json!({ "schemaVersion": 2, "mediaType": MANIFESTS[0] });
        assert!(refused(other, Some(INDEXES[0])).to_string().contains("calls itself"));
        let long = json!({ "schemaVersion": 2, "mediaType": "\u{1b}[2J".repeat(1000) + &"x".repeat(1000) });
        let error = refused(long, Some(&"y".repeat(1000))).to_string();
        assert!(error.len() < 600 && !error.contains('\u{1b}'), "{error}");
        let first = json!({ "schemaVersion": 1, "fsLayers": [] });
        assert!(matches!(refused(first, None), Problem::FirstSchema));
        let chart = json!({ "schemaVersion": 2 });
        let error = refused(chart, Some("application/vnd.example.chart")).to_string();
        assert!(error.contains("application/vnd.example.chart"), "{error}");
        assert!(refused(Value::from("no"), None).to_string().contains("cannot be read"));
    }

    #[test]
    fn a_manifest_keeps_to_its_limits() {
        check_manifest(&manifest(MAX_LAYERS, LAYERS[1]), u64::MAX).unwrap();
        let error = check_manifest(&manifest(10_000, LAYERS[1]), u64::MAX).unwrap_err().to_string();
        assert!(error.contains("has 10000 layers, and an image has at most 512"), "{error}");
        assert!(matches!(check_manifest(&manifest(2, LAYERS[1]), 19), Err(Problem::TooLarge { size: 20, .. })));
        let error = check_manifest(&manifest(1, "text/x"), u64::MAX).unwrap_err().to_string();
        assert_eq!(error, "layer 1 has the type text/x, which is none of a container image");
        let encrypted = format!("{}+encrypted", LAYERS[1]);
        assert!(matches!(check_manifest(&manifest(1, &encrypted), u64::MAX), Err(Problem::Encrypted { .. })));
    }

    #[test]
    fn the_configuration_fits_the_manifest() {
        let config = |architecture: &str, ids: &[&str]| {
            let rootfs = json!({ "type": "layers", "diff_ids": ids });
            json!({ "architecture": architecture, "os": "linux", "rootfs": rootfs }).to_string()
        };
        assert_eq!(diff_ids(config("amd64", &[DIGEST]).as_bytes(), "amd64", 1).unwrap(), [DIGEST]);
        let refused = |text: String, layers| diff_ids(text.as_bytes(), "amd64", layers).unwrap_err().to_string();
        assert!(refused(config("arm64", &[DIGEST]), 1).contains("linux/arm64"));
        assert!(refused(config("amd64", &[DIGEST]), 2).contains("names 1 layers, and its manifest 2"));
        assert!(refused(config("amd64", &["sha256:../../x"]), 1).contains("no SHA-256"));
    }
}
