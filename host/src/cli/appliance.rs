//! `particle-vm appliance`

use super::{EXIT_CODES, stdout};
use crate::appliance;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::ui::Ui;
use crate::vm::{Accel, Hypervisor};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Handle the small Debian that the VM runs
///
/// It is built of Debian's signed packages on first use, verified whenever it is used, and built anew when it is damaged.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Appliance {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with appliances.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build it now, unless it is there
    Build(Build),
    /// List those in the cache
    List,
    /// Write it to an archive, for a machine without network or without apt
    Export(Export),
    /// Take it from such an archive
    Import(Import),
    /// Remove one from the cache
    Rm(Rm),
}

/// Options of `appliance build`.
#[derive(Debug, Args)]
pub struct Build {
    /// Debian mirror; without it, the mirror of this machine's own apt sources
    #[arg(long, value_name = "URL", env = "PARTICLE_VM_MIRROR")]
    pub mirror: Option<String>,

    /// Build it even if there is one: takes the packages that the mirror has now
    #[arg(long)]
    pub force: bool,
}

/// Options of `appliance export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The archive to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Digest of the appliance, or its beginning; without it, the one in use
    pub digest: Option<String>,
}

/// Options of `appliance import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The archive
    pub archive: PathBuf,
}

/// Options of `appliance rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Digests of the appliances, or their beginnings
    #[arg(required = true)]
    pub digests: Vec<String>,
}

impl Appliance {
    /// Do it.
    ///
    /// # Errors
    /// When an appliance cannot be built, read, written or removed.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let dirs = Dirs::new()?;
        match self.verb {
            Verb::Build(options) => {
                let options = appliance::BuildOptions { mirror: options.mirror, force: options.force };
                let hypervisor = Hypervisor::detect(Accel::Auto, &dirs, ui.events()).await?;
                let built = appliance::build(&dirs, &hypervisor, &options, ui.events()).await?;
                stdout::print(format!("{}\n", built.digest()))?;
            }
            Verb::List => stdout::print(list(&appliance::list(&dirs)?))?,
            Verb::Export(options) => {
                let output = &options.output;
                let file = appliance::export(&dirs, options.digest.as_deref(), output, ui.events()).await?;
                stdout::print(format!("{}  {}\n", file.sha256, output.display()))?;
            }
            Verb::Import(options) => {
                let imported = appliance::import(&dirs, &options.archive, ui.events()).await?;
                stdout::print(format!("{}\n", imported.digest()))?;
            }
            Verb::Rm(options) => {
                for digest in options.digests {
                    let removed = appliance::remove(&dirs, &digest, ui.events()).await?;
                    stdout::print(format!("removed {removed}\n"))?;
                }
            }
        }
        Ok(0)
    }
}

/// One line for each: digest, size, kernel, and which one is in use.
fn list(found: &[appliance::Listed]) -> String {
    let mut text = String::new();
    for one in found {
        let kernel = one.manifest.as_ref().map_or("not usable with this version", |it| it.kernel_release.as_str());
        let current = if one.current { "  in use" } else { "" };
        let size = ByteSize(one.size).display().iec().to_string();
        text.push_str(&format!("{}  {size:>10}  {kernel}{current}\n", one.digest));
    }
    text
}
