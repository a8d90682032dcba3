//! Images in a folder with the OCI image layout.

use super::super::EngineError;
use crate::error::Result;
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest document, in bytes.
const MAX: u64 = 4 << 20;

/// An image.
#[derive(Debug)]
pub struct Image {
    pub digest: String,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Layer>,
    pub reference: String,
    pub origin: String,
    folder: PathBuf,
}

/// A layer.
#[derive(Debug)]
pub struct Layer {
    pub digest: String,
    pub diff_id: String,
    pub size: u64,
    pub media_type: String,
}

fn wrong(path: &Path, message: &str) -> EngineError {
    EngineError::File { path: path.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, message) }
}

pub fn fetch(reference: &str, folder: &Path) -> Result<Image> {
    let path = reference.strip_prefix("oci:").ok_or_else(|| wrong(Path::new(reference), "it is no image layout"))?;
    let (path, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
    let path = folder.join(path);
    let json = |text: &[u8]| serde_json::from_slice::<Value>(text).map_err(|_| wrong(&path, "it is no image layout"));
    let index = json(&read(&path.join("index.json"))?)?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let entry = entries.iter().find(named).ok_or_else(|| wrong(&path, "it has no image of this name"))?;
    let digest = text(&entry["digest"]);
    let manifest = blob(&path, &digest)?;
    let parsed = json(&manifest)?;
    let config = blob(&path, &text(&parsed["config"]["digest"]))?;
    let diff_ids = json(&config)?["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let layers = parsed["layers"].as_array().cloned().unwrap_or_default();
    if layers.len() != diff_ids.len() {
        return Err(wrong(&path, "its configuration is not that of its layers").into());
    }
    let layer = |(layer, diff_id): (&Value, &Value)| Layer {
        digest: text(&layer["digest"]),
        diff_id: text(diff_id),
        size: layer["size"].as_u64().unwrap_or(0),
        media_type: text(&layer["mediaType"]),
    };
    let layers = layers.iter().zip(&diff_ids).map(layer).collect();
    let reference = reference.to_owned();
    Ok(Image {
        digest,
        manifest,
        config,
        layers,
        origin: format!("ostree-unverified-image:{reference}"),
        reference,
        folder: path,
    })
}

pub fn unpack(image: &Image, into: &Path) -> Result<()> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::File { path, source }
    };
    fs::create_dir(into).map_err(io(into))?;
    for (number, layer) in image.layers.iter().enumerate() {
        let from = place(&image.folder, &layer.digest)?;
        let file = File::open(&from).map_err(io(&from))?;
        let mut reader: Box<dyn Read> = match layer.media_type.as_str() {
            gzip if gzip.ends_with("gzip") => Box::new(MultiGzDecoder::new(file)),
            zstd if zstd.ends_with("zstd") => Box::new(zstd::Decoder::new(file).map_err(io(&from))?),
            _ => Box::new(file),
        };
        let to = into.join(format!("layer-{number}.tar"));
        let mut output = File::create_new(&to).map_err(io(&to))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let read = reader.read(&mut buffer).map_err(io(&from))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            output.write_all(&buffer[..read]).map_err(io(&to))?;
        }
        if format!("sha256:{}", hex::encode(hash.finalize())) != layer.diff_id {
            return Err(wrong(&from, "it is not what its digest says").into());
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn place(folder: &Path, digest: &str) -> Result<PathBuf> {
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(folder.join("blobs/sha256").join(hex.ok_or_else(|| wrong(folder, "a digest is none"))?))
}

fn blob(folder: &Path, digest: &str) -> Result<Vec<u8>> {
    let path = place(folder, digest)?;
    let bytes = read(&path)?;
    if format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) != digest {
        return Err(wrong(&path, "it is not what its digest says").into());
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(read().map_err(|source| EngineError::File { path: path.to_owned(), source })?)
}
