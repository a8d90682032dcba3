//! Images in an OCI image layout: a folder, or a tar archive of one.
//!
//! Source: OCI Image Format Specification 1.1, "Image Layout".

use super::document::{self, MAX_MANIFEST, Top};
use super::error::Problem;
use super::files::Files;
use super::{Blobs, Context, Image, Progress, digest};
use crate::store::Fields;
use oci_spec::image::{Descriptor, ImageIndex};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// The index of a layout.
const INDEX: &str = "index.json";

/// Annotation of an entry: its tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// Where the blobs of a layout are, and those of what docker has saved.
pub struct Local {
    pub files: Files,
    /// Names of blobs by their digests, where they are not those of a layout.
    pub names: HashMap<String, String>,
}

impl Local {
    fn file_of(&self, digest: &str) -> String {
        let in_layout = || format!("blobs/{}", digest.replacen(':', "/", 1));
        self.names.get(digest).cloned().unwrap_or_else(in_layout)
    }
}

impl Blobs for Local {
    async fn document(&self, _what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
        // One byte more shows in the comparison.
        self.files.read(&self.file_of(descriptor.digest().as_ref()), descriptor.size().saturating_add(1))
    }

    async fn layer(
        &self,
        context: &Context<'_>,
        what: &str,
        layer: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Problem> {
        let digest = layer.digest().as_ref();
        let name = self.file_of(digest);
        let missing = || self.files.wrong(format!("{what} is missing: it has no {}", document::shown(&name)));
        let mut section = self.files.open(&name)?.ok_or_else(missing)?;
        if section.size() != layer.size() {
            return Err(Problem::Size { what: what.into(), expected: layer.size(), found: section.size() });
        }
        let mut put = context.store.put_stream(digest, Fields::default()).await?;
        let mut hash = Sha256::new();
        loop {
            let chunk = section.chunk().await;
            let unread = |error| self.files.wrong(format!("{} cannot be read ({error})", document::shown(&name)));
            let chunk = chunk.map_err(unread)?;
            if chunk.is_empty() {
                break;
            }
            hash.update(&chunk);
            put.write(&chunk).await?;
            progress.add(chunk.len() as u64);
        }
        digest::equal(what, digest, digest::finish(hash))?;
        Ok(put.commit().await?)
    }

    fn address(&self, digest: &str) -> String {
        format!("{} in {}", document::shown(&self.file_of(digest)), self.files.name())
    }
}

/// Read an image from the layout in the folder `path`.
///
/// # Errors
/// When there is none, or it is not whole.
pub async fn folder(context: &Context<'_>, path: &Path, tag: Option<&str>) -> Result<Image, Problem> {
    let files = Files::folder(path, "OCI image layout")?;
    layout(context, files, tag).await
}

/// Read an image from the archive `path` of a layout.
///
/// # Errors
/// When there is none, or it is not whole.
pub async fn archive(context: &Context<'_>, path: &Path, tag: Option<&str>) -> Result<Image, Problem> {
    let owned = path.to_owned();
    let files = super::background(move |_| Files::archive(&owned, "archive of an OCI image layout")).await?;
    layout(context, files, tag).await
}

async fn layout(context: &Context<'_>, files: Files, tag: Option<&str>) -> Result<Image, Problem> {
    if files.open(INDEX)?.is_none() && files.open(super::docker_archive::MANIFEST)?.is_some() {
        return Err(files.wrong("it is what `docker save` writes: name it with docker-archive:"));
    }
    let text = files.read(INDEX, MAX_MANIFEST)?;
    let index = match document::top(&text, Some(document::INDEXES[0]))? {
        Top::Index(index) => *index,
        Top::Manifest(..) => return Err(files.wrong("its index.json is no index")),
    };
    let entry = entry(&index, tag, &context.options.architecture, &files)?;
    document::check_digest("its manifest", &entry)?;
    let blobs = Local { files, names: HashMap::new() };
    let text = context.document("its manifest", &entry, MAX_MANIFEST, &blobs).await?;
    context.image(text, Some(entry.media_type().to_string()), &blobs).await
}

/// The entry of the index that is meant.
fn entry(index: &ImageIndex, tag: Option<&str>, architecture: &str, files: &Files) -> Result<Descriptor, Problem> {
    let tag_of = |entry: &Descriptor| entry.annotations().as_ref().and_then(|notes| notes.get(TAG).cloned());
    let mut meant = index.clone();
    if let Some(tag) = tag {
        let entries = index.manifests().iter().filter(|entry| tag_of(entry).as_deref() == Some(tag));
        meant.set_manifests(entries.cloned().collect());
    }
    let mut names: Vec<_> = meant.manifests().iter().map(tag_of).collect();
    names.sort_unstable();
    names.dedup();
    match meant.manifests().as_slice() {
        [only] => Ok(only.clone()),
        // One image for several architectures.
        [_, ..] if names.len() == 1 => document::choose(&meant, architecture).cloned(),
        _ => {
            let mut names: Vec<_> = index.manifests().iter().filter_map(tag_of).take(50).collect();
            names.iter_mut().for_each(|name| *name = document::shown(name));
            Err(Problem::Choice { place: files.name(), wanted: tag.map(str::to_owned), names })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_is_found_by_its_tag() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::folder(folder.path(), "OCI image layout").unwrap();
        let named = |tag: Option<&str>, architecture: &str, size: u64| {
            let digest = digest::of(b"");
            let platform = json!({ "os": "linux", "architecture": architecture });
            let mut entry =
                json!({ "mediaType": document::MANIFESTS[0], "digest": digest, "size": size, "platform": platform });
            if let Some(tag) = tag {
                entry["annotations"] = json!({ TAG: tag });
            }
            entry
        };
        let found = |entries: &[serde_json::Value], tag: Option<&str>| {
            let index = serde_json::from_value(json!({ "schemaVersion": 2, "manifests": entries })).unwrap();
            entry(&index, tag, "amd64", &files).map(|entry| entry.size()).map_err(|error| error.to_string())
        };
        let two = [named(Some("a"), "amd64", 1), named(Some("b"), "amd64", 2)];
        assert_eq!(found(&two, Some("b")), Ok(2));
        assert!(found(&two, None).unwrap_err().contains("no single image; it has a, b"));
        assert!(found(&two, Some("c")).unwrap_err().contains("of the name c"));
        assert_eq!(found(&two[..1], None), Ok(1));
        let fat = [named(None, "arm64", 1), named(None, "amd64", 2)];
        assert_eq!(found(&fat, None), Ok(2));
        assert!(found(&[], None).unwrap_err().contains("has no image"));
    }
}
