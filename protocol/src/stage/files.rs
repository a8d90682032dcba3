//! Options of the stages that write files and run scripts.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest script or keyring of the recipe's folder, in bytes.
pub const MAX_READ: u64 = 16 << 20;

/// Deepest nesting of folders that are copied. Each level holds an open folder.
pub const MAX_DEPTH: usize = 128;

/// Options of `files`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Files by their absolute path in the image. Missing folders are created; they belong to root, except a user's home
    /// that a later stage `users` creates the user for.
    pub files: BTreeMap<String, File>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it contains.
    pub content: String,
    /// Permissions in octal, for instance `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Owner: a name of the image or a number.
    #[serde(default = "root")]
    pub owner: String,
    /// Group: a name of the image or a number.
    #[serde(default = "root")]
    pub group: String,
}

fn default_mode() -> String {
    "0644".into()
}

fn root() -> String {
    "root".into()
}

/// Options of `copy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// A file or folder in the recipe's folder.
    pub source: String,
    /// Absolute path in the image. A folder's content is copied into it; a file is copied to it, or into it where it
    /// is a folder or ends in `/`.
    pub destination: String,
    /// Owner of everything copied: a name of the image or a number.
    #[serde(default = "root")]
    pub owner: String,
    /// Group of everything copied: a name of the image or a number.
    #[serde(default = "root")]
    pub group: String,
    /// Permissions of files in octal; without it, those of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// Options of `run`: either `script` or `file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// A script; without a `#!` line it is run by `/bin/sh -eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A script in the recipe's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Environment variables of the script.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}
