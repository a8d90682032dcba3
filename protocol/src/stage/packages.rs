//! Options of the stages that install packages.

use serde::{Deserialize, Serialize};

/// Options of `debootstrap`: a new Debian tree, made by mmdebstrap(1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Debootstrap {
    /// Debian suite, for instance `trixie`.
    pub suite: String,
    /// Which packages the tree starts with.
    #[serde(default)]
    pub variant: Variant,
    /// URL of the mirror; without it, the mirror of the host's own apt sources. The image has this suite at this mirror as
    /// its only source of packages. A stage `sources` at the end gives it others: the suites of updates and of security
    /// updates, or a mirror that the image can reach where it will run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Archive components.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// Further packages to install at once.
    #[serde(default)]
    pub include: Vec<String>,
    /// OpenPGP keyring in the recipe's folder that signs the mirror, `.asc`, `.gpg` or `.pgp`; without it, Debian's
    /// archive keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
}

/// How the names of keyrings end: armoured, binary, binary. apt tells the formats apart by that, sources.list(5).
pub const KEYRING_EXTENSIONS: [&str; 3] = ["asc", "gpg", "pgp"];

/// How the name of a keyring ends, one of [`KEYRING_EXTENSIONS`]. None when it ends otherwise.
pub fn keyring_extension(file: &str) -> Option<&'static str> {
    let extension = std::path::Path::new(file).extension()?;
    KEYRING_EXTENSIONS.into_iter().find(|known| extension == *known)
}

fn main_component() -> Vec<String> {
    vec!["main".into()]
}

/// Package sets of mmdebstrap(1), `--variant`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Nothing but `include`, unpacked and not configured: for trees without dpkg.
    Extract,
    /// Nothing but `include`.
    Custom,
    /// Essential packages.
    Essential,
    /// Essential packages, apt and those of priority required.
    #[default]
    Minbase,
    /// Essential packages and apt.
    Apt,
    /// Packages of priority required and important.
    Important,
    /// Packages of priority required, important and standard.
    Standard,
}

/// Options of `sources`: `/etc/apt/sources.list.d/*.sources` of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// The sources. They replace those that are in the tree, unless `keep` is set.
    pub sources: Vec<Source>,
    /// Keep the sources that are in the tree.
    #[serde(default)]
    pub keep: bool,
}

/// One stanza of deb822 style, sources.list(5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the file, without `.sources`.
    pub name: String,
    /// `deb` or `deb-src`.
    #[serde(default = "deb")]
    pub types: Vec<String>,
    /// URLs; without any, the mirror of the build.
    #[serde(default)]
    pub uris: Vec<String>,
    /// Suites.
    pub suites: Vec<String>,
    /// Components.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// OpenPGP keyring in the recipe's folder; `.asc`, `.gpg` or `.pgp`. It is copied to
    /// `/etc/apt/keyrings`. Without it, Debian's archive keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
}

fn deb() -> Vec<String> {
    vec!["deb".into()]
}

/// Options of `apt`: packages to install with apt-get(8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Apt {
    /// Packages as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove.
    pub packages: Vec<String>,
    /// Install recommended packages too.
    #[serde(default)]
    pub recommends: bool,
    /// Upgrade what is installed first.
    #[serde(default)]
    pub upgrade: bool,
}

/// Options of `kernel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel's package.
    #[serde(default = "cloud_kernel")]
    pub package: String,
    /// Arguments of the kernel command line, beside the `root=` that the disk needs. None has blanks or quotes.
    #[serde(default)]
    pub cmdline: Vec<String>,
}

fn cloud_kernel() -> String {
    "linux-image-cloud-amd64".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_keeps_its_format() {
        assert_eq!(keyring_extension("keys/mine.asc"), Some("asc"));
        for name in ["keys/mine", "keys.d/mine", "keys.gpg/mine", "mine.kbx", ".gpg"] {
            assert_eq!(keyring_extension(name), None, "{name}");
        }
    }
}
