//! OSTree in an image: its program, its layout, and how the deployment is to become the root.

use super::keep::Content;
use super::tree::{Kind, Node, Tree};
use configparser::ini::{Ini, IniDefault};
use serde::Serialize;
use std::collections::BTreeMap;

/// What an image has of OSTree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ostree {
    /// Whether it has the program `ostree`.
    pub binary: bool,
    /// The version of its library that dpkg knows.
    pub version: Option<String>,
    /// Whether its library was built without composefs.
    pub without_composefs: bool,
    /// Whether it has the folder `/sysroot`.
    pub sysroot: bool,
    /// Whether `/ostree` is a link to `sysroot/ostree`.
    pub link: bool,
    /// Where its configuration files lie: `etc`, `usr/etc`, `both`, or null.
    pub etc: Option<&'static str>,
    /// Its `prepare-root.conf`.
    pub prepare_root: Option<PrepareRoot>,
}

/// What `prepare-root.conf` says (ostree-prepare-root(1)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrepareRoot {
    /// Where it lies.
    pub path: &'static str,
    /// `composefs.enabled`; null where it does not say.
    pub composefs: Option<Composefs>,
    /// `sysroot.readonly`.
    pub readonly: Option<bool>,
    /// `etc.transient`.
    pub etc_transient: Option<bool>,
    /// `root.transient`.
    pub root_transient: Option<bool>,
    /// What of it ostree does not understand.
    pub problems: Vec<String>,
}

/// Whether the root is a composefs image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Composefs {
    /// It is not.
    No,
    /// Where the deployment has such an image.
    Maybe,
    /// It is, or nothing boots.
    Yes,
    /// It is, and fs-verity has to hold for it.
    Verity,
    /// It is, fs-verity has to hold, and the commit has to be signed.
    Signed,
}

impl Composefs {
    /// Whether nothing boots without it.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Yes | Self::Verity | Self::Signed)
    }
}

impl Ostree {
    pub(super) fn of(tree: &Tree) -> Self {
        let has_any = |folder: &str| tree.within(folder.as_bytes()).any(|(path, node)| counts(path, node));
        let libraries = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"];
        let libraries = libraries.iter().flat_map(|folder| tree.list(folder));
        let link = tree.get("ostree").is_some_and(|node| match &node.kind {
            Kind::Link(target) => matches!(target.as_slice(), b"sysroot/ostree" | b"/sysroot/ostree"),
            _ => false,
        });
        let of = |path: &'static str| Some(PrepareRoot::parse(path, &tree.text(path)?));
        let places =
            ["etc/ostree/prepare-root.conf", "usr/etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf"];
        Self {
            binary: tree.find("usr/bin/ostree").is_some_and(Node::is_program),
            version: None,
            without_composefs: libraries
                .filter(|(name, _)| name.starts_with("libostree-1.so."))
                .any(|(_, node)| matches!(node.content, Content::WithoutComposefs(true))),
            sysroot: tree.get("sysroot").is_some_and(|node| node.kind == Kind::Folder),
            link,
            etc: match (has_any("etc"), has_any("usr/etc")) {
                (true, true) => Some("both"),
                (true, false) => Some("etc"),
                (false, true) => Some("usr/etc"),
                (false, false) => None,
            },
            prepare_root: places.into_iter().find_map(of),
        }
    }
}

/// What builders put into /etc while a container is built is no configuration: empty files that are mounted over.
fn counts(path: &[u8], node: &Node) -> bool {
    let injected = matches!(path, b"etc/hostname" | b"etc/hosts" | b"etc/resolv.conf" | b"etc/mtab");
    !(injected && (node.size == 0 || matches!(node.kind, Kind::Link(_)))) && node.kind != Kind::Folder
}

impl PrepareRoot {
    pub(super) fn parse(path: &'static str, text: &str) -> Self {
        let mut found = Self { path, ..Self::default() };
        let sections = match key_file(text) {
            Ok(sections) => sections,
            Err(problem) => return Self { problems: vec![problem], ..found },
        };
        let problems = &mut found.problems;
        let value = |section: &str, key: &str| Some(sections.get(section)?.get(key)?.clone().unwrap_or_default());
        found.composefs = value("composefs", "enabled").and_then(|value| {
            let parsed = match value.as_str() {
                "verity" => Some(Composefs::Verity),
                "signed" => Some(Composefs::Signed),
                "maybe" => Some(Composefs::Maybe),
                other => boolean(other).map(|yes| if yes { Composefs::Yes } else { Composefs::No }),
            };
            if parsed.is_none() {
                problems.push(format!("composefs.enabled is {value:?}"));
            }
            parsed
        });
        let mut flag = |section: &str, key: &str| {
            let value = value(section, key)?;
            let parsed = boolean(&value);
            if parsed.is_none() {
                problems.push(format!("{section}.{key} is {value:?}"));
            }
            parsed
        };
        found.readonly = flag("sysroot", "readonly");
        found.etc_transient = flag("etc", "transient");
        found.root_transient = flag("root", "transient");
        found
    }
}

/// What ostree takes for yes and no (`ot-keyfile-utils.c`).
fn boolean(value: &str) -> Option<bool> {
    match value {
        "yes" | "true" | "1" => Some(true),
        "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// Sections with their keys and values, as GLib's GKeyFile has them.
fn key_file(text: &str) -> Result<BTreeMap<String, BTreeMap<String, Option<String>>>, String> {
    let mut defaults = IniDefault::default();
    defaults.case_sensitive = true;
    defaults.comment_symbols = vec!['#'];
    defaults.inline_comment_symbols = Some(Vec::new());
    defaults.delimiters = vec!['='];
    let sections = Ini::new_from_defaults(defaults).read(text.to_owned())?;
    Ok(sections.into_iter().map(|(section, keys)| (section, keys.into_iter().collect())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepare_root_is_read_as_ostree_does() {
        let read = |text: &str| PrepareRoot::parse("usr/lib/ostree/prepare-root.conf", text);
        let found = read("# a comment\n[composefs]\nenabled = verity\n[sysroot]\nreadonly=true\n[other]\nKey=a;b\n");
        assert_eq!((found.composefs, found.readonly, found.etc_transient), (Some(Composefs::Verity), Some(true), None));
        assert!(found.problems.is_empty() && found.composefs.unwrap().is_required());
        assert_eq!(read("[composefs]\nenabled=no\n").composefs, Some(Composefs::No));
        assert_eq!(read("").composefs, None);
        assert_eq!(read("[composefs]\nenabled=perhaps\n").problems, ["composefs.enabled is \"perhaps\""]);
        assert_eq!(read("[Composefs]\nEnabled=yes\n").composefs, None);
        assert_eq!(read("[composefs\nenabled=yes\n").problems.len(), 1);
    }
}
