//! Reading of an appliance from an archive, which may come from anywhere.

use super::background::GivenUp;
use super::error::ApplianceError;
use super::manifest::{self, FILE, Manifest};
use super::oci::{self, Artifact, Descriptor, Index};
use crate::event::{Events, Unit};
use crate::source::digest::is_hex;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Most bytes of the archive's JSON documents.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Most bytes of all blobs, packed. A real archive has 60 MiB.
const MAX_BLOBS: u64 = 4 << 30;

/// Most bytes of all files, unpacked.
const MAX_FILES: u64 = 8 << 30;

/// Most bytes of an entry that is no file. A header of pax(1) has some hundred.
const MAX_HEADER: u64 = 1 << 20;

/// Most entries of the archive. A real one has ten.
const MAX_ENTRIES: usize = 256;

/// Refuse what does not begin like a tar archive.
///
/// # Errors
/// When it does not, or cannot be opened.
pub fn expect_archive(path: &Path) -> Result<(), ApplianceError> {
    let mut block = [0; 512];
    let mut file = File::open(path).map_err(ApplianceError::io("open", path))?;
    if file.read_exact(&mut block).is_ok() && &block[257..262] == b"ustar" {
        return Ok(());
    }
    let reason = "it is neither the folder of an appliance nor an archive of one".into();
    Err(ApplianceError::Unusable { path: path.to_owned(), reason })
}

/// The digest of the appliance that the archive says it holds, when its index comes among the first entries. To be
/// believed no further than that an appliance of that digest is good enough.
pub fn announced(path: &Path) -> Option<String> {
    let mut archive = tar::Archive::new(File::open(path).ok()?);
    for entry in archive.entries().ok()?.raw(true).take(3) {
        let entry = entry.ok()?;
        if entry.size() > MAX_DOCUMENT {
            return None;
        }
        if entry.path().ok()?.to_str() == Some(oci::INDEX_FILE) {
            let mut text = Vec::new();
            entry.take(MAX_DOCUMENT).read_to_end(&mut text).ok()?;
            let index: Index = serde_json::from_slice(&text).ok()?;
            let digest = index.manifests.first()?.annotations.get(oci::APPLIANCE)?;
            return is_hex(digest).then(|| digest.clone());
        }
    }
    None
}

/// Unpack the archive at `path`: the blobs into `blobs`, the files of the appliance into `made`. Both are folders of
/// ours. Every blob and every file is compared with its digest; the manifest is given back. Blocking.
///
/// # Errors
/// When the archive cannot be read, or is none of an appliance for this program.
pub fn read(
    path: &Path,
    blobs: &Path,
    made: &Path,
    given_up: &GivenUp,
    events: &Events,
) -> Result<Manifest, ApplianceError> {
    let size = fs::metadata(path).map_err(ApplianceError::io("open", path))?.len();
    let step = events.step("appliance: import", Some(size), Unit::Bytes);
    let mut seen = 0;
    let blobs = Blobs::read(path, blobs, given_up, |bytes| {
        seen += bytes;
        step.progress(seen);
    })?;
    let unusable = |reason: String| ApplianceError::Unusable { path: path.to_owned(), reason };

    let index: Index = parse(&blobs.index, oci::INDEX_FILE).map_err(unusable)?;
    let is_ours = |entry: &&Descriptor| entry.artifact_type.as_deref() == Some(oci::ARTIFACT);
    let entry = index.manifests.iter().find(is_ours).ok_or_else(|| unusable("it holds no appliance".into()))?;
    let artifact: Artifact = parse(&blobs.document(entry)?, "its manifest").map_err(unusable)?;
    let config = blobs.document(&artifact.config)?;
    let manifest = Manifest::parse(&config).map_err(unusable)?;
    if manifest.files.values().map(|file| file.size).fold(0, u64::saturating_add) > MAX_FILES {
        return Err(unusable("its files are larger than those of any appliance".into()));
    }

    for (name, file) in &manifest.files {
        let titled = |layer: &&Descriptor| layer.annotations.get(oci::TITLE) == Some(name);
        let layer = artifact.layers.iter().find(titled).ok_or_else(|| unusable(format!("it has no {name}")))?;
        let packed = blobs.file(layer)?;
        let target = made.join(name);
        decompress(&packed, &target, file.size, given_up).map_err(|error| broken(path, name, error))?;
        if manifest::describe(&target)? != *file {
            return Err(unusable(format!("{name} is not the file that its manifest names")));
        }
        fs::remove_file(&packed).map_err(ApplianceError::io("remove", &packed))?;
    }
    let target = made.join(FILE);
    fs::write(&target, &config).map_err(ApplianceError::io("write", &target))?;
    step.finish();
    Ok(manifest)
}

