//! The container image that a recipe starts from: fetched, looked at, and put where the guest reads it.

use super::{EngineError, look};
use crate::dirs::Dirs;
use crate::error::{Classify, Result};
use crate::event::Events;
use crate::inspect::{self, Report};
use crate::plan::BaseFacts;
use crate::recipe::{self, Findings, GIB, Recipe, Size};
use crate::source::{self, Image, Reference};
use crate::store::Store;
use jiff::Timestamp;
use particle_vm_protocol::frame::MAX_FRAME;
use particle_vm_protocol::{Backend, Base, BaseLayer, Engine, share};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder in the workspace that the guest gets to see.
const FOLDER: &str = "base";

/// Smallest disk that a container image gets when its recipe does not say.
const LEAST: u64 = 4 * GIB;

/// Most bytes of the files of an image: what a recipe's scratch disk has room for.
const MOST: u64 = 8192 * GIB;

/// Most bytes that a plan has for what it says of the image; the rest is the recipe's.
const MAX_BASE: usize = MAX_FRAME / 4 * 3;

/// Most bytes of the manifest and of the configuration in the metadata of a commit: each is an argument of ostree-commit(1),
/// and the kernel takes 128 KiB (execve(2), `MAX_ARG_STRLEN`), with the key that stands before it.
const MAX_METADATA: usize = (128 << 10) - 256;

/// A container image that has been fetched.
#[derive(Debug)]
pub struct Fetched {
    image: Image,
    /// What a plan says about it.
    pub facts: BaseFacts,
}

impl Fetched {
    /// Fetch the image of `recipe`, when it starts from one, and settle what follows from it.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what it should be.
    pub async fn of(
        recipe: &mut Recipe,
        options: &source::Options,
        dirs: &Dirs,
        events: &Events,
    ) -> Result<Option<Self>> {
        let Some(reference) = reference(recipe)? else { return Ok(None) };
        let store = Store::open_waiting(dirs.store()).await?;
        let options = source::Options { architecture: recipe.architecture.name().into(), ..options.clone() };
        let image = Image::fetch(&reference, &options, &store, dirs, events).await?;
        let report = look::look(&image, recipe.engine, events).await?;
        let facts = facts(&image, look::engine(&report, recipe.engine)?, &report)?;
        look::warn(&report, events);
        if recipe.makes_disk() {
            let image = report.facts.disk();
            recipe.settle_image_disk(&image).map_err(|(message, help)| EngineError::ImageDisk { message, help })?;
        }
        if facts.base.backend == Backend::Composefs {
            recipe.settle_composefs(report.facts.has_unified_kernel())?;
        }
        if recipe.makes_disk() {
            recipe.settle_disk(Size(disk_size(facts.content_bytes)?));
        }
        Ok(Some(Self { image, facts }))
    }

    /// Write its layers into a folder in `workspace`, which the guest gets to see; and the image as it was fetched, where
    /// the guest hands it on.
    ///
    /// # Errors
    /// When a layer is not what its digests say, or there is no room.
    pub async fn unpack(&self, workspace: &Path, events: &Events) -> Result<PathBuf> {
        let folder = workspace.join(FOLDER);
        let cannot = |source| EngineError::File { path: folder.clone(), source };
        std::fs::create_dir(&folder).map_err(cannot)?;
        self.image.unpack(&folder, events).await?;
        if self.facts.base.engine == Engine::Bootc {
            self.image.layout(&folder.join(share::LAYOUT), events).await?;
        }
        Ok(folder)
    }
}

/// What `base-image` names.
fn reference(recipe: &Recipe) -> Result<Option<Reference>> {
    let Some(text) = &recipe.base_image else { return Ok(None) };
    let wrong = |error: source::ReferenceError| {
        let finding = recipe.finding(&recipe::Path::root().key("base-image"), error.to_string());
        Findings::from(match error.advice() {
            Some(advice) => finding.help(advice),
            None => finding,
        })
    };
    Ok(Some(text.parse::<Reference>().map_err(wrong)?.within(recipe.folder())))
}

