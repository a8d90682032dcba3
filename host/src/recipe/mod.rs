//! Recipes: from YAML to a [`Recipe`] that has been checked, or to everything that is wrong with it.

mod alias;
pub mod blueprint;
mod check;
mod document;
mod finding;
mod fit;
mod image_disk;
mod layout;
pub mod limits;
mod near;
mod path;
mod reference;
pub mod rootflags;
mod schema;
mod sections;
mod shape;
mod size;
mod types;
mod unread;
mod variables;

pub use finding::{Finding, Findings, Source};
pub use image_disk::ImageDisk;
pub use layout::{EDGE, firmwares, layout};
pub use path::{Path, Step};
pub use reference::reference;
pub use schema::schema;
pub use size::{GIB, MIB, Size, Timeout};
pub use types::{
    Architecture, Compression, Container, Disk, Network, Output, Partition, Recipe, RecipeStage, Resources, Test,
};

use crate::output::Format;
use document::MAX_BYTES;
use particle_vm_protocol::stage::{Bootloader, InstallToFilesystem};
use particle_vm_protocol::{Engine, Stage};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path as FilePath;

/// Read the recipe at `path` and check all that can be checked without building it. `variables` are values for
/// `${NAME}` from the command line.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &FilePath, variables: &BTreeMap<String, String>) -> Result<Recipe, Findings> {
    let source = read_text(path, "the recipe", "YAML")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
    parse(source, folder, variables)
}

/// The same for text that has been read already; the files that it names are looked for in `folder`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(source: Source, folder: &FilePath, variables: &BTreeMap<String, String>) -> Result<Recipe, Findings> {
    let (root, findings) = document::read(&source)?;
    let replaced = variables::replace(&source, &root, variables);
    checked(source, folder, findings, replaced)
}

/// A document as a recipe. `findings` are those that there are already.
fn checked(
    source: Source,
    folder: &FilePath,
    mut findings: Vec<Finding>,
    replaced: variables::Replaced,
) -> Result<Recipe, Findings> {
    let variables::Replaced { root, findings: unknown, without } = replaced;
    let shape::Shaped { findings: misfits, value, unread } = shape::check(&source, &root);
    findings.extend(misfits);
    let sections = sections::read(&value, unread);
    let check::Checked { findings: wrong, copied } = check::check(&source, &root, folder, &sections);
    findings.extend(wrong);
    // What else there is to say about a value whose variable is missing only misleads.
    findings.retain(|finding| !without.contains(&finding.place()));
    findings.extend(unknown);
    if let Some(findings) = Findings::new(findings) {
        return Err(findings);
    }
    // Only a defect of the schema lets a misfit through to here.
    let mut recipe = Recipe::deserialize(value).map_err(|error| Finding::new(&source, 0..0, error.to_string()))?;
    let deployed = recipe.base_image.is_some() || recipe.deploys().is_some();
    let bootloader = deployed.then(Bootloader::default);
    let ordered = false;
    recipe.origin = types::Origin { source, root: Some(root), folder: folder.to_owned(), copied, bootloader, ordered };
    if recipe.install().is_some() {
        recipe.engine = Some(Engine::Bootc);
    }
    recipe.fits_commit()?;
    match recipe.engine {
        Some(engine) => recipe.fits(engine).map(|()| recipe),
        None => Ok(recipe),
    }
}

impl Recipe {
    /// SHA-256 of its text, in hexadecimal.
    pub fn sha256(&self) -> String {
        let hash = self.origin.source.parts().fold(Sha256::new(), |hash, part| hash.chain_update(part.text()));
        hex::encode(hash.finalize())
    }

    /// The folder whose files the recipe can use, and which the guest sees.
    pub fn folder(&self) -> &FilePath {
        &self.origin.folder
    }

    /// How many bytes the files of its folder have that it copies into the image.
    pub fn copied(&self) -> u64 {
        self.origin.copied
    }

