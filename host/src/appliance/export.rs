//! Writing of an appliance into an archive.

use super::Appliance;
use super::background::GivenUp;
use super::error::ApplianceError;
use super::manifest::{self, ManifestFile};
use super::oci::{self, Artifact, Descriptor, Index};
use crate::event::{Events, Unit};
use crate::workspace::Workspace;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Of zstd: the archive is written once and carried over networks.
const LEVEL: i32 = 9;

/// Write `appliance` into the archive `output`, which appears whole or not at all. Blocking.
///
/// # Errors
/// When the appliance cannot be read or the archive not be written.
pub fn write(
    appliance: &Appliance,
    output: &Path,
    given_up: &GivenUp,
    events: &Events,
) -> Result<ManifestFile, ApplianceError> {
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let workspace = Workspace::new(parent).map_err(ApplianceError::Workspace)?;
    let total = appliance.manifest().files.values().map(|file| file.size).sum();
    let step = events.step("appliance: export", Some(total), Unit::Bytes);

    let mut layers = Vec::new();
    let mut done = 0;
    for (name, file) in &appliance.manifest().files {
        let packed = workspace.path().join(name);
        compress(&appliance.dir().join(name), &packed, given_up)?;
        let described = manifest::describe(&packed)?;
        let mut layer = Descriptor::new(oci::LAYER, &described.sha256, described.size);
        layer.annotations.insert(oci::TITLE.into(), name.clone());
        layers.push((layer, packed));
        done += file.size;
        step.progress(done);
    }
    let config = fs::read(appliance.dir().join(manifest::FILE))
        .map_err(ApplianceError::io("read", appliance.dir().join(manifest::FILE)))?;
    let artifact = Artifact {
        schema_version: 2,
        media_type: oci::MANIFEST.into(),
        artifact_type: oci::ARTIFACT.into(),
        config: Descriptor::new(oci::CONFIG, &sha256(&config), config.len() as u64),
        layers: layers.iter().map(|(layer, _)| layer.clone()).collect(),
    };

    let written = (|| {
        let artifact = serde_json::to_vec(&artifact)?;
        let mut entry = Descriptor::new(oci::MANIFEST, &sha256(&artifact), artifact.len() as u64);
        entry.artifact_type = Some(oci::ARTIFACT.into());
        entry.annotations.insert(oci::APPLIANCE.into(), appliance.digest().into());
        let index = Index { schema_version: 2, media_type: oci::INDEX.into(), manifests: vec![entry] };

        let file = NamedTempFile::new_in(workspace.path())?;
        let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, file));
        add(&mut archive, oci::LAYOUT_FILE, oci::LAYOUT)?;
        add(&mut archive, oci::INDEX_FILE, &serde_json::to_vec(&index)?)?;
        for blob in [&artifact, &config] {
            add(&mut archive, &format!("{}{}", oci::BLOBS, sha256(blob)), blob)?;
        }
        for (layer, packed) in &layers {
            let name = format!("{}{}", oci::BLOBS, layer.sha256().unwrap_or_default());
            archive.append_data(&mut header(layer.size), name, given_up.reader(File::open(packed)?))?;
        }
        let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let described = manifest::describe(file.path());
        given_up.check().map_err(io::Error::other)?;
        file.as_file().sync_all()?;
        file.persist(output)?;
        io::Result::Ok(described)
    })();
    let described = written.map_err(ApplianceError::io("write", output))??;
    step.finish();
    Ok(described)
}

fn compress(from: &Path, to: &Path, given_up: &GivenUp) -> Result<(), ApplianceError> {
    let input = File::open(from).map_err(ApplianceError::io("open", from))?;
    let output = File::create_new(to).map_err(ApplianceError::io("create", to))?;
    zstd::stream::copy_encode(given_up.reader(input), output, LEVEL).map_err(ApplianceError::io("compress", from))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The same for each export: no owner, no time.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn add(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}
