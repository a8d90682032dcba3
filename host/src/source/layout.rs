//! An image as an OCI image layout, with its blobs as they came.
//!
//! Source: OCI Image Format Specification 1.1, "Image Layout".

use super::document::layer_name;
use super::error::{Problem, SourceError};
use super::{Image, background, digest, has_room, wanted};
use crate::event::{Events, Unit};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Bytes that are copied at a time.
const CHUNK: usize = 256 << 10;

impl Image {
    /// Write the image as an OCI image layout into `dir`, which is made if need be: `oci-layout`, `index.json` and the
    /// blobs as they came, each compared with its digest once more.
    ///
    /// # Errors
    /// When it cannot be written, or a blob has gone from the store.
    pub async fn layout(&self, dir: &Path, events: &Events) -> Result<(), SourceError> {
        let (image, dir, events) = (self.clone(), dir.to_owned(), events.clone());
        let written = background(move |given_up| image.write_layout(&dir, &events, given_up)).await;
        written.map_err(|problem| problem.of(&self.reference))
    }

    fn write_layout(&self, dir: &Path, events: &Events, given_up: &CancellationToken) -> Result<(), Problem> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Problem::io("create", &blobs))?;
        let total = self.layers.iter().map(|layer| layer.size).sum();
        has_room(dir, total)?;
        let step = events.step(format!("copy {}", self.reference), Some(total), Unit::Bytes);
        let (mut seen, mut done) = (BTreeSet::new(), 0);
        for (number, layer) in self.layers.iter().enumerate() {
            if seen.insert(&layer.digest) {
                let path = blobs.join(hex(&layer.digest));
                self.copy(&layer_name(number), &layer.digest, &path, given_up, |bytes| {
                    done += bytes;
                    step.progress(done);
                })?;
            }
        }
        let manifest = json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.manifest.len() });
        let index = json!({ "schemaVersion": 2, "mediaType": super::document::INDEXES[0], "manifests": [manifest] });
        let documents = [
            (blobs.join(hex(&self.config_digest)), self.config.clone()),
            (blobs.join(hex(&self.digest)), self.manifest.clone()),
            (dir.join("index.json"), index.to_string().into_bytes()),
            (dir.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
        ];
        for (path, text) in documents {
            fs::write(&path, text).map_err(Problem::io("write", &path))?;
        }
        step.finish();
        Ok(())
    }

    /// Copy the object of `digest` from the store to `path`.
    fn copy(
        &self,
        what: &str,
        digest: &str,
        path: &Path,
        given_up: &CancellationToken,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Problem> {
        let mut object = self.store.locate(digest)?.ok_or_else(|| Problem::Gone { what: what.into() })?;
        let mut file = File::create(path).map_err(Problem::io("write", path))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            wanted(given_up)?;
            let count = object.read(&mut buffer).map_err(Problem::io("read the object of", digest))?;
            if count == 0 {
                return digest::equal(what, digest, digest::finish(hash));
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(Problem::io("write", path))?;
            progress(count as u64);
        }
    }
}

/// What follows the algorithm. All digests of an image have been looked at.
fn hex(digest: &str) -> &str {
    digest.rsplit(':').next().unwrap_or(digest)
}
