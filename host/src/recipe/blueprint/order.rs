//! What the command line says of an image, with places to point at.

use super::make;
use crate::output::Format;
use crate::recipe::document::{Entry, Node};
use crate::recipe::finding::Source;
use particle_vm_protocol::Filesystem;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of the command line in findings.
pub const COMMAND_LINE: &str = "the command line";

/// A container image, and what the command line says of the disks that are to be made of it.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The reference of the image.
    pub image: String,
    /// The formats of the disk.
    pub formats: Vec<Format>,
    /// The file system of the root; without it, that of recipes.
    pub filesystem: Option<Filesystem>,
    /// The blueprint: a file in TOML or JSON.
    pub config: Option<PathBuf>,
}

/// An [`Order`] in the parts of a recipe.
pub struct Written {
    /// The words that findings point at.
    pub source: Source,
    /// The whole.
    pub span: Range<usize>,
    /// The image.
    pub image: Arc<Node>,
    /// The name that follows from it.
    pub name: Arc<Node>,
    /// The formats.
    pub formats: Arc<Node>,
    /// The file system.
    pub filesystem: Option<Entry>,
}

impl Order {
    /// Its parts. They stand behind `start` bytes of another text.
    pub fn written(&self, start: usize) -> Written {
        let mut text = String::new();
        let mut add = |word: &str| {
            if !text.is_empty() {
                text.push(' ');
            }
            let from = text.len();
            text.push_str(word);
            start + from..start + text.len()
        };
        let image = add(&self.image);
        let mut formats = Vec::new();
        let mut place = image.clone();
        for format in &self.formats {
            place = add("--type");
            formats.push(make::text(format.name(), &add(format.name())));
        }
        let filesystem = self.filesystem.map(|filesystem| {
            let flag = add("--rootfs");
            make::entry("filesystem", &flag, make::text(filesystem.name(), &add(filesystem.name())))
        });
        Written {
            span: image.clone(),
            name: make::text(name(&self.image), &image),
            image: make::text(&self.image, &image),
            formats: make::list(formats, &place),
            filesystem,
            source: Source::new(COMMAND_LINE, text),
        }
    }
}

/// A name for what is made of an image: the last part of its own, in the letters that names have.
fn name(reference: &str) -> String {
    // In front of it a store of podman's may stand.
    let reference = reference.rsplit(']').next().unwrap_or_default();
    let (transport, rest) = reference.split_once(':').unwrap_or(("", reference));
    let path = match transport {
        "oci" | "oci-archive" | "docker-archive" => rest.split(':').next().unwrap_or_default(),
        _ => {
            let name = reference.split('@').next().unwrap_or_default();
            let last = name.rfind('/').map_or(0, |slash| slash + 1);
            // Behind the last part a tag may follow, and before it a transport.
            let tag = name[last..].rfind(':').map(|colon| last + colon);
            match (last, tag) {
                (0, Some(tag)) if transport.len() == tag => rest,
                (_, Some(tag)) => &name[..tag],
                _ => name,
            }
        }
    };
    let last = path.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let last = last.strip_suffix(".tar").unwrap_or(last);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let small = last.to_ascii_lowercase();
    let plain: String = small.chars().map(|c| if good(c) || matches!(c, '.' | '_' | '-') { c } else { '-' }).collect();
    let plain = plain.trim_start_matches(|c| !good(c)).chars().take(63).collect::<String>();
    if plain.is_empty() { "image".into() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_part_of_the_images() {
        let digest = "ab".repeat(32);
        for (reference, expected) in [
            ("docker://registry.example.org/team/Server:13", "server"),
            ("registry.example.org:5000/server", "server"),
            (&format!("registry.example.org/server:13@sha256:{digest}"), "server"),
            ("oci:./images/base:trixie", "base"),
            ("oci:/images/base/", "base"),
            ("oci-archive:/images/base.oci.tar:name:13", "base.oci"),
            ("docker-archive:base.tar", "base"),
            ("containers-storage:localhost/base:latest", "base"),
            ("containers-storage:[overlay@/srv/a:b]localhost/base:1", "base"),
            ("docker-daemon:base:latest", "base"),
            ("docker-daemon:base", "base"),
            ("oci:./\u{fc}/-\u{e4}b c", "b-c"),
            ("oci:..", "image"),
            ("oci:", "image"),
            ("", "image"),
        ] {
            assert_eq!(name(reference), expected, "{reference}");
        }
    }

    #[test]
    fn every_part_has_its_place() {
        let order = Order {
            image: "example.org/a".into(),
            formats: vec![Format::Raw, Format::Qcow2],
            filesystem: Some(Filesystem::Xfs),
            config: None,
        };
        let written = order.written(100);
        assert_eq!(written.source.text(), "example.org/a --type raw --type qcow2 --rootfs xfs");
        assert_eq!(written.image.span, 100..113);
        let last = &written.formats.items()[1].span;
        assert_eq!(&written.source.text()[last.start - 100..last.end - 100], "qcow2");
    }
}