    /// Whether its disk can be written in `formats`, which the command line names instead of its own.
    ///
    /// # Errors
    /// With what is wrong with them.
    pub fn check_formats(&self, formats: &[Format]) -> Result<(), Findings> {
        let stages: Vec<_> = self.stages.iter().map(|stage| &stage.stage).collect();
        // That of a container image follows from it.
        let disk = self.disk.is_some() || self.base_image.is_some();
        let wrong = formats.iter().enumerate().filter_map(|(index, format)| {
            let (message, help) = check::unfit(*format, &formats[..index], self.disk.as_ref())
                .or_else(|| check::without(*format, (disk, self.base_image.is_some()), &stages))?;
            Some(Finding::of_file(self.origin.source.name(), format!("`--format {format}`: {message}")).help(help))
        });
        let mut wrong: Vec<_> = wrong.collect();
        if self.deploys().is_some() && !formats.is_empty() && !formats.iter().any(|format| format.is_disk()) {
            let finding =
                Finding::of_file(self.origin.source.name(), "`--format`: there is no disk for the deployment");
            wrong.push(finding.help("name a format that is a disk too, for instance `qcow2`"));
        }
        Findings::new(wrong).map_or(Ok(()), Err)
    }

    /// A finding about the value at `path`, made after the recipe was read.
    pub fn finding(&self, path: &Path, message: impl Into<std::borrow::Cow<'static, str>>) -> Finding {
        Finding::new(&self.origin.source, self.origin.root.as_ref().map_or(0..0, |root| root.locate(path)), message)
    }

    /// Line and column of the value at `path`, both from 1; where there is none, of the nearest value around it.
    pub fn locate(&self, path: &Path) -> (usize, usize) {
        let span = self.origin.root.as_ref().map_or(0..0, |root| root.locate(path));
        self.origin.source.position(span.start)
    }

    /// Whether a disk is made, and not only containers and archives.
    pub fn makes_disk(&self) -> bool {
        self.output.formats.iter().any(|format| format.is_disk())
    }

    /// What it says of an image that installs itself, in the stage for that.
    pub fn install(&self) -> Option<&InstallToFilesystem> {
        self.stages.iter().find_map(|stage| match &stage.stage {
            Stage::BootcInstall(options) => Some(options),
            _ => None,
        })
    }

    /// Which of its stages makes a commit the system on the disk.
    pub fn deploys(&self) -> Option<usize> {
        self.stages.iter().position(|stage| matches!(stage.stage, Stage::OstreeDeploy(_)))
    }

    /// The bootloader, if the image gets one: that of the stage, or what boots a deployment for which no stage says so.
    pub fn bootloader(&self) -> Option<&Bootloader> {
        self.stages
            .iter()
            .find_map(|stage| if let Stage::Bootloader(options) = &stage.stage { Some(options) } else { None })
            .or(self.origin.bootloader.as_ref())
    }

    /// Whether the recipe itself has a value at `path`.
    fn is_written(&self, path: &Path) -> bool {
        let node = self.origin.root.as_ref().and_then(|root| root.at(path));
        node.is_some_and(|node| !node.is_null())
    }
}

/// The text of a file, which is in `language`; findings about the whole of it call it `what`.
fn read_text(path: &FilePath, what: &str, language: &str) -> Result<Source, Findings> {
    let name = path.display().to_string();
    let text = read_file(path, what).map_err(|message| Finding::of_file(name.clone(), message))?;
    let text = String::from_utf8(text).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        Finding::of_file(name.clone(), format!("line {line} is not UTF-8, so this is not {language}"))
    })?;
    Ok(Source::new(name, text))
}

fn read_file(path: &FilePath, what: &str) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot read {what}: {error}");
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let data = std::fs::metadata(path).map_err(cannot)?;
    if !data.is_file() {
        return Err(format!("{what} is not a file"));
    }
    let mut text = Vec::new();
    File::open(path).map_err(cannot)?.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{what} has {} bytes, and {} is the most", data.len(), Size(MAX_BYTES)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
