//! Container images from everywhere: a registry, an OCI image layout, archives, podman's store, docker's.
//!
//! Whatever the way, an image ends as blobs in the content-addressed store, each compared with its digest, and from there
//! it goes into an image layout ([`Image::layout`]) or into plain tar archives ([`Image::unpack`]). What a server or an
//! archive says is not believed: documents and layers have most sizes, names lead nowhere, and what was not asked for by
//! its digest is at least an image for the right architecture. Nothing of a layer is interpreted on the host.

use crate::dirs::Dirs;
use crate::event::{Event, Events, Step, Unit};
use crate::store::{Fields, Making, Store};
use document::{MAX_CONFIG, MAX_MANIFEST, Top};
use futures::{StreamExt, TryStreamExt};
use nix::sys::statvfs::statvfs;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

mod advice;
mod archive;
mod credentials;
pub(crate) mod digest;
mod docker;
mod docker_archive;
mod document;
mod error;
mod files;
mod layout;
mod local;
mod podman;
mod reference;
mod registry;
mod stream;
mod unpack;

pub use credentials::CredentialsError;
pub use document::MAX_LAYERS;
pub use error::{Problem, SourceError};
pub use reference::{Reference, ReferenceError};
pub use stream::Plain;

/// Most bytes of an image's layers, unpacked, unless it is said otherwise.
pub const MAX_SIZE: u64 = 64 << 30;

/// Layers that are fetched at a time, as docker does it.
const AT_A_TIME: usize = 4;

/// How deep an index may lie in an index.
const MAX_NESTING: usize = 2;

/// How an image is fetched.
#[derive(Debug, Clone)]
pub struct Options {
    /// The architecture as OCI calls it, for instance `amd64`.
    pub architecture: String,
    /// The only file to take credentials from, instead of the usual ones.
    pub authfile: Option<PathBuf>,
    /// Speak plain http to the registry, wherever it is. Without it, to one on loopback only.
    pub plain_http: bool,
    /// Most bytes of its layers, unpacked.
    pub max_size: u64,
}

impl Options {
    /// For an architecture.
    pub fn new(architecture: &str) -> Self {
        Self { architecture: architecture.into(), authfile: None, plain_http: false, max_size: MAX_SIZE }
    }
}

impl Default for Options {
    /// For the one architecture that images are made for.
    fn default() -> Self {
        Self::new("amd64")
    }
}

/// An image whose blobs are in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Where it came from.
    pub reference: Reference,
    /// The digest of its manifest, `sha256:` and hexadecimal.
    pub digest: String,
    /// Its manifest, as it came.
    pub manifest: Vec<u8>,
    /// The type of the manifest.
    pub media_type: &'static str,
    /// Its configuration, as it came.
    pub config: Vec<u8>,
    /// The digest of the configuration, which docker and podman call the id of the image.
    pub config_digest: String,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    store: Store,
    max_size: u64,
    // What every layer may unpack to.
    always: u64,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Layer {
    /// Digest of the blob.
    pub digest: String,
    /// Digest of the tar archive in it.
    pub diff_id: String,
    /// Bytes of the blob.
    pub size: u64,
    /// The type of the blob.
    pub media_type: String,
}

impl Image {
    /// Fetch the image that `reference` names, as far as it is not in `store` already.
    ///
    /// # Errors
    /// When it cannot be reached, is none, or is not what its digests say. What has arrived whole stays in the store.
    pub async fn fetch(
        reference: &Reference,
        options: &Options,
        store: &Store,
        dirs: &Dirs,
        events: &Events,
    ) -> Result<Self, SourceError> {
        use reference::Place;
        let context = Context { reference, options, store, dirs, events };
        let fetched = match reference.place() {
            Place::Registry(named) => registry::fetch(&context, named).await,
            Place::Oci { path, tag } => local::folder(&context, path, tag.as_deref()).await,
            Place::OciArchive { path, tag } => local::archive(&context, path, tag.as_deref()).await,
            Place::DockerArchive { path, name } => docker_archive::fetch(&context, path, name.as_deref()).await,
            Place::Podman { store, name } => podman::fetch(&context, store.as_ref(), name).await,
            Place::Docker { name } => docker::fetch(&context, name).await,
        };
        fetched.map_err(|problem| problem.of(reference))
    }
}

