//! The container image that a build starts from, fully resolved: which way it is installed, and what is in the share.

use serde::{Deserialize, Serialize};

/// A container image whose layers lie in the share [`crate::share::BASE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// How it becomes a system.
    pub engine: Engine,
    /// How the system lies on the disk where the engine is [`Engine::Bootc`]; that of the others is settled.
    #[serde(default)]
    pub backend: Backend,
    /// Its layers, lowest first. The host has checked them against both of their digests.
    pub layers: Vec<BaseLayer>,
    /// The manifest as canonical JSON: keys sorted, no white space (OCI image specification, "Image Manifest").
    pub manifest: String,
    /// Digest of the manifest as it was fetched, `sha256:` and hexadecimal digits.
    pub digest: String,
    /// The configuration of the image, as it was fetched (OCI image specification, "Image Configuration").
    pub config: String,
    /// When the image was made, in seconds since the Unix epoch; 0 where it does not say.
    pub created: i64,
    /// Where it comes from, as containers-transports(5) writes it: `docker://host/name:tag`, `oci:folder:tag`. It is written
    /// into the installed system, so that nothing of the host's folders is in it.
    pub reference: String,
    /// Where the installed system looks for updates, as ostree-container writes it in the origin of a deployment:
    /// `ostree-unverified-registry:host/name:tag`. Empty for an image that comes from no registry.
    pub origin: String,
}

/// A layer of an image: an uncompressed tar archive in the share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseLayer {
    /// Its file in the share.
    pub file: String,
    /// Digest of the blob as the manifest names it, which is compressed most often.
    pub digest: String,
    /// Digest of the archive itself.
    pub diff_id: String,
    /// Size of the blob in bytes.
    pub size: u64,
}

/// How a container image becomes a system on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Its layers become an OSTree commit, which is deployed: `/usr` is read-only, and updates come whole.
    NativeOstree,
    /// Its own `bootc install` deploys it, in a chroot of the image.
    Bootc,
    /// Its layers become the files of the disk, which stages go on with as with those of `debootstrap`.
    Plain,
}

/// What bootc keeps deployments in (bootc's documentation, "composefs backend").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A repository of OSTree, as [`Engine::NativeOstree`] makes one.
    #[default]
    Ostree,
    /// A repository of composefs, and the state of each deployment beside it. systemd-boot boots it, on UEFI.
    Composefs,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NativeOstree => "native-ostree",
            Self::Bootc => "bootc",
            Self::Plain => "plain",
        })
    }
}
