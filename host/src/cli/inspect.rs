//! `particle-vm inspect`

use super::images::Images;
use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::engine::look;
use crate::error::{Class, Result};
use crate::inspect::Engine;
use crate::source::{Image, Reference};
use crate::store::Store;
use crate::ui::{Ui, inspection};
use clap::Args;

/// Tell what is in a container image, which engine makes a disk of it, and what is wrong with it
///
/// IMAGE is HOST/NAME:TAG or docker://HOST/NAME:TAG in a registry, oci:DIR or oci:DIR:TAG, oci-archive:FILE or
/// oci-archive:FILE:TAG, docker-archive:FILE or docker-archive:FILE:NAME:TAG, containers-storage:NAME in podman's store,
/// or docker-daemon:NAME in docker's. It is fetched as far as it is not in the cache. Ends with 1 when no engine fits.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Inspect {
    /// The image
    pub image: String,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,

    /// Look with the eyes of this engine instead of the one that the image is made for: native-ostree, bootc or plain
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    pub engine: Option<particle_vm_protocol::Engine>,

    /// The way to it.
    #[command(flatten)]
    pub images: Images,
}

impl Inspect {
    /// Fetch the image and tell about it.
    ///
    /// # Errors
    /// When it cannot be fetched, is none, or holds what no image may hold.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let reference: Reference = self.image.parse()?;
        let dirs = Dirs::new()?;
        let store = Store::open_waiting(dirs.store()).await?;
        let options = self.images.options();
        let image = Image::fetch(&reference, &options, &store, &dirs, ui.events()).await?;
        let report = look(&image, self.engine, ui.events()).await?;
        if self.json {
            stdout::print_json(&report)?;
        } else {
            stdout::print(inspection::text(&report))?;
        }
        Ok(if report.engine.name == Engine::None { Class::Build.exit_code() } else { 0 })
    }
}

/// An engine, by the name that recipes have for it.
fn engine(name: &str) -> std::result::Result<particle_vm_protocol::Engine, serde_json::Error> {
    serde_json::from_value(name.into())
}
