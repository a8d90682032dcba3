//! The configuration and the manifest of an image (image-spec, config.md and manifest.md; Docker's have the same keys).

use super::error::InspectError;
use super::layers::Passed;
use super::limits;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Error as JsonError;
use std::collections::BTreeMap;

/// What the configuration of the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Its processor architecture, in Go's words: `amd64`.
    pub architecture: String,
    /// Its operating system: `linux`.
    pub os: String,
    /// When it was made, in RFC 3339.
    pub created: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Digests of the tar archives in its layers, lowest first.
    #[serde(skip)]
    pub diff_ids: Vec<String>,
    /// How many entries its history has.
    #[serde(skip)]
    pub history: usize,
    /// Settings for containers that mean nothing to a booted system: `Cmd`, `Entrypoint`, `Env`, `ExposedPorts`, `User`,
    /// `Volumes`, `WorkingDir`.
    pub container_only: Vec<&'static str>,
}

/// A layer of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its digest, packed.
    pub digest: String,
    /// The digest of the tar archive in it, as the configuration has it; null where it has none.
    pub diff_id: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes, packed.
    pub size: u64,
    /// Bytes of the contents of its files.
    pub unpacked: u64,
    /// How many entries it has.
    pub entries: u64,
    /// How many of them take something away.
    pub whiteouts: u64,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    created: Option<String>,
    config: Option<Settings>,
    rootfs: Option<RootFs>,
    history: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    labels: Option<BTreeMap<String, String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: Option<Vec<String>>,
    exposed_ports: Option<serde_json::Map<String, serde_json::Value>>,
    user: Option<String>,
    volumes: Option<serde_json::Map<String, serde_json::Value>>,
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct ManifestFile {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// Read the configuration.
pub(super) fn config(bytes: &[u8]) -> Result<Config, InspectError> {
    let file: ConfigFile = parse(bytes, "configuration")?;
    let settings = file.config.unwrap_or_default();
    // A shell as the command and a PATH are in every image.
    let env = settings.env.unwrap_or_default();
    let container_only = [
        ("Cmd", settings.cmd.is_some_and(|cmd| !cmd.is_empty() && !is_usual(&cmd))),
        ("Entrypoint", settings.entrypoint.is_some_and(|entrypoint| !entrypoint.is_empty())),
        ("Env", env.iter().any(|variable| !variable.starts_with("PATH=") && !variable.starts_with("container="))),
        ("ExposedPorts", settings.exposed_ports.is_some_and(|ports| !ports.is_empty())),
        ("User", settings.user.is_some_and(|user| !matches!(user.as_str(), "" | "0" | "root"))),
        ("Volumes", settings.volumes.is_some_and(|volumes| !volumes.is_empty())),
        ("WorkingDir", settings.working_dir.is_some_and(|folder| !matches!(folder.as_str(), "" | "/"))),
    ];
    Ok(Config {
        architecture: file.architecture,
        os: file.os,
        created: file.created,
        diff_ids: file.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default(),
        history: file.history.map_or(0, |history| history.len()),
        labels: settings.labels.unwrap_or_default(),
        container_only: container_only.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect(),
    })
}

/// A shell or an init is what would run anyway, or what nobody misses.
fn is_usual(command: &[String]) -> bool {
    let name = command[0].rsplit('/').next().unwrap_or_default();
    matches!(name, "bash" | "sh" | "init" | "systemd")
}

/// Read the list of layers, lowest first.
pub(super) fn layers(manifest: &[u8]) -> Result<Vec<Layer>, InspectError> {
    let file: ManifestFile = parse(manifest, "manifest")?;
    if file.layers.len() > limits::LAYERS {
        let reason = format!("it lists {} layers; no more than {} are taken", file.layers.len(), limits::LAYERS);
        return Err(wrong("manifest", reason));
    }
    let layer = |layer: Descriptor| Layer {
        digest: layer.digest,
        diff_id: None,
        media_type: layer.media_type,
        size: layer.size,
        unpacked: 0,
        entries: 0,
        whiteouts: 0,
    };
    Ok(file.layers.into_iter().map(layer).collect())
}

impl Layer {
    pub(super) fn passed(self, diff_id: Option<&String>, passed: &Passed) -> Self {
        let diff_id = diff_id.cloned();
        Self { diff_id, unpacked: passed.bytes, entries: passed.entries, whiteouts: passed.whiteouts, ..self }
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, InspectError> {
    if bytes.len() > limits::DOCUMENT {
        return Err(wrong(what, format!("it has {} bytes", bytes.len())));
    }
    serde_json::from_slice(bytes).map_err(|source| InspectError::Document { what, source })
}

fn wrong(what: &'static str, reason: String) -> InspectError {
    InspectError::Document { what, source: <JsonError as serde::de::Error>::custom(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_only_containers_have_is_told_apart() {
        let config = config(
            br#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","LANG=C.UTF-8"],"Cmd":["bash"],
                 "Entrypoint":null,"User":"www-data","Labels":{"containers.bootc":"1"}},"other":[1]}"#,
        )
        .unwrap();
        assert_eq!(config.container_only, ["Env", "User"]);
        assert_eq!(config.labels["containers.bootc"], "1");
    }

    #[test]
    fn documents_of_another_kind_or_without_measure_are_refused() {
        let message = |result: Result<Vec<Layer>, InspectError>| Error::from(result.unwrap_err()).to_string();
        assert!(message(layers(br#"{"manifests":[]}"#)).contains("missing field `layers`"));
        let layer = r#"{"mediaType":"m","digest":"d","size":1}"#;
        let many = format!(r#"{{"layers":[{}]}}"#, vec![layer; 10_000].join(","));
        assert!(message(layers(many.as_bytes())).contains("lists 10000 layers"));
        assert!(message(layers(&vec![b' '; limits::DOCUMENT + 1])).contains("bytes"));
    }
}
