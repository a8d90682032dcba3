//! bootc in an image, and what it is configured with (bootc-install-config(5), bootc's "Kernel arguments").

use super::keep::Content;
use super::limits;
use super::tree::{Kind, Node, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Where its install configuration lies, the later before the earlier (liboverdrop).
const INSTALL: [&str; 4] =
    ["usr/lib/bootc/install", "usr/local/lib/bootc/install", "usr/etc/bootc/install", "etc/bootc/install"];

/// The keys that bootc 1.16 knows below `[install]`; it passes over others with a warning.
const INSTALL_KEYS: [&str; 14] = [
    "block",
    "bootloader",
    "bootupd",
    "boot-mount-spec",
    "discoverable-partitions",
    "enforce-container-sigpolicy",
    "filesystem",
    "karg-deletes",
    "kargs",
    "match-architectures",
    "ostree",
    "root-fs-type",
    "root-mount-spec",
    "stateroot",
];

/// What an image has of bootc.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bootc {
    /// Whether it has the program `bootc`.
    pub binary: bool,
    /// Its version, if dpkg knows it.
    pub version: Option<String>,
    /// The install configuration: the section `[install]` of all files, merged.
    pub install: serde_json::Value,
    /// The files that it comes from, in the order in which they are read.
    pub install_files: Vec<String>,
    /// Kernel arguments of `kargs.d`, for the architecture of the image.
    pub kargs: Vec<String>,
    /// The files that they come from.
    pub kargs_files: Vec<String>,
    /// What bootc would not understand of these files.
    pub problems: Vec<Problem>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub reason: String,
    /// Whether bootc goes on without it.
    pub passed_over: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Kargs {
    #[serde(default)]
    kargs: Vec<String>,
    match_architectures: Option<Vec<String>>,
}

impl Bootc {
    /// What is in `tree`, whose architecture is `architecture` in Go's words.
    pub(super) fn of(tree: &Tree, architecture: &str) -> Self {
        let binary = tree.find("usr/bin/bootc").is_some_and(Node::is_program);
        let mut bootc = Self { binary, install: serde_json::json!({}), ..Self::default() };
        let architecture = rust_name(architecture);
        bootc.read_install(tree, architecture);
        bootc.read_kargs(tree, architecture);
        bootc
    }

    fn read_install(&mut self, tree: &Tree, architecture: &str) {
        // A file hides one of the same name in an earlier folder; a link to /dev/null hides it and says nothing.
        let mut files = BTreeMap::new();
        for folder in INSTALL {
            for (name, node) in tree.list(folder).into_iter().filter(|(name, _)| is_read(name)) {
                match &node.kind {
                    Kind::Link(target) if target == b"/dev/null" => drop(files.remove(&name)),
                    _ => drop(files.insert(name, folder)),
                }
            }
        }
        let mut merged = Table::new();
        for (name, folder) in files.into_iter().take(limits::CONFIGS) {
            let file = format!("{folder}/{name}");
            match self.text(tree, &file).and_then(|text| self.understood(&file, toml::from_str::<Table>(&text))) {
                None => continue,
                Some(mut table) => {
                    for key in table.keys().filter(|key| *key != "install") {
                        self.tell(unknown(&file, key));
                    }
                    match table.remove("install") {
                        Some(Value::Table(install)) if is_for(&install, architecture) => {
                            for key in install.keys().filter(|key| !INSTALL_KEYS.contains(&key.as_str())) {
                                self.tell(unknown(&file, &format!("install.{key}")));
                            }
                            merge(&mut merged, install);
                        }
                        None | Some(Value::Table(_)) => {}
                        Some(_) => self.problem(&file, "`install` is no table"),
                    }
                }
            }
            self.install_files.push(file);
        }
        merged.remove("match-architectures");
        match serde_json::to_value(merged) {
            Ok(value) => self.install = value,
            Err(error) => self.problem("usr/lib/bootc/install", &error.to_string()),
        }
    }

    fn read_kargs(&mut self, tree: &Tree, architecture: &str) {
        let files = tree.list("usr/lib/bootc/kargs.d").into_iter().filter(|(name, _)| is_read(name));
        for (name, _) in files.take(limits::CONFIGS) {
            let file = format!("usr/lib/bootc/kargs.d/{name}");
            let Some(text) = self.text(tree, &file) else { continue };
            let Some(kargs) = self.understood(&file, toml::from_str::<Kargs>(&text)) else { continue };
            if kargs.match_architectures.is_none_or(|list| list.iter().any(|own| own == architecture)) {
                self.kargs.extend(kargs.kargs);
            }
            self.kargs_files.push(file);
        }
    }

    fn text(&mut self, tree: &Tree, file: &str) -> Option<String> {
        let text = tree.text(file);
        if text.is_none() {
            let unread = tree.find(file).is_some_and(|node| matches!(node.content, Content::Unread));
            self.problem(file, if unread { "it is too large" } else { "it leads to no file that is read" });
        }
        text
    }

    fn understood<T>(&mut self, file: &str, result: Result<T, toml::de::Error>) -> Option<T> {
        result.map_err(|error| self.problem(file, error.message())).ok()
    }

    fn problem(&mut self, file: &str, reason: &str) {
        self.tell(Problem { file: file.to_owned(), reason: reason.to_owned(), passed_over: false });
    }

    fn tell(&mut self, problem: Problem) {
        if self.problems.len() < limits::FILES {
            self.problems.push(problem);
        }
    }

    /// A string of the install configuration, by its path of keys.
    pub(super) fn setting(&self, path: &str) -> Option<&str> {
        self.install.pointer(path)?.as_str()
    }
}

/// Files that begin with a dot are leftovers of editors.
fn is_read(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.')
}

fn unknown(file: &str, key: &str) -> Problem {
    Problem { file: file.to_owned(), reason: format!("bootc 1.16 does not know the key `{key}`"), passed_over: true }
}

/// The architectures of bootc's files are those of Rust.
fn rust_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "ppc64le" => "powerpc64",
        other => other,
    }
}

fn is_for(install: &Table, architecture: &str) -> bool {
    match install.get("match-architectures") {
        Some(Value::Array(list)) => list.iter().any(|own| own.as_str() == Some(architecture)),
        _ => true,
    }
}

/// Lists are joined, tables merged, everything else is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}
