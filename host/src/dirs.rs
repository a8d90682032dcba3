//! Where particle-vm keeps things, after the XDG Base Directory Specification.

use crate::error::{Class, Classify};
use etcetera::BaseStrategy;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// There is no home folder.
#[derive(Debug, Error)]
#[error("cannot tell where the cache belongs")]
pub struct NoHome(#[source] etcetera::HomeDirError);

impl Classify for NoHome {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        Some("set HOME or XDG_CACHE_HOME to a folder that you can write to".into())
    }
}

/// The folders of the cache.
#[derive(Debug, Clone)]
pub struct Dirs {
    cache: PathBuf,
}

impl Dirs {
    /// `$XDG_CACHE_HOME/particle-vm`, or `~/.cache/particle-vm`.
    ///
    /// # Errors
    /// When there is neither `XDG_CACHE_HOME` nor a home folder.
    pub fn new() -> Result<Self, NoHome> {
        let base = etcetera::base_strategy::Xdg::new().map_err(NoHome)?;
        Ok(Self { cache: base.cache_dir().join("particle-vm") })
    }

    /// The same layout beneath another folder.
    pub fn at(cache: &Path) -> Self {
        Self { cache: cache.to_owned() }
    }

    /// Appliances, one folder for each digest.
    pub fn appliances(&self) -> PathBuf {
        self.cache.join("appliance")
    }

    /// Content-addressed store of what was fetched.
    pub fn store(&self) -> PathBuf {
        self.cache.join("store")
    }

    /// Small facts about this machine, for instance the verdict on KVM.
    pub fn facts(&self) -> PathBuf {
        self.cache.join("facts")
    }

    /// What the stages of the last build of each recipe have followed from.
    pub fn recipes(&self) -> PathBuf {
        self.cache.join("recipes")
    }

    /// Logs of builds that failed, and of those under way.
    pub fn logs(&self) -> PathBuf {
        self.cache.join("logs")
    }

    /// Scratch disks and sockets of the builds under way, unless `--work-dir` names another place.
    pub fn work(&self) -> PathBuf {
        self.cache.join("work")
    }
}
