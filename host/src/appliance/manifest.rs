//! `appliance.json`: what an appliance was made from and what its files are.

use super::definition::{self, FORMAT};
use super::error::ApplianceError;
use super::fetch::Packages;
use crate::source::digest::is_hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Its name.
pub const FILE: &str = "appliance.json";

/// Most bytes of a manifest; real ones have 40 KiB.
const MAX_SIZE: u64 = 4 << 20;

/// Names of the files of an appliance.
pub mod file {
    /// The uncompressed kernel.
    pub const KERNEL: &str = "vmlinux";
    /// The modules for the initramfs.
    pub const MODULES: &str = "modules.cpio";
    /// UEFI firmware.
    pub const FIRMWARE_CODE: &str = "OVMF_CODE_4M.fd";
    /// Template of its variables.
    pub const FIRMWARE_VARIABLES: &str = "OVMF_VARS_4M.fd";
    /// The unpacked packages, and what the finishing run made of them.
    pub const ROOT: [&str; 2] = ["root0.squashfs", "root1.squashfs"];

    /// All of them.
    pub const ALL: [&str; 6] = [KERNEL, MODULES, FIRMWARE_CODE, FIRMWARE_VARIABLES, ROOT[0], ROOT[1]];
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Meaning of the files; only that of this program can be used.
    pub format: u32,
    /// Digest of the appliance: over the definition and the hashes of the packages.
    pub digest: String,
    /// Digest of the definition.
    pub definition: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// Suites of the archive.
    pub suites: Vec<String>,
    /// The mirror that it was fetched from.
    pub mirror: String,
    /// `uname -r` of its kernel.
    pub kernel_release: String,
    /// File names of the modules in the initramfs, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// The packages.
    pub packages: Vec<ManifestPackage>,
    /// The files.
    pub files: BTreeMap<String, ManifestFile>,
}

/// A package in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb` in hexadecimal.
    pub sha256: String,
}

/// A file in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Read the manifest in `folder`.
    ///
    /// # Errors
    /// When it is not there, is no manifest, or is one of another format.
    pub fn read(folder: &Path) -> Result<Self, ApplianceError> {
        let path = folder.join(FILE);
        let file = File::open(&path).map_err(ApplianceError::io("open", &path))?;
        let mut text = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut text).map_err(ApplianceError::io("read", &path))?;
        Self::parse(&text).map_err(|reason| ApplianceError::Unusable { path: folder.to_owned(), reason })
    }

    /// Check and take what may come from anywhere.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        // First the version alone: another one has other fields.
        let Version { format } = serde_json::from_slice(text).map_err(|error| format!("{FILE}: {error}"))?;
        if format != FORMAT {
            return Err(format!("it has the format {format}, and this program uses {FORMAT}"));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(|error| format!("{FILE}: {error}"))?;
        if !is_hex(&manifest.digest) {
            return Err(format!("its digest {:?} is none", manifest.digest));
        }
        for name in file::ALL {
            if !manifest.files.contains_key(name) {
                return Err(format!("{FILE} names no {name}"));
            }
        }
        if let Some(name) = manifest.files.keys().find(|name| !file::ALL.contains(&name.as_str())) {
            return Err(format!("{FILE} names a file {name:?}, which does not belong to an appliance"));
        }
        Ok(manifest)
    }
}

/// Digest of the appliance that is made of `packages`.
pub fn digest(packages: &Packages) -> String {
    let mut lines: Vec<_> = packages.all().map(|package| format!("{} {}\n", package.sha256, package.file)).collect();
    lines.sort();
    let mut hash = Sha256::new();
    hash.update(definition::digest());
    for line in lines {
        hash.update(line);
    }
    hex::encode(hash.finalize())
}

/// Size and hash of a file.
///
/// # Errors
/// When it cannot be read.
pub fn describe(path: &Path) -> Result<ManifestFile, ApplianceError> {
    let file = File::open(path).map_err(ApplianceError::io("open", path))?;
    measure(file, |_| Ok(())).map_err(ApplianceError::io("read", path))
}

/// Size and hash of what `reader` gives; `each` gets every piece of it.
///
/// # Errors
/// When reading fails, or what `each` fails with.
pub fn measure(mut reader: impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<ManifestFile> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(ManifestFile { size, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(&buffer[..read]);
        each(&buffer[..read])?;
        size += read as u64;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::appliance::fetch::Package;

    pub fn sample() -> Manifest {
        let file = ManifestFile { size: 1, sha256: "0".repeat(64) };
        Manifest {
            format: FORMAT,
            digest: "ab".repeat(32),
            definition: definition::digest(),
            architecture: "amd64".into(),
            suites: vec!["trixie".into()],
            mirror: "http://m.example/debian".into(),
            kernel_release: "6.12-amd64".into(),
            modules: vec![],
            packages: vec![],
            files: file::ALL.iter().map(|name| ((*name).to_owned(), file.clone())).collect(),
        }
    }

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let text = serde_json::to_vec(&sample()).unwrap();
        assert_eq!(Manifest::parse(&text).unwrap(), sample());
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(sample()).unwrap();
            change(&mut value);
            Manifest::parse(&serde_json::to_vec(&value).unwrap()).unwrap_err()
        };
        assert!(refused(&|value| value["format"] = 99.into()).contains("format 99"));
        assert!(refused(&|value| value["digest"] = "../../x".into()).contains("digest"));
        assert!(refused(&|value| value["files"]["../x"] = value["files"]["vmlinux"].clone()).contains("../x"));
        assert!(refused(&|value| drop(value["files"].as_object_mut().unwrap().remove("vmlinux"))).contains("vmlinux"));
        assert!(Manifest::parse(b"{}").unwrap_err().contains("format"));
    }

    #[test]
    fn the_digest_covers_every_package_in_any_order() {
        let package = |name: &str| Package {
            uri: String::new(),
            file: format!("{name}_1_all.deb"),
            size: 1,
            sha256: "0".repeat(64),
        };
        let packages = |root: Vec<Package>| Packages { root, kernel: package("k"), firmware: package("f") };
        let one = digest(&packages(vec![package("a"), package("b")]));
        assert_eq!(one, digest(&packages(vec![package("b"), package("a")])));
        assert_ne!(one, digest(&packages(vec![package("a")])));
        assert!(is_hex(&one));
    }
}
