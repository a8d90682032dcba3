//! `particle-vm inspect`

use super::images::Images;
use super::{EXIT_CODES, stdout};
use crate::clean;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::source::{Image, Layer, Reference};
use crate::store::Store;
use crate::ui::Ui;
use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;

/// Architecture of the images, as OCI calls it.
const ARCHITECTURE: &str = "amd64";

/// Tell what a container image consists of
///
/// IMAGE is HOST/NAME:TAG or docker://HOST/NAME:TAG in a registry, oci:DIR or oci:DIR:TAG, oci-archive:FILE or
/// oci-archive:FILE:TAG, docker-archive:FILE or docker-archive:FILE:NAME:TAG, containers-storage:NAME in podman's store,
/// or docker-daemon:NAME in docker's. It is fetched as far as it is not in the cache.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Inspect {
    /// The image
    pub image: String,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,

    /// The way to it.
    #[command(flatten)]
    pub images: Images,
}

/// What is told.
#[derive(Serialize)]
struct Summary<'a> {
    reference: String,
    origin: Option<String>,
    digest: &'a str,
    config_digest: &'a str,
    layers: &'a [Layer],
    labels: BTreeMap<String, String>,
}

impl Inspect {
    /// Fetch the image and tell about it.
    ///
    /// # Errors
    /// When it cannot be fetched, or is none.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let reference: Reference = self.image.parse()?;
        let dirs = Dirs::new()?;
        let store = Store::open_waiting(dirs.store()).await?;
        let options = self.images.options(ARCHITECTURE);
        let image = Image::fetch(&reference, &options, &store, &dirs, ui.events()).await?;
        let summary = Summary {
            reference: image.reference.to_string(),
            origin: image.reference.origin(),
            digest: &image.digest,
            config_digest: &image.config_digest,
            layers: &image.layers,
            labels: image.labels(),
        };
        if self.json {
            stdout::print_json(&summary)?
        } else {
            stdout::print(summary.text())?
        }
        Ok(0)
    }
}

impl Summary<'_> {
    fn text(&self) -> String {
        let mut text =
            format!("image    {}\ndigest   {}\nconfig   {}\n", self.reference, self.digest, self.config_digest);
        for layer in self.layers {
            let size = ByteSize(layer.size).display().iec().to_string();
            text.push_str(&format!("layer    {} {size:>10}\n", layer.digest));
        }
        for (name, value) in &self.labels {
            text.push_str(&format!("label    {}={}\n", clean::line(name), clean::line(value)));
        }
        text
    }
}
