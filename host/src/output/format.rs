//! The formats of disk images.

use serde::{Deserialize, Serialize};

/// A format that a disk image can be written in. Recipes and the command line use the names in lower case.
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
#[serde(rename_all = "lowercase")]
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
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vdi, Self::Vhd, Self::Vhdx];

    /// The name in recipes, which is the extension of the file too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        }
    }

    /// The name of QEMU's block driver.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Vhd => "vpc",
            other => other.name(),
        }
    }

    /// The format of a QEMU block driver, if it is one of ours.
    pub fn from_driver(driver: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.driver() == driver)
    }

    /// Options for `qemu-img convert -o`.
    pub(super) fn create_options(self) -> Option<&'static str> {
        match self {
            Self::Raw | Self::Vdi => None,
            Self::Qcow2 => Some("compat=1.1"),
            Self::Vmdk => Some("subformat=monolithicSparse,adapter_type=lsilogic"),
            Self::Vhd => Some("subformat=dynamic,force_size=on"),
            Self::Vhdx => Some("subformat=dynamic"),
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
            assert_eq!(Format::from_driver(format.driver()), Some(format));
        }
    }
}
