//! What the appliance consists of: `appliance/definition.yml` and the files beside it, embedded in the binary.

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Raised whenever the files of an appliance change their meaning, so that an older one is built anew.
pub const FORMAT: u32 = 1;

const TEXT: &str = include_str!("../../../appliance/definition.yml");

/// The script of the finishing run, and where it lies in the root file system.
pub const FINISH: &str = include_str!("../../../appliance/finish.sh");
/// See [`FINISH`].
pub const FINISH_PATH: &str = "usr/lib/particle-vm/finish";

macro_rules! key {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../appliance/keys/", $name)))
    };
}

/// Debian's archive keys: file name and certificate (`appliance/keys/README.md`).
pub const KEYS: [(&str, &[u8]); 6] = [
    key!("debian-archive-bookworm-automatic.gpg"),
    key!("debian-archive-bookworm-security-automatic.gpg"),
    key!("debian-archive-bookworm-stable.gpg"),
    key!("debian-archive-trixie-automatic.gpg"),
    key!("debian-archive-trixie-security-automatic.gpg"),
    key!("debian-archive-trixie-stable.gpg"),
];

/// The definition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Suites, in the order of their priority.
    pub suites: Vec<Suite>,
    /// Packages from another suite than the first.
    pub pins: Vec<Pin>,
    /// Packages beside the essential ones.
    pub packages: Vec<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// The firmware for `particle-vm boot`.
    pub firmware: Firmware,
    /// Modules that are kept.
    pub modules: Modules,
    /// Beginnings of paths that are left out.
    pub exclude: Vec<String>,
    /// Paths that are kept all the same.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Folders that are there even if no package has them.
    pub folders: Vec<String>,
}

/// A suite of the archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Code name.
    pub name: String,
    /// Components, `main`.
    pub components: Vec<String>,
    /// Whether its index is refused when it is older than it says it may be.
    #[serde(default = "expires")]
    pub expires: bool,
}

fn expires() -> bool {
    true
}

/// Packages that come from a suite of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The suite.
    pub suite: String,
    /// Names of the packages.
    pub packages: Vec<String>,
    /// Pin priority, apt_preferences(5).
    pub priority: i32,
    /// Why.
    pub reason: String,
}

/// The kernel's packages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The meta package.
    pub package: String,
    /// How the name of the package that it depends on begins.
    pub image_prefix: String,
}

/// The firmware's package and the two files that are taken from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The package.
    pub package: String,
    /// UEFI code.
    pub code: String,
    /// Template of the UEFI variables.
    pub variables: String,
}

/// Which modules are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Names of those in the initramfs.
    pub initramfs: Vec<String>,
    /// Beginnings of paths beneath `kernel/` of those in the root file system.
    pub root: Vec<String>,
}

impl Definition {
    /// The embedded definition.
    ///
    /// # Errors
    /// When it is not valid, which the tests rule out.
    pub fn embedded() -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(TEXT)
    }

    /// Whether a path of a package (without leading slash) stays out of the root file system.
    pub fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|prefix| path.starts_with(prefix.as_str())) && !self.keeps(path)
    }

    /// Whether a path is one that is kept, or a folder above it.
    fn keeps(&self, path: &str) -> bool {
        let above = |kept: &String| kept.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.keep.iter().any(|kept| kept == path || above(kept))
    }
}

/// SHA-256 in hexadecimal over everything that is embedded, and the format.
pub fn digest() -> String {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    let texts = [("definition.yml", TEXT.as_bytes()), ("finish.sh", FINISH.as_bytes())];
    for (name, content) in texts.into_iter().chain(KEYS) {
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_definition_is_valid() {
        let definition = Definition::embedded().unwrap();
        assert_eq!(definition.suites[0].name, "trixie");
        assert!(definition.excludes("usr/share/doc/apt/copyright"));
        assert!(!definition.excludes("usr/share/doc"));
        assert!(definition.excludes("usr/lib/systemd/systemd") && definition.excludes("usr/lib/systemd/boot/x"));
        assert!(!definition.excludes("usr/lib/systemd/boot/efi/systemd-bootx64.efi"));
        assert!(!definition.excludes("usr/lib/systemd/boot"));
        assert!(definition.pins.iter().all(|pin| definition.suites.iter().any(|suite| suite.name == pin.suite)));
    }

    #[test]
    fn every_key_is_an_openpgp_certificate() {
        // RFC 9580, 4.2: the first packet is a public key (type 6), in the old or the new format.
        for (name, key) in KEYS {
            assert!(key[0] & 0xfc == 0x98 || key[0] == 0xc6, "{name}: {:#x}", key[0]);
        }
    }
}
