//! What a build is made from: a recipe, or a container image with what bootc-image-builder's users say about it.

use crate::engine::Input;
use crate::output::{Format, Layout};
use crate::recipe::blueprint::{COMMAND_LINE, Order};
use crate::recipe::{Architecture, Finding, Findings};
use crate::source::Reference;
use clap::Args;
use particle_vm_protocol::Filesystem;
use std::path::{Path, PathBuf};

/// What is said of a container image; a recipe says it itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Disks of a container image, as bootc-image-builder makes them")]
pub struct Image {
    /// Type of the disk image: qcow2, raw, vmdk, vhd or ami (raw); repeat it or separate them with commas [default:
    /// qcow2]
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = disk_type, conflicts_with = "formats")]
    pub types: Vec<Format>,

    /// File system of the root: ext4, xfs or btrfs [default: ext4]
    #[arg(long, value_name = "FILESYSTEM", value_parser = root_filesystem)]
    pub rootfs: Option<Filesystem>,

    /// The blueprint: config.toml or config.json, with users, files, partitions and more
    ///
    /// What it says is honoured or refused with its line, and never ignored.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Architecture of the image: amd64, or x86_64
    #[arg(long, value_name = "ARCHITECTURE", value_parser = architecture)]
    pub target_arch: Option<Architecture>,

    /// How the images lie in the output folder [default: flat]
    #[arg(long, value_enum, value_name = "LAYOUT")]
    pub output_layout: Option<Layout>,
}

impl Image {
    /// What `what` is: the path of a recipe, or a reference to an image. `set` are variables of a recipe.
    ///
    /// # Errors
    /// When something is said of the one that only the other has.
    pub fn input(&self, what: &Path, set: &[(String, String)]) -> Result<Input, Findings> {
        let given = [
            ("--type", "name the formats with `--format`, or under `output` in the recipe", !self.types.is_empty()),
            ("--rootfs", "write `filesystem` under `disk` in the recipe", self.rootfs.is_some()),
            ("--config", "write what it says as stages of the recipe", self.config.is_some()),
            ("--target-arch", "write `architecture` in the recipe", self.target_arch.is_some()),
            ("--output-layout", "the images of a recipe bear its name", self.output_layout.is_some()),
        ];
        let given = given.into_iter().filter(|(_, _, given)| *given);
        match image(what, given.clone().next().is_some()) {
            None => {
                match Findings::new(given.map(|(flag, instead, _)| only(flag, "a container image", instead)).collect())
                {
                    Some(findings) => Err(findings),
                    None => Ok(Input::Recipe(what.to_owned())),
                }
            }
            Some(_) if !set.is_empty() => {
                let help = "write a recipe that has the image as its `base-image`";
                Err(only("--set", "the variables of a recipe", help).into())
            }
            Some(reference) => Ok(Input::Image(Order {
                image: reference.to_owned(),
                formats: self.formats(),
                filesystem: self.rootfs,
                config: self.config.clone(),
            })),
        }
    }

    /// The formats, each once: a raw image and one for Amazon's cloud are the same.
    fn formats(&self) -> Vec<Format> {
        let mut formats = Vec::new();
        for format in &self.types {
            if !formats.contains(format) {
                formats.push(*format);
            }
        }
        if formats.is_empty() { vec![Format::Qcow2] } else { formats }
    }
}

fn only(flag: &str, of: &str, instead: &str) -> Finding {
    Finding::of_file(COMMAND_LINE, format!("`{flag}` is for {of}")).help(instead)
}

/// The transports of images, as references begin with them.
const TRANSPORTS: [&str; 6] =
    ["docker://", "oci:", "oci-archive:", "docker-archive:", "containers-storage:", "docker-daemon:"];

/// `what` as a reference to a container image, unless it is the path of a recipe. A file that is there is a recipe, and so
/// is what has a recipe's ending. What is neither, nor looks like a reference, is an image where something is said of one.
fn image(what: &Path, said: bool) -> Option<&str> {
    let text = what.to_str()?;
    let ending = what.extension().and_then(|ending| ending.to_str());
    let recipe = what.is_file() || matches!(ending, Some("yml" | "yaml")) && !is_transported(text);
    let image = is_transported(text) || text.parse::<Reference>().is_ok() || said;
    (!recipe && image).then_some(text)
}

