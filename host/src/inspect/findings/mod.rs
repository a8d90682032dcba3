//! What is worth knowing about an image before a disk is made of it.
//!
//! Most of it cost somebody a day: an image that builds, installs and does not boot, or boots and dies at its first
//! update. Each finding says what to change in the image.

mod bootc;
mod debian;
mod kernel;
mod loaders;
mod ostree;
mod users;
mod var;

use super::engine::{Backend, Engine};
use super::report::Facts;
use super::tree::{Node, Tree};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The engine refuses the image, or what it makes does not boot.
    Error,
    /// It boots, and something does not work, or not after an update, or not as safely as it should.
    Warning,
    /// Good to know.
    Note,
}

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its name, which stays the same: `no-kernel`.
    pub code: &'static str,
    /// What was found, and what comes of it.
    pub message: String,
    /// What to change in the image: a line for its Containerfile, or a stage of its recipe.
    pub remedy: String,
}

/// What findings are made from.
pub(super) struct Look<'a> {
    pub(super) tree: &'a Tree,
    pub(super) facts: &'a Facts,
    /// The engine that the image is made for.
    pub(super) engine: Engine,
    /// What its deployment lies in; none where it makes none.
    pub(super) backend: Option<Backend>,
    found: Vec<Finding>,
}

/// All findings about an image for `engine`, the worst first.
pub(super) fn all(tree: &Tree, facts: &Facts, engine: Engine) -> Vec<Finding> {
    let mut look = Look { tree, facts, engine, backend: Backend::of(engine, facts), found: Vec::new() };
    if !debian::system(&mut look) {
        // Whatever else it lacks, it is no system.
        return look.found;
    }
    kernel::all(&mut look);
    if look.is_deployed() {
        ostree::all(&mut look);
        var::all(&mut look);
    }
    bootc::all(&mut look);
    loaders::all(&mut look);
    debian::leftovers(&mut look);
    users::all(&mut look);
    look.found.sort_by_key(|finding| finding.severity);
    look.found
}

impl<'a> Look<'a> {
    /// Whether the tree becomes a deployment.
    fn is_deployed(&self) -> bool {
        self.backend.is_some()
    }

    fn add(&mut self, severity: Severity, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Finding { severity, code, message: message.into(), remedy: remedy.into() });
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, code, message, remedy);
    }

    fn warning(&mut self, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, code, message, remedy);
    }

    fn note(&mut self, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Note, code, message, remedy);
    }

    /// The file `name` of /etc, which a tree that is ready for OSTree has in /usr/etc.
    fn etc(&self, name: &str) -> Option<(String, &'a Node)> {
        let paths = [format!("etc/{name}"), format!("usr/etc/{name}")];
        paths.into_iter().find_map(|path| {
            let node = self.tree.find(&path)?;
            Some((path, node))
        })
    }

    /// The text of that file, if it is among those that are kept.
    fn etc_text(&self, name: &str) -> Option<(String, String)> {
        let (path, _) = self.etc(name)?;
        let text = self.tree.text(&path)?;
        Some((path, text))
    }
}

/// The first of `paths`, for a message: `/a, /b and 3 more`.
fn some_of(paths: &[String]) -> String {
    let shown: Vec<_> = paths.iter().take(3).map(|path| format!("/{path}")).collect();
    match paths.len().saturating_sub(3) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