/// What a plan says about an image that `report` tells of.
fn facts(image: &Image, engine: Engine, report: &Report) -> Result<BaseFacts> {
    let config: Value = serde_json::from_slice(&image.config).unwrap_or_default();
    let created = config["created"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let layers = image.layers.iter().enumerate().map(|(number, layer)| BaseLayer {
        file: format!("layer-{number}.tar"),
        digest: layer.digest.clone(),
        diff_id: layer.diff_id.clone(),
        size: layer.size,
    });
    let backend = match (engine, report.engine.backend) {
        (Engine::Bootc, Some(inspect::Backend::Composefs)) => Backend::Composefs,
        _ => Backend::Ostree,
    };
    let base = Base {
        engine,
        backend,
        layers: layers.collect(),
        manifest: canonical(&image.manifest),
        digest: image.digest.clone(),
        config: String::from_utf8_lossy(&image.config).into_owned(),
        created: created.map_or(0, |time| time.as_second().max(0)),
        reference: image.reference.clone().public().to_string(),
        origin: image.reference.origin().unwrap_or_default(),
    };
    fits(&base)?;
    let layers = report.facts.layers.iter();
    // A header for each file, and what its content is rounded up to.
    let layer_bytes = layers.fold(0_u64, |sum, layer| {
        sum.saturating_add(layer.unpacked).saturating_add(layer.entries.saturating_mul(1024))
    });
    // The image as it was fetched lies beside them.
    let packed = image.layers.iter().map(|layer| layer.size).filter(|_| engine == Engine::Bootc);
    let layer_bytes = packed.fold(layer_bytes, u64::saturating_add);
    Ok(BaseFacts { base, content_bytes: report.facts.bytes, layer_bytes })
}

/// Whether a plan has room for it, and a commit. Manifest and configuration are in it, and each may be as large as a plan.
fn fits(base: &Base) -> Result<()> {
    let documents = [("manifest", &base.manifest), ("configuration", &base.config)];
    let committed = documents.into_iter().filter(|_| base.engine == Engine::NativeOstree);
    for (document, text) in committed {
        if text.len() > MAX_METADATA {
            return Err(EngineError::Document { document, size: text.len(), most: MAX_METADATA }.into());
        }
    }
    let encoded = serde_json::to_vec(base).map_or(usize::MAX, |json| json.len());
    if encoded <= MAX_BASE { Ok(()) } else { Err(EngineError::Documents { most: MAX_BASE as u64 }.into()) }
}

/// The disk for so much content: as much again for the next update, and something to live in.
fn disk_size(content: u64) -> Result<u64> {
    let size = content.checked_mul(2).and_then(|twice| twice.checked_add(GIB)?.checked_next_multiple_of(GIB));
    let size = size.filter(|_| content <= MOST).ok_or(EngineError::Absurd { content, most: MOST })?;
    Ok(size.max(LEAST))
}

/// JSON without white space and with sorted keys, as the importers of OSTree keep it (OLPC's canonical JSON). What is no
/// JSON stays as it is.
fn canonical(text: &[u8]) -> String {
    // Its maps are sorted by themselves.
    let sorted = serde_json::from_slice::<Value>(text).map(|value| value.to_string());
    sorted.unwrap_or_else(|_| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn a_manifest_is_sorted() {
        assert_eq!(
            canonical(b"{ \"b\": [ { \"d\": 1, \"c\": 2 } ],\n \"a\": \"x y\" }"),
            r#"{"a":"x y","b":[{"c":2,"d":1}]}"#
        );
    }

    #[test]
    fn a_disk_has_room_for_an_update() {
        assert_eq!(disk_size(100).unwrap(), 4 * GIB);
        assert_eq!(disk_size(3 * GIB).unwrap(), 7 * GIB);
        for content in [MOST + 1, u64::MAX / 2, u64::MAX] {
            let error = disk_size(content).unwrap_err();
            assert!(error.to_string().starts_with("the files of the image have"), "{error}");
            assert_eq!(error.get().class(), Class::Build);
        }
    }

    #[test]
    fn documents_that_no_plan_has_room_for_are_the_fault_of_the_image() {
        let mut base = Base {
            engine: Engine::Plain,
            backend: Backend::Ostree,
            layers: Vec::new(),
            manifest: "m".repeat(MAX_BASE / 2),
            digest: String::new(),
            config: String::new(),
            created: 0,
            reference: String::new(),
            origin: String::new(),
        };
        fits(&base).unwrap();
        base.config = "c".repeat(MAX_BASE / 2);
        let error = fits(&base).unwrap_err();
        assert!(error.to_string().contains("manifest and the configuration of the image"), "{error}");
        assert_eq!(error.get().class(), Class::Build);
    }

    #[test]
    fn documents_that_no_commit_has_room_for_are_refused_where_they_become_one() {
        let long = "l".repeat(MAX_METADATA + 1);
        for (document, manifest, config) in [("manifest", long.as_str(), ""), ("configuration", "", &long)] {
            let mut base = Base {
                engine: Engine::NativeOstree,
                backend: Backend::Ostree,
                layers: Vec::new(),
                manifest: manifest.into(),
                digest: String::new(),
                config: config.into(),
                created: 0,
                reference: String::new(),
                origin: String::new(),
            };
            let error = fits(&base).unwrap_err();
            let told = format!("the {document} of the image has {} bytes", MAX_METADATA + 1);
            assert!(error.to_string().starts_with(&told), "{error}");
            assert_eq!(error.get().class(), Class::Build);
            assert!(error.get().advice().unwrap().contains("engine: plain"));
            for engine in [Engine::Plain, Engine::Bootc] {
                base.engine = engine;
                fits(&base).unwrap();
            }
            base = Base { engine: Engine::NativeOstree, manifest: "{}".into(), config: "{}".into(), ..base };
            fits(&base).unwrap();
        }
    }
}
