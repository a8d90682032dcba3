//! Options of the stages that fill the OSTree repository of the build. There is one; it lies beside the tree, and the
//! format `ostree-repo` publishes it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options of `ostree.init`: the repository, ostree-init(1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeInit {
    /// How it keeps its objects.
    #[serde(default)]
    pub mode: RepoMode,
}

/// Modes of a repository, ostree-init(1), `--mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RepoMode {
    /// Compressed files, for a web server. The format `ostree-repo` is of this mode.
    #[default]
    Archive,
    /// Files as they are, with their owners: for deploying from in the same build. Only root can hold it.
    Bare,
}

impl RepoMode {
    /// The name that ostree gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Bare => "bare",
        }
    }
}

/// Options of `ostree.config`: the configuration of the repository, ostree.repo-config(5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeConfig {
    /// Values by their group and key, for instance `sysroot.readonly: "true"`.
    pub set: BTreeMap<String, String>,
}

/// Options of `ostree.pull`: commits that another repository has, for instance the parent of the one that is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreePull {
    /// URL of the repository. Its host may be reached then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A repository in the recipe's folder, instead of a `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The refs to fetch.
    pub refs: Vec<String>,
    /// How many parents of each commit are fetched with it.
    #[serde(default)]
    pub depth: u32,
    /// OpenPGP keyring in the recipe's folder that signs the commits behind `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpg_keyring: Option<String>,
    /// Take commits from `url` that nobody has signed.
    #[serde(default)]
    pub unsigned: bool,
}

/// Options of `ostree.remotes`: `/etc/ostree/remotes.d/*.conf` of the tree, from which the system updates itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeRemotes {
    /// The remotes.
    pub remotes: Vec<OstreeRemote>,
}

/// A remote, ostree.repo-config(5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeRemote {
    /// Its name.
    pub name: String,
    /// URL of the repository, as the system will reach it.
    pub url: String,
    /// Refs that are fetched when none is named.
    #[serde(default)]
    pub branches: Vec<String>,
    /// OpenPGP keyring in the recipe's folder that signs its commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpg_keyring: Option<String>,
    /// Public ed25519 key that signs its commits, in base64. Debian's OSTree is built without these signatures; the one in
    /// the image has to be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ed25519_key: Option<String>,
    /// Take commits that nobody has signed.
    #[serde(default)]
    pub unsigned: bool,
}

/// Options of `ostree.commit`: a commit of the tree, ostree-commit(1). It is made at the end, of the finished tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeCommit {
    /// The ref that names it, for instance `particle/13/amd64/base`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// A line about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The version that `ostree admin status` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit before it: its checksum, or a ref that `ostree.pull` has fetched. Without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Further metadata of the commit, as text.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Mark it as bootable, with the kernel that it has in `/usr/lib/modules`.
    #[serde(default = "yes")]
    pub bootable: bool,
}

/// Options of `ostree.deploy`: a commit becomes the system on the disk, ostree-admin-deploy(1). The stages after it work in
/// the deployment, where only `/etc` and `/var` can be written to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OstreeDeploy {
    /// The ref of the commit: that of the stage `ostree.commit`, or one that `ostree.pull` has fetched.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Name of the stateroot, which has the system's `/var`; without it, what the commit says for bootc, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateroot: Option<String>,
    /// The remote, of a stage `ostree.remotes`, from which the system takes later commits of the ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

fn yes() -> bool {
    true
}
