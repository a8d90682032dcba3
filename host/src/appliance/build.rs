//! Building of an appliance: fetch, unpack, write, put in its place.

use super::deb::{Deb, Entry};
use super::definition::{Definition, FORMAT};
use super::error::ApplianceError;
use super::fetch::{Apt, Package, Packages};
use super::manifest::{self, Manifest, ManifestPackage, file};
use super::tree::{Content, Kind, Node};
use super::unpack::{self, Keep, Unpacked};
use super::{cache, definition, image, kernel, modules, root, verify};
use crate::dirs::Dirs;
use crate::event::{Events, Unit};
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that a build needs in the cache beside the packages: spool, images and the appliance's VM, measured and rounded
/// up.
const NEEDED: u64 = 1 << 30;

/// Becomes true when the future that waits for blocking work is dropped.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Build the appliance of the embedded definition from `mirror`, unless the cache has the very same one. The caller
/// holds the lock. Gives the digest.
///
/// # Errors
/// When packages cannot be fetched, verified or unpacked, or the cache cannot be written.
pub async fn build(dirs: &Dirs, mirror: &str, events: &Events) -> Result<String, ApplianceError> {
    let definition = Arc::new(Definition::embedded().map_err(ApplianceError::Definition)?);
    let parent = dirs.appliances();
    let workspace = Arc::new(Workspace::new(&parent, cache::BUILD_PREFIX).map_err(ApplianceError::Workspace)?);
    let apt = Apt::new(&workspace.path().join("apt"), &definition, mirror)?;
    let packages = apt.resolve(&definition, events).await?;
    let digest = manifest::digest(&packages);
    let place = cache::folder(dirs, &digest);
    if place.exists() {
        let found = Manifest::read(&place).and_then(|manifest| verify::check(&place, &manifest, dirs));
        match found {
            Ok(()) => return Ok(digest),
            Err(error) => events.warn(format!("{error}; it is built anew")),
        }
    }
    check_space(&parent, NEEDED + packages.all().map(|package| package.size).sum::<u64>())?;
    apt.download(&packages, events).await?;

    let made = workspace.path().join("made");
    fs::create_dir(&made).map_err(ApplianceError::io("create", &made))?;
    let given_up = GivenUp(Arc::default());
    let work = Work {
        definition: Arc::clone(&definition),
        packages,
        archives: apt.archives(),
        spools: workspace.path().to_owned(),
        made: made.clone(),
        events: events.clone(),
        given_up: Arc::clone(&given_up.0),
    };
    // The workspace stays until the blocking work has ended, also when nobody waits for it any more.
    let kept = Arc::clone(&workspace);
    let parts = tokio::task::spawn_blocking(move || {
        let parts = work.run();
        drop(kept);
        parts
    });
    let parts = parts.await.map_err(ApplianceError::Task)??;

    let manifest = Manifest {
        format: FORMAT,
        digest: digest.clone(),
        definition: definition::digest(),
        architecture: definition.architecture.clone(),
        suites: definition.suites.iter().map(|suite| suite.name.clone()).collect(),
        mirror: mirror.to_owned(),
        kernel_release: parts.kernel_release,
        modules: parts.modules,
        packages: parts.packages,
        files: BTreeMap::new(),
    };
    publish(dirs, &made, manifest)?;
    Ok(digest)
}

/// Describe the files in `made`, write the manifest, bring all to the disk and move the folder to its place.
fn publish(dirs: &Dirs, made: &Path, mut manifest: Manifest) -> Result<(), ApplianceError> {
    let sync =
        |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(ApplianceError::io("write", path));
    for name in file::ALL.into_iter().filter(|name| made.join(name).exists()) {
        manifest.files.insert(name.to_owned(), manifest::describe(&made.join(name))?);
        sync(&made.join(name))?;
    }
    let path = made.join(manifest::FILE);
    let text = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::from);
    let text = text.map_err(ApplianceError::io("write", &path))?;
    fs::write(&path, text).map_err(ApplianceError::io("write", &path))?;
    sync(&path)?;
    sync(made)?;
    let place = cache::folder(dirs, &manifest.digest);
    if place.exists() {
        cache::remove(dirs, &manifest.digest)?;
    }
    fs::rename(made, &place).map_err(ApplianceError::io("create", &place))?;
    sync(&dirs.appliances())
}

/// Refuse to begin what cannot end well.
fn check_space(folder: &Path, needed: u64) -> Result<(), ApplianceError> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| ApplianceError::io("look at the space of", folder)(error.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    if free < needed {
        return Err(ApplianceError::Space { path: folder.to_owned(), needed, free });
    }
    Ok(())
}

