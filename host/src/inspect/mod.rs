//! `particle-vm inspect`: what is in a container image, which engine makes a disk of it, and what is wrong with it.
//!
//! The layers pass by as streams, lowest first; nothing is unpacked, and no file system is mounted. What is known
//! afterwards is an index of the merged tree and the contents of a few files. Whoever made the image may be hostile:
//! sizes have limits (`limits.rs`), and no name leads anywhere but beneath the image's own root.

mod archive;
mod bootc;
mod config;
mod dpkg;
mod engine;
mod error;
mod findings;
mod initramfs;
mod keep;
mod kernels;
mod layers;
mod limits;
mod loaders;
mod name;
mod os;
mod ostree;
mod report;
#[cfg(test)]
mod tests;
mod tree;
mod uki;

pub use bootc::{Bootc, Problem};
pub use config::{Config, Layer};
pub use engine::{Backend, Choice, Engine, Requirements};
pub use error::InspectError;
pub use findings::{Finding, Severity};
pub use initramfs::Initramfs;
pub use kernels::Kernel;
pub use loaders::{Bootupd, Component, Loaders};
pub use os::{OsRelease, Packages, Password, User};
pub use ostree::{Composefs, Ostree, PrepareRoot};
pub use report::{Facts, Report};
pub use uki::Uki;

use std::io::{self, Read};

/// An image, but for its layers.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What the user called it.
    pub reference: &'a str,
    /// What a system that is made of it pulls updates from, in ostree's words; none for what no machine can reach.
    pub origin: Option<&'a str>,
    /// The digest of its manifest.
    pub digest: &'a str,
    /// The digest of its configuration.
    pub config_digest: &'a str,
    /// Its manifest, the one of an architecture.
    pub manifest: &'a [u8],
    /// Its configuration.
    pub config: &'a [u8],
    /// The engine that is wished for, if it is not to be the one that the image is made for.
    pub wish: Option<Engine>,
}

/// Look into an image. `layers` are its layers as tar archives without compression, lowest first; each is read to its
/// end before the next is asked for. Blocking.
///
/// # Errors
/// When a layer cannot be read, or holds what no image may hold. What is merely wrong with the image is in the report.
pub fn image<R: Read>(
    input: Input<'_>,
    layers: impl IntoIterator<Item = io::Result<R>>,
) -> Result<Report, InspectError> {
    let config = config::config(input.config)?;
    let listed = config::layers(input.manifest)?;
    let digests: Vec<_> = listed.iter().map(|layer| layer.digest.as_str()).collect();
    let (tree, passed) = layers::apply(layers, &digests)?;
    let layers = listed.into_iter().zip(&passed).enumerate();
    let layers = layers.map(|(index, (layer, passed))| layer.passed(config.diff_ids.get(index), passed)).collect();
    let facts = Facts::of(&tree, config, layers);
    let (candidate, reason) = match input.wish {
        Some(wish) => (wish, format!("the engine `{}` is asked for", wish.name())),
        None => engine::candidate(&facts),
    };
    let findings = findings::all(&tree, &facts, candidate);
    let engine = engine::choose(&facts, candidate, reason, &findings);
    Ok(Report {
        reference: input.reference.to_owned(),
        origin: input.origin.map(ToOwned::to_owned),
        digest: input.digest.to_owned(),
        config_digest: input.config_digest.to_owned(),
        facts,
        engine,
        findings,
    })
}