fn is_transported(text: &str) -> bool {
    text.contains("://") || TRANSPORTS.iter().any(|transport| text.starts_with(transport))
}

/// A type of bootc-image-builder's.
fn disk_type(text: &str) -> Result<Format, String> {
    let instead = match text {
        "raw" | "ami" => return Ok(Format::Raw),
        "qcow2" => return Ok(Format::Qcow2),
        "vmdk" => return Ok(Format::Vmdk),
        "vhd" | "vpc" => return Ok(Format::Vhd),
        "gce" => "make `raw`, and pack it as `disk.raw` with `tar --format=oldgnu -Sczf image.tar.gz disk.raw`",
        "ova" | "vsphere-ova" => "make `vmdk`, and pack it with ovftool",
        "iso" | "anaconda-iso" | "bootc-installer" | "bootc-generic-iso" => {
            "no installer is made; write a `raw` image to the machine's disk"
        }
        "pxe-tar-xz" | "pxe" => "no network boot is made; write a `raw` image to the machine's disk",
        _ => "it is qcow2, raw, vmdk, vhd or ami",
    };
    Err(instead.into())
}

fn root_filesystem(text: &str) -> Result<Filesystem, String> {
    let known = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs];
    known.into_iter().find(|known| known.name() == text).ok_or_else(|| "it is ext4, xfs or btrfs".into())
}

fn architecture(text: &str) -> Result<Architecture, String> {
    match text {
        "amd64" | "x86_64" => Ok(Architecture::Amd64),
        _ => Err("disks are made for amd64 (x86_64) only".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_told_from_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe");
        std::fs::write(&file, "").unwrap();
        for (what, said, expected) in [
            ("recipe.yml", false, false),
            ("recipe.yaml", true, false),
            ("./recipes/recipe.yml", false, false),
            ("example.org/team.yml", false, false),
            (file.to_str().unwrap(), true, false),
            ("recipe", false, false),
            ("recipe", true, true),
            ("../recipes/x", false, false),
            ("debian:trixie", false, false),
            ("debian:trixie", true, true),
            ("https://example.org/a", false, true),
            ("example.org/a:1", false, true),
            ("localhost/a", false, true),
            ("docker://example.org/a.yml", false, true),
            ("oci:image", false, true),
            ("oci-archive:a.tar", false, true),
            ("docker-archive:a.tar", false, true),
            ("containers-storage:a", false, true),
            ("docker-daemon:a", false, true),
        ] {
            assert_eq!(image(Path::new(what), said).is_some(), expected, "{what}");
        }
    }

    #[test]
    fn types_are_those_of_bootc_image_builder() {
        let image = Image {
            types: ["ami", "qcow2", "raw", "vhd"].map(|name| disk_type(name).unwrap()).into(),
            ..Image::default()
        };
        assert_eq!(image.formats(), [Format::Raw, Format::Qcow2, Format::Vhd]);
        assert_eq!(Image::default().formats(), [Format::Qcow2]);
        for (name, instead) in [
            ("gce", "tar --format=oldgnu"),
            ("anaconda-iso", "no installer"),
            ("pxe-tar-xz", "network"),
            ("vdi", "it is qcow2"),
        ] {
            assert!(disk_type(name).unwrap_err().contains(instead), "{name}");
        }
        assert!(architecture("arm64").is_err() && architecture("x86_64").is_ok());
        assert!(root_filesystem("vfat").is_err() && root_filesystem("btrfs").is_ok());
    }

    #[test]
    fn what_only_the_other_has_is_refused() {
        let image = Image { rootfs: Some(Filesystem::Xfs), config: Some("config.toml".into()), ..Image::default() };
        let refused = |image: &Image, what: &str, set: &[(String, String)]| {
            let findings = image.input(Path::new(what), set).unwrap_err();
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            refused(&image, "recipe.yml", &[]),
            [
                "the command line: `--config` is for a container image",
                "the command line: `--rootfs` is for a container image"
            ]
        );
        assert_eq!(
            refused(&image, "oci:a", &[("A".into(), "b".into())]),
            ["the command line: `--set` is for the variables of a recipe"]
        );
        assert!(matches!(image.input(Path::new("oci:a"), &[]), Ok(Input::Image(_))));
        assert!(matches!(Image::default().input(Path::new("a.yml"), &[]), Ok(Input::Recipe(_))));
    }
}
