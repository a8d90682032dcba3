//! What the shape of a recipe does not tell: whether its values make sense, alone and together.

pub(super) mod boot;
mod container;
mod credentials;
mod disk;
mod files;
mod folder;
mod keymap;
pub(super) mod names;
mod order;
mod ostree;
mod output;
mod packages;
mod partition;
mod system;

pub use container::without;
pub use output::unfit;

use super::document::Node;
use super::finding::{Finding, MAX_FINDINGS, Source};
use super::path::Path;
use super::sections::Sections;
use particle_vm_protocol::Stage;
use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

/// What the checks have found.
pub struct Checked {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// How many bytes the stages copy from the recipe's folder.
    pub copied: u64,
}

/// Checks the values of `sections`.
pub fn check(source: &Source, root: &Node, folder: &FilePath, sections: &Sections) -> Checked {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut checker = Checker { source, root, folder, sections, findings: Vec::new(), copied: BTreeMap::new() };
    output::check(&mut checker, sections);
    container::check(&mut checker, sections);
    order::check(&mut checker, sections);
    let stages = Path::root().key("stages");
    for (index, section) in sections.stages.iter().enumerate() {
        let path = stages.index(index);
        if let Some(stage) = &section.stage {
            output::stage(&mut checker, &path, stage);
            checker.options(&path.key("options"), &stage.stage);
        }
    }
    files::across(&mut checker, sections);
    // After the stages, which have looked how large their files are.
    disk::check(&mut checker, sections);
    let copied = checker.copied.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
    Checked { findings: checker.findings, copied }
}

/// Collects findings.
pub struct Checker<'a> {
    source: &'a Source,
    root: &'a Node,
    folder: PathBuf,
    sections: &'a Sections,
    findings: Vec<Finding>,
    // Bytes of the files that a stage copies, by the place of its options.
    copied: BTreeMap<Path, u64>,
}

impl Checker<'_> {
    /// The value at `path` is wrong.
    fn report(&mut self, path: &Path, message: impl Into<String>) {
        if self.asks(path) {
            let finding = Finding::new(self.source, self.root.locate(path), message.into());
            self.findings.push(finding);
        }
    }

    /// The value at `path` is wrong, and `help` tells the way out.
    fn advise(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if self.asks(path) {
            let finding = Finding::new(self.source, self.root.locate(path), message.into());
            self.findings.push(finding.help(help));
        }
    }

    /// The key that `path` ends in is wrong, and not its value.
    fn advise_key(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        if self.asks(path) {
            let finding = Finding::new(self.source, self.root.locate_key(path), message.into());
            self.findings.push(finding.help(help));
        }
    }

    /// Whether a finding about the value at `path` is wanted.
    fn asks(&self, path: &Path) -> bool {
        self.findings.len() < MAX_FINDINGS && self.reads(path)
    }

    /// Whether the recipe has a value at `path`.
    fn is_written(&self, path: &Path) -> bool {
        self.root.at(path).is_some_and(|node| !node.is_null())
    }

    /// Whether the value at `path` is the recipe's own.
    fn reads(&self, path: &Path) -> bool {
        !self.sections.unread.covers(path)
    }

    /// Whether the recipe starts from an image. A `base-image` that cannot be read may be one.
    fn is_based(&self) -> bool {
        self.sections.base_image.is_some() || !self.reads(&Path::root().key("base-image"))
    }

    fn options(&mut self, path: &Path, stage: &Stage) {
        match stage {
            Stage::Debootstrap(options) => packages::debootstrap(self, path, options),
            Stage::Sources(options) => packages::sources(self, path, options),
            Stage::Apt(options) => packages::apt(self, path, options),
            Stage::Kernel(options) => packages::kernel(self, path, options),
            Stage::Locale(options) => system::locale(self, path, options),
            Stage::Timezone(options) => system::timezone(self, path, options),
            Stage::Keymap(options) => keymap::keymap(self, path, options),
            Stage::Hostname(options) => system::hostname(self, path, options),
            Stage::Users(options) => system::users(self, path, options),
            Stage::Systemd(options) => system::systemd(self, path, options),
            Stage::Files(options) => files::files(self, path, options),
            Stage::Copy(options) => files::copy(self, path, options),
            Stage::Run(options) => files::run(self, path, options),
            Stage::Bootloader(options) => boot::bootloader(self, path, options),
            Stage::Bootc(options) => container::bootc(self, path, options),
            Stage::BootcInstall(options) => container::install(self, path, options),
            Stage::OstreeConfig(options) => ostree::config(self, path, options),
            Stage::OstreePull(options) => ostree::pull(self, path, options),
            Stage::OstreeRemotes(options) => ostree::remotes(self, path, options),
            Stage::OstreeCommit(options) => ostree::commit(self, path, options),
            Stage::OstreeDeploy(options) => ostree::deploy(self, path, options),
            // Their options have no values that the shape does not tell.
            Stage::Bootupd(_) | Stage::OstreeInit(_) => {}
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
