//! `particle-vm init`

use super::EXIT_CODES;
use crate::error::{Class, Classify, Result};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use thiserror::Error;

/// Write a recipe to start from
///
/// The recipe is complete and builds as it is.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Init {
    /// The file to write; an existing one is not touched
    #[arg(default_value = "recipe.yml")]
    pub file: PathBuf,

    /// What to start from
    #[arg(long, value_enum, default_value_t, value_name = "NAME")]
    pub template: Template,
}

/// Recipes that ship with particle-vm.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Template {
    /// The smallest: a console, a locale, a time zone, a user
    MinimalDebugLocale,
    /// A server with ssh and network, for BIOS and UEFI
    #[default]
    SimpleCliBootable,
    /// All image formats from one build
    QemuFormats,
    /// systemd-boot instead of GRUB, for UEFI
    SystemdBoot,
    /// A bootable container, as an OCI archive
    ParticleOsBase,
    /// That container on a disk
    ParticleOsDisk,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::MinimalDebugLocale => include_str!("../../../recipes/minimal-debug-locale.yml"),
            Self::SimpleCliBootable => include_str!("../../../recipes/simple-cli-bootable.yml"),
            Self::QemuFormats => include_str!("../../../recipes/qemu-formats.yml"),
            Self::SystemdBoot => include_str!("../../../recipes/systemd-boot.yml"),
            Self::ParticleOsBase => include_str!("../../../recipes/particle-os-base.yml"),
            Self::ParticleOsDisk => include_str!("../../../recipes/particle-os-disk.yml"),
        }
    }
}

/// The recipe cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}", .file.display())]
pub struct InitError {
    file: PathBuf,
    #[source]
    source: io::Error,
}

impl Classify for InitError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn advice(&self) -> Option<String> {
        let exists = self.source.kind() == io::ErrorKind::AlreadyExists;
        exists.then(|| "name another file: particle-vm init FILE".into())
    }
}

impl Init {
    /// Write it.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn run(self) -> Result<u8> {
        let file = self.file;
        File::create_new(&file)
            .and_then(|mut recipe| recipe.write_all(self.template.text().as_bytes()))
            .map_err(|source| InitError { file: file.clone(), source })?;
        super::stdout::print(format!("wrote {0}; build it with: particle-vm build {0}\n", file.display()))?;
        Ok(0)
    }
}