impl Image {
    /// The labels of its configuration.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let config = serde_json::from_slice::<ImageConfiguration>(&self.config).ok();
        config.and_then(|config| config.labels_of_config().cloned()).into_iter().flatten().collect()
    }
}

/// What fetching goes by.
struct Context<'a> {
    reference: &'a Reference,
    options: &'a Options,
    store: &'a Store,
    dirs: &'a Dirs,
    events: &'a Events,
}

/// Where blobs come from.
trait Blobs {
    /// The bytes of a small blob; the caller compares them with the digest.
    async fn document(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, Problem>;

    /// Put a large blob into the store, compared with its digest and its size.
    async fn layer(
        &self,
        context: &Context<'_>,
        what: &str,
        descriptor: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Problem>;

    /// What the blob is called in events.
    fn address(&self, digest: &str) -> String;
}

/// How far several downloads are together.
#[derive(Debug)]
struct Progress {
    step: Step,
    done: AtomicU64,
}

impl Progress {
    fn add(&self, bytes: u64) {
        self.step.progress(self.done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    /// What was counted has to come again.
    fn take_back(&self, bytes: u64) {
        self.step.progress(self.done.fetch_sub(bytes, Ordering::Relaxed) - bytes);
    }
}

impl Context<'_> {
    /// The image that the manifest or index `text` leads to; it was handed out as `declared`.
    async fn image(&self, text: Vec<u8>, declared: Option<String>, blobs: &impl Blobs) -> Result<Image, Problem> {
        let (mut text, mut declared) = (text, declared);
        for _ in 0..=MAX_NESTING {
            match document::top(&text, declared.as_deref())? {
                Top::Manifest(manifest, media_type) => return self.whole(text, *manifest, media_type, blobs).await,
                Top::Index(index) => {
                    let entry = document::choose(&index, &self.options.architecture)?;
                    document::check_digest("its manifest", entry)?;
                    text = self.document("its manifest", entry, MAX_MANIFEST, blobs).await?;
                    declared = Some(entry.media_type().to_string());
                }
            }
        }
        let reason = format!("indexes lie in indexes, more than {MAX_NESTING} deep");
        Err(Problem::Malformed { what: "its index".into(), reason })
    }

    /// A small blob, from the store or from `blobs`.
    async fn document(
        &self,
        what: &'static str,
        descriptor: &Descriptor,
        most: u64,
        blobs: &impl Blobs,
    ) -> Result<Vec<u8>, Problem> {
        if descriptor.size() > most {
            return Err(document::oversized(what, descriptor.size(), most));
        }
        let digest = descriptor.digest().as_ref();
        let text = match self.stored(digest, most).await? {
            Some(text) => text,
            None => {
                let text = blobs.document(what, descriptor).await?;
                digest::check(what, digest, &text)?;
                self.keep(digest, &text).await?;
                text
            }
        };
        if text.len() as u64 != descriptor.size() {
            return Err(Problem::Size { what: what.into(), expected: descriptor.size(), found: text.len() as u64 });
        }
        Ok(text)
    }

    /// A small blob from the store.
    async fn stored(&self, digest: &str, most: u64) -> Result<Option<Vec<u8>>, Problem> {
        let Some(object) = self.store.get(digest).await? else { return Ok(None) };
        let mut text = Vec::new();
        object.file.take(most + 1).read_to_end(&mut text).map_err(Problem::io("read the object of", digest))?;
        Ok(Some(text))
    }

    /// Put a small blob, which has this digest, into the store.
    async fn keep(&self, digest: &str, text: &[u8]) -> Result<(), Problem> {
        let mut put = self.store.put_stream(digest, Fields::default()).await?;
        put.write(text).await?;
        Ok(put.commit().await?)
    }

    async fn whole(
        &self,
        text: Vec<u8>,
        manifest: ImageManifest,
        media_type: &'static str,
        blobs: &impl Blobs,
    ) -> Result<Image, Problem> {
        document::check_manifest(&manifest, self.options.max_size)?;
        let config = self.document("its configuration", manifest.config(), MAX_CONFIG, blobs).await?;
        let diff_ids = document::diff_ids(&config, &self.options.architecture, manifest.layers().len())?;
        self.layers(&manifest, blobs).await?;
        let layer = |(entry, diff_id): (&Descriptor, String)| Layer {
            digest: entry.digest().to_string(),
            diff_id,
            size: entry.size(),
            media_type: entry.media_type().to_string(),
        };
        let digest = digest::of(&text);
        // So that it can be had again by its digest, without the network.
        self.keep(&digest, &text).await?;
        Ok(Image {
            reference: self.reference.clone(),
            digest,
            manifest: text,
            media_type,
            config,
            config_digest: manifest.config().digest().to_string(),
            layers: manifest.layers().iter().zip(diff_ids).map(layer).collect(),
            store: self.store.clone(),
            max_size: self.options.max_size,
            always: unpack::ALWAYS,
        })
    }

    /// See to it that all layers are in the store.
    async fn layers(&self, manifest: &ImageManifest, blobs: &impl Blobs) -> Result<(), Problem> {
        let mut missing: BTreeMap<String, (String, &Descriptor)> = BTreeMap::new();
        for (number, layer) in manifest.layers().iter().enumerate() {
            let name = document::layer_name(number);
            let digest = layer.digest().to_string();
            if let Some((_, known)) = missing.get(&digest) {
                same_size(&name, layer, known.size())?;
                continue;
            }
            match self.store.get(&digest).await? {
                Some(object) => {
                    same_size(&name, layer, object.size)?;
                    let url = blobs.address(&digest);
                    self.events.send(Event::Fetched { url, size: object.size, cached: true });
                }
                None => drop(missing.insert(digest, (name, layer))),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let total: u64 = missing.values().map(|(_, layer)| layer.size()).sum();
        has_room(&self.dirs.store(), total)?;
        let step = self.events.step(format!("fetch {}", self.reference), Some(total), Unit::Bytes);
        let progress = Progress { step, done: AtomicU64::new(0) };
        let fetched = futures::stream::iter(missing.values().map(|(name, layer)| async {
            let digest = layer.digest().as_ref();
            let _alone = self.store.alone(Making::Download(digest)).await?;
            // Another build may have fetched it meanwhile.
            let there = self.store.get(digest).await?;
            match &there {
                Some(object) => {
                    same_size(name, layer, object.size)?;
                    progress.add(object.size);
                }
                None => blobs.layer(self, name, layer, &progress).await?,
            }
            let url = blobs.address(digest);
            self.events.send(Event::Fetched { url, size: layer.size(), cached: there.is_some() });
            Ok::<_, Problem>(())
        }));
        fetched.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        progress.step.finish();
        Ok(())
    }
}

fn same_size(name: &str, layer: &Descriptor, found: u64) -> Result<(), Problem> {
    if layer.size() == found {
        return Ok(());
    }
    Err(Problem::Size { what: name.into(), expected: layer.size(), found })
}

/// Bytes that are free for us in the file system of `folder`, which is there.
fn free(folder: &Path) -> Result<u64, Problem> {
    let stat = statvfs(folder).map_err(|error| Problem::io("look at", folder)(error.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn has_room(folder: &Path, needed: u64) -> Result<(), Problem> {
    let free = free(folder)?;
    if needed <= free {
        return Ok(());
    }
    Err(Problem::Space { path: folder.to_owned(), needed, free })
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Do blocking `work`, which looks at the token now and then and ends when nobody waits for it any more.
async fn background<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    tokio::task::spawn_blocking(move || work(&given_up)).await.map_err(Problem::Task)?
}

/// For work that goes on.
fn wanted(given_up: &CancellationToken) -> Result<(), Problem> {
    if given_up.is_cancelled() { Err(Problem::GivenUp) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
