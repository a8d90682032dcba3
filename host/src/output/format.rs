//! The formats of outputs.

use particle_vm_protocol::ArchiveKind;
use serde::{Deserialize, Serialize};

/// A format that an image can be written in: of its disk, or of its tree as a container or an archive. Recipes and the
/// command line use the names in kebab case.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The bytes of the disk, as a sparse file.
    Raw,
    /// QEMU's own format, version 3.
    Qcow2,
    /// VMware's, as one growing file (`monolithicSparse`): VMware Workstation, Fusion and VirtualBox attach it as it is
    /// and can write to it. vSphere wants it imported with `vmkfstools -i` or ovftool.
    Vmdk,
    /// VirtualBox's own format, growing.
    Vdi,
    /// Microsoft's older format, growing, for Hyper-V generation 1. It says its size in bytes and not only in
    /// cylinders, heads and sectors, so that it is exactly the size of the disk.
    Vhd,
    /// Microsoft's newer format, growing, for Hyper-V generations 1 and 2.
    Vhdx,
    /// A container as one file, `NAME.oci.tar`: an OCI image layout in a tar archive. podman and skopeo read it.
    OciArchive,
    /// A container as a folder, `NAME.oci`: an OCI image layout.
    Oci,
    /// A container as one file, `NAME.docker.tar`, as `docker save` writes it.
    DockerArchive,
    /// The OSTree repository with the commit of the stage `ostree.commit`, as a folder, `NAME.repo`, for a web server.
    OstreeRepo,
    /// The files of the tree as a tar archive.
    Tar,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vdi,
        Self::Vhd,
        Self::Vhdx,
        Self::OciArchive,
        Self::Oci,
        Self::DockerArchive,
        Self::OstreeRepo,
        Self::Tar,
    ];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::OciArchive => "oci-archive",
            Self::Oci => "oci",
            Self::DockerArchive => "docker-archive",
            Self::OstreeRepo => "ostree-repo",
            Self::Tar => "tar",
        }
    }

    /// Name of the file or folder of an image called `image`.
    pub fn file_name(self, image: &str) -> String {
        let extension = match self {
            Self::OciArchive => "oci.tar",
            Self::DockerArchive => "docker.tar",
            Self::OstreeRepo => "repo",
            other => other.name(),
        };
        format!("{image}.{extension}")
    }

    /// Whether it is a disk, and not a container or an archive.
    pub fn is_disk(self) -> bool {
        self.archive().is_none()
    }

    /// Whether it is a container.
    pub fn is_container(self) -> bool {
        matches!(self, Self::OciArchive | Self::Oci | Self::DockerArchive)
    }

    /// A file that tells a folder of this format from any other folder; none when the format is a file.
    pub(super) fn folder_mark(self) -> Option<&'static str> {
        match self {
            Self::Oci => Some("oci-layout"),
            Self::OstreeRepo => Some("config"),
            _ => None,
        }
    }

    /// The archive of the guest's that it is made of; none for a disk.
    pub fn archive(self) -> Option<ArchiveKind> {
        match self {
            Self::OciArchive | Self::Oci | Self::DockerArchive | Self::Tar => Some(ArchiveKind::Tree),
            Self::OstreeRepo => Some(ArchiveKind::Repository),
            _ => None,
        }
    }

    /// The name of QEMU's block driver for a disk.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// The format of a QEMU block driver, if it is one of ours.
    pub fn from_driver(driver: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.is_disk() && format.driver() == driver)
    }

    /// Options for `qemu-img convert -o`.
    pub(super) fn create_options(self) -> Option<&'static str> {
        match self {
            Self::Qcow2 => Some("compat=1.1"),
            Self::Vmdk => Some("subformat=monolithicSparse,adapter_type=lsilogic"),
            Self::Vhd => Some("subformat=dynamic,force_size=on"),
            Self::Vhdx => Some("subformat=dynamic"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for format in Format::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
            assert_eq!(clap::ValueEnum::to_possible_value(&format).unwrap().get_name(), format.name());
            assert_eq!(Format::from_driver(format.driver()), Some(format).filter(|format| format.is_disk()));
        }
    }

    #[test]
    fn no_two_formats_have_the_same_file() {
        let names: std::collections::BTreeSet<_> = Format::ALL.iter().map(|format| format.file_name("x")).collect();
        assert_eq!(names.len(), Format::ALL.len());
    }
}
