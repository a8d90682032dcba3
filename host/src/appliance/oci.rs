//! The form in which an appliance leaves the cache: an OCI image layout in a tar archive, holding one artifact.
//!
//! Sources: OCI Image Format Specification 1.1, "Image Layout" and "Guidelines for Artifact Usage". The artifact's
//! config is `appliance.json`; each layer is one file of the appliance, compressed with zstd.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Contents of the file `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Its name, and that of the index.
pub const LAYOUT_FILE: &str = "oci-layout";
/// See [`LAYOUT_FILE`].
pub const INDEX_FILE: &str = "index.json";
/// Where blobs are.
pub const BLOBS: &str = "blobs/sha256/";

/// Type of the artifact.
pub const ARTIFACT: &str = "application/vnd.particle-vm.appliance.v1";
/// Type of its config.
pub const CONFIG: &str = "application/vnd.particle-vm.appliance.config.v1+json";
/// Type of its layers.
pub const LAYER: &str = "application/vnd.particle-vm.appliance.file.v1+zstd";
/// Types that the specification names.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// See [`INDEX`].
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Annotation of a layer: the name of its file.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Annotation in the index: the digest of the appliance.
pub const APPLIANCE: &str = "org.particle-vm.appliance.digest";

/// A descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// `sha256:` and hexadecimal.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Type of the artifact, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// For a blob.
    pub fn new(media_type: &str, sha256: &str, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest: format!("sha256:{sha256}"),
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The SHA-256 in hexadecimal, when the digest is one.
    pub fn sha256(&self) -> Option<&str> {
        crate::source::digest::sha256(&self.digest)
    }
}

/// `index.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default)]
    pub media_type: String,
    /// What the layout holds.
    pub manifests: Vec<Descriptor>,
}

/// The manifest of the artifact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(default)]
    pub media_type: String,
    /// [`ARTIFACT`].
    #[serde(default)]
    pub artifact_type: String,
    /// `appliance.json`.
    pub config: Descriptor,
    /// The files.
    pub layers: Vec<Descriptor>,
}