/// The blocking part of a build.
struct Work {
    definition: Arc<Definition>,
    packages: Packages,
    archives: PathBuf,
    spools: PathBuf,
    made: PathBuf,
    events: Events,
    given_up: Arc<AtomicBool>,
}

/// What goes from the packages into the manifest.
struct Parts {
    kernel_release: String,
    modules: Vec<String>,
    packages: Vec<ManifestPackage>,
}

impl Work {
    fn run(self) -> Result<Parts, ApplianceError> {
        let unpacked = self.unpack()?;
        let step = self.events.step("appliance: kernel and firmware", None, Unit::Bytes);
        self.write_kernel(&unpacked.kernel)?;
        let firmware = &self.definition.firmware;
        self.copy(&self.packages.firmware, &unpacked.firmware, &firmware.code, file::FIRMWARE_CODE)?;
        self.copy(&self.packages.firmware, &unpacked.firmware, &firmware.variables, file::FIRMWARE_VARIABLES)?;
        let kernel = root::kernel_modules(&self.definition, &self.packages.kernel, &unpacked.kernel)?;
        let order = modules::load_order(&kernel.modules, &self.definition.modules.initramfs);
        let archive = self.made.join(file::MODULES);
        let bytes = modules::cpio(&order).map_err(ApplianceError::io("write", &archive))?;
        fs::write(&archive, bytes).map_err(ApplianceError::io("write", &archive))?;
        let names = order.iter().map(|module| format!("{}.ko", module.name())).collect();
        step.finish();

        let mut tree = root::assemble(&self.definition, &self.packages.root, unpacked.root)?;
        root::add_modules(&mut tree, &kernel)?;
        let step = self.events.step("appliance: root file system", Some(tree.bytes()), Unit::Bytes);
        image::write(&tree, &self.made.join(file::ROOT[0]), &step)?;
        step.finish();
        let packages = self.packages.all().map(|package| ManifestPackage {
            name: package.name().to_owned(),
            version: package.version(),
            sha256: package.sha256.clone(),
        });
        Ok(Parts { kernel_release: kernel.release, modules: names, packages: packages.collect() })
    }

    fn unpack(&self) -> Result<Unpacked, ApplianceError> {
        let count = self.packages.all().count() as u64;
        let step = self.events.step("appliance: unpack", Some(count), Unit::Items);
        let firmware = &self.definition.firmware;
        let keep = Keep {
            root: &|path| path.to_str().is_none_or(|path| !self.definition.excludes(path)),
            kernel: &|path| path.starts_with("boot") || path.starts_with("usr/lib/modules"),
            firmware: &|path| path == Path::new(&firmware.code) || path == Path::new(&firmware.variables),
        };
        let unpacked = unpack::all(&self.packages, &self.archives, &self.spools, &keep, &self.given_up, &step)?;
        step.finish();
        Ok(unpacked)
    }

    /// The kernel of `boot/vmlinuz-RELEASE`, uncompressed.
    fn write_kernel(&self, deb: &Deb) -> Result<(), ApplianceError> {
        let is_kernel = |path: &Path| path.to_str().is_some_and(|path| path.starts_with("boot/vmlinuz-"));
        let content = content(&self.packages.kernel, deb, "boot/vmlinuz", is_kernel)?;
        let image = content.read().map_err(ApplianceError::io("read", "the kernel"))?;
        let kernel = kernel::vmlinux(&image).map_err(ApplianceError::Kernel)?;
        let path = self.made.join(file::KERNEL);
        fs::write(&path, kernel).map_err(ApplianceError::io("write", &path))
    }

    fn copy(&self, package: &Package, deb: &Deb, from: &str, to: &str) -> Result<(), ApplianceError> {
        let content = content(package, deb, from, |path| path == Path::new(from))?;
        let path = self.made.join(to);
        let bytes = content.read().map_err(ApplianceError::io("read", from))?;
        fs::write(&path, bytes).map_err(ApplianceError::io("write", &path))
    }
}

/// The first file of a package that is wanted.
fn content<'a>(
    package: &Package,
    deb: &'a Deb,
    name: &str,
    wanted: impl Fn(&Path) -> bool,
) -> Result<&'a Content, ApplianceError> {
    let file = deb.entries.iter().find_map(|(path, entry)| match entry {
        Entry::Node(Node { kind: Kind::File(content), .. }) if wanted(path) => Some(content),
        _ => None,
    });
    file.ok_or_else(|| ApplianceError::Missing { package: package.file.clone(), path: name.to_owned() })
}
