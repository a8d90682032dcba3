//! Where in the output folder each image lies.

use super::Format;
use std::path::{Path, PathBuf};

/// How the images lie in the output folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// Beside each other, by the name of the image
    #[default]
    Flat,
    /// As bootc-image-builder has them: qcow2/disk.qcow2, image/disk.raw, vmdk/disk.vmdk, vpc/disk.vhd
    Bib,
}

impl Layout {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Flat, Self::Bib];

    /// Path in the output folder of an image called `name`. A format that bootc-image-builder does not have lies where it
    /// always does.
    pub(super) fn place(self, format: Format, name: &str) -> String {
        match (self, format) {
            (Self::Bib, Format::Raw) => "image/disk.raw".into(),
            (Self::Bib, Format::Qcow2) => "qcow2/disk.qcow2".into(),
            (Self::Bib, Format::Vmdk) => "vmdk/disk.vmdk".into(),
            (Self::Bib, Format::Vhd) => "vpc/disk.vhd".into(),
            _ => format.file_name(name),
        }
    }
}

/// The folders in the folder `dir` that `places` lie in, without `dir` itself.
pub(super) fn folders<'a>(dir: &Path, places: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    let folders = places.filter_map(|place| Path::new(place).parent());
    folders.filter(|folder| !folder.as_os_str().is_empty()).map(|folder| dir.join(folder)).collect()
}