/// A full disk is no fault of the archive.
fn broken(path: &Path, what: &str, error: io::Error) -> ApplianceError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ApplianceError::io("unpack", path)(error),
        _ => ApplianceError::Unusable { path: path.to_owned(), reason: format!("{what} ({error})") },
    }
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| format!("{what}: {error}"))
}

fn decompress(from: &Path, to: &Path, size: u64, given_up: &GivenUp) -> io::Result<()> {
    let decoder = zstd::Decoder::new(given_up.reader(File::open(from)?))?;
    let mut output = File::create_new(to)?;
    // One byte more than it may have shows in the comparison with the manifest.
    io::copy(&mut decoder.take(size + 1), &mut output)?;
    Ok(())
}

/// The blobs of an archive, each compared with its name.
struct Blobs {
    archive: PathBuf,
    folder: PathBuf,
    sizes: BTreeMap<String, u64>,
    index: Vec<u8>,
}

impl Blobs {
    fn read(
        path: &Path,
        folder: &Path,
        given_up: &GivenUp,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ApplianceError> {
        let unusable = |reason: String| ApplianceError::Unusable { path: path.to_owned(), reason };
        let broken = |error| broken(path, "it is no tar archive", error);
        let file = File::open(path).map_err(ApplianceError::io("open", path))?;
        let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, given_up.reader(file)));
        let (mut sizes, mut index, mut total) = (BTreeMap::new(), None, 0_u64);
        // Raw, because long names and the like would be read whole, whatever their size; ours are short.
        for (count, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
            let mut entry = entry.map_err(broken)?;
            if count == MAX_ENTRIES {
                return Err(unusable(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
            let size = entry.size();
            if !entry.header().entry_type().is_file() {
                if size > MAX_HEADER {
                    return Err(unusable(format!("it has an entry of {size} bytes that is no file")));
                }
                continue;
            }
            if name == oci::INDEX_FILE {
                if size > MAX_DOCUMENT {
                    return Err(unusable(format!("its {name} has {size} bytes")));
                }
                let mut text = Vec::new();
                entry.read_to_end(&mut text).map_err(broken)?;
                index = Some(text);
            } else if let Some(digest) = name.strip_prefix(oci::BLOBS).filter(|digest| is_hex(digest)) {
                total = total.saturating_add(size);
                if total > MAX_BLOBS {
                    return Err(unusable("it is larger than any appliance".into()));
                }
                let found = keep(&mut entry, &folder.join(digest), &mut progress).map_err(broken)?;
                if found != digest {
                    return Err(unusable(format!("its blob {digest} has the SHA-256 {found}")));
                }
                sizes.insert(digest.to_owned(), size);
            }
        }
        let index = index.ok_or_else(|| unusable("it has no index.json".into()))?;
        Ok(Self { archive: path.to_owned(), folder: folder.to_owned(), sizes, index })
    }

    fn unusable(&self, reason: String) -> ApplianceError {
        ApplianceError::Unusable { path: self.archive.clone(), reason }
    }

    /// The file of a blob, whose size is that of the descriptor.
    fn file(&self, descriptor: &Descriptor) -> Result<PathBuf, ApplianceError> {
        let digest = descriptor.sha256().filter(|digest| self.sizes.get(*digest) == Some(&descriptor.size));
        let digest = digest.ok_or_else(|| self.unusable(format!("it lacks the blob {}", descriptor.digest)))?;
        Ok(self.folder.join(digest))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ApplianceError> {
        if descriptor.size > MAX_DOCUMENT {
            return Err(self.unusable(format!("its document {} is too large", descriptor.digest)));
        }
        let path = self.file(descriptor)?;
        fs::read(&path).map_err(ApplianceError::io("read", path))
    }
}

/// Write what `reader` gives to `path`, which may be there already; gives the SHA-256.
fn keep(reader: &mut impl Read, path: &Path, progress: &mut impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::create(path)?;
    let kept = manifest::measure(reader, |piece| {
        file.write_all(piece)?;
        progress(piece.len() as u64);
        Ok(())
    })?;
    Ok(kept.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::manifest::file;
    use crate::appliance::{Appliance, InUse, export};
    use std::sync::Arc;

    /// An appliance whose files hold their own names, and its archive.
    fn exported(folder: &Path) -> PathBuf {
        let dir = folder.join("appliance");
        fs::create_dir(&dir).unwrap();
        let mut manifest = manifest::tests::sample();
        for name in file::ALL {
            fs::write(dir.join(name), name).unwrap();
            manifest.files.insert(name.into(), manifest::describe(&dir.join(name)).unwrap());
        }
        fs::write(dir.join(FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let archive = folder.join("appliance.tar");
        let in_use = Arc::new(InUse::mark(&dir).unwrap());
        let appliance = Appliance { dir, manifest, in_use };
        export::write(&appliance, &archive, &GivenUp::default(), &Events::none()).unwrap();
        archive
    }

    fn import(archive: &Path, folder: &Path) -> Result<Manifest, String> {
        let (blobs, made) = (folder.join("blobs"), folder.join("made"));
        for folder in [&blobs, &made] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir(folder).unwrap();
        }
        read(archive, &blobs, &made, &GivenUp::default(), &Events::none()).map_err(|error| error.to_string())
    }

    /// What becomes of an entry's name and contents; none leaves it out.
    type Change = dyn Fn(&str, Vec<u8>) -> Option<(String, Vec<u8>)>;

    /// The archive with each entry changed by `change`.
    fn changed(archive: &Path, change: &Change) -> PathBuf {
        let path = archive.with_extension("changed");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for entry in tar::Archive::new(File::open(archive).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let Some((name, bytes)) = change(&name, bytes) else { continue };
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        builder.into_inner().unwrap();
        path
    }

    #[test]
    fn an_exported_appliance_is_imported() {
        let folder = tempfile::tempdir().unwrap();
        let archive = exported(folder.path());
        expect_archive(&archive).unwrap();
        assert_eq!(announced(&archive), Some("ab".repeat(32)));
        let manifest = import(&archive, folder.path()).unwrap();
        assert_eq!(manifest.digest, "ab".repeat(32));
        for name in file::ALL {
            assert_eq!(fs::read(folder.path().join("made").join(name)).unwrap(), name.as_bytes());
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with(".particle-vm")), "{left:?}");
    }

    #[test]
    fn a_header_without_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.tar");
        for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(64 << 30);
            header.set_cksum();
            fs::write(&archive, header.as_bytes()).unwrap();
            File::options().write(true).open(&archive).unwrap().set_len(65 << 30).unwrap();
            assert_eq!(announced(&archive), None);
            let error = import(&archive, folder.path()).unwrap_err();
            assert!(error.contains("that is no file"), "{error}");
        }
    }

    #[test]
    fn a_changed_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = exported(folder.path());
        let refused = |change: &Change| import(&changed(&archive, change), folder.path()).unwrap_err();
        // A blob that is not what its name says.
        let error = refused(&|name, mut bytes| {
            if name.starts_with(oci::BLOBS) {
                bytes.push(b' ');
            }
            Some((name.into(), bytes))
        });
        assert!(error.contains("has the SHA-256"), "{error}");
        // A blob that is missing.
        let error = refused(&|name, bytes| (!name.starts_with(oci::BLOBS)).then(|| (name.into(), bytes)));
        assert!(error.contains("lacks the blob"), "{error}");
        let error = refused(&|name, bytes| (name != oci::INDEX_FILE).then(|| (name.into(), bytes)));
        assert!(error.contains("no index.json"), "{error}");
        // Another artifact.
        let error = refused(&|name, bytes| {
            let text = String::from_utf8_lossy(&bytes).replace("particle-vm.appliance.v1", "other");
            Some((name.into(), if name == oci::INDEX_FILE { text.into_bytes() } else { bytes }))
        });
        assert!(error.contains("holds no appliance"), "{error}");
        // Nothing is written outside, whatever the names.
        let outside = refused(&|name, bytes| Some((name.replace(oci::BLOBS, "blobs/sha256/x/"), bytes)));
        assert!(outside.contains("lacks the blob"), "{outside}");
        fs::write(&archive, "text").unwrap();
        assert!(matches!(expect_archive(&archive), Err(ApplianceError::Unusable { .. })));
        assert!(import(&archive, folder.path()).unwrap_err().contains("no tar archive"));
    }
}
