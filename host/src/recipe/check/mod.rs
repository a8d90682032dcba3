//! What the shape of a recipe does not tell: whether its values make sense, alone and together.

mod credentials;
mod disk;
mod files;
pub(super) mod names;
mod order;
mod output;
mod packages;
mod system;

use super::document::Node;
use super::finding::{Finding, MAX_FINDINGS, Source};
use super::path::Path;
use super::sections::Sections;
use particle_vm_protocol::Stage;
use std::path::{Path as FilePath, PathBuf};

/// Everything that is wrong with the values of `sections`.
pub fn check(source: &Source, root: &Node, folder: &FilePath, sections: &Sections) -> Vec<Finding> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut checker = Checker { source, root, folder, findings: Vec::new() };
    output::check(&mut checker, sections);
    order::check(&mut checker, sections);
    disk::check(&mut checker, sections);
    let stages = Path::root().key("stages");
    for (index, (_, stage)) in sections.stages.iter().enumerate() {
        let path = stages.index(index);
        if let Some(stage) = stage {
            output::stage(&mut checker, &path, stage);
            checker.options(&path.key("options"), &stage.stage);
        }
    }
    checker.findings
}

/// Collects findings.
pub struct Checker<'a> {
    source: &'a Source,
    root: &'a Node,
    folder: PathBuf,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    /// The value at `path` is wrong.
    fn report(&mut self, path: &Path, message: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding::new(self.source, self.root.locate(path), message.into()));
        }
    }

    /// The value at `path` is wrong, and `help` tells the way out.
    fn advise(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding::new(self.source, self.root.locate(path), message.into()).help(help));
        }
    }

    /// The key that `path` ends in is wrong, and not its value.
    fn advise_key(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding::new(self.source, self.root.locate_key(path), message.into()).help(help));
        }
    }

    fn options(&mut self, path: &Path, stage: &Stage) {
        match stage {
            Stage::Debootstrap(options) => packages::debootstrap(self, path, options),
            Stage::Sources(options) => packages::sources(self, path, options),
            Stage::Apt(options) => packages::apt(self, path, options),
            Stage::Kernel(options) => packages::kernel(self, path, options),
            Stage::Locale(options) => system::locale(self, path, options),
            Stage::Timezone(options) => system::timezone(self, path, options),
            Stage::Hostname(options) => system::hostname(self, path, options),
            Stage::Users(options) => system::users(self, path, options),
            Stage::Systemd(options) => system::systemd(self, path, options),
            Stage::Files(options) => files::files(self, path, options),
            Stage::Copy(options) => files::copy(self, path, options),
            Stage::Run(options) => files::run(self, path, options),
            Stage::Bootloader(options) => disk::bootloader(self, path, options),
        }
    }

    /// Every item of a list that is not as `good` wants it.
    fn each(&mut self, path: &Path, items: &[String], good: fn(&str) -> bool, what: &str, help: &str) {
        for (index, item) in items.iter().enumerate() {
            if !good(item) {
                self.advise(&path.index(index), format!("`{item}` is not {what}"), help);
            }
        }
    }
}
