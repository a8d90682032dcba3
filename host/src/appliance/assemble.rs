//! From downloaded packages to the files of an appliance.

use super::background::GivenUp;
use super::deb::{Deb, Entry};
use super::definition::Definition;
use super::error::ApplianceError;
use super::fetch::{Package, Packages};
use super::manifest::{ManifestPackage, file};
use super::tree::{Content, Kind, Node};
use super::unpack::{self, Keep, Unpacked};
use super::{image, kernel, modules, root};
use crate::event::{Events, Unit};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The blocking part of a build.
pub struct Work {
    /// What it consists of.
    pub definition: Arc<Definition>,
    /// The packages.
    pub packages: Packages,
    /// Where they were downloaded to.
    pub archives: PathBuf,
    /// Where temporary files go.
    pub spools: PathBuf,
    /// Where the files of the appliance go.
    pub made: PathBuf,
    /// Who hears of the progress.
    pub events: Events,
}

/// What goes from the packages into the manifest.
pub struct Parts {
    /// `uname -r` of the kernel.
    pub kernel_release: String,
    /// File names of the modules in the initramfs, in their order.
    pub modules: Vec<String>,
    /// The packages.
    pub packages: Vec<ManifestPackage>,
    /// Verified packages that images are made of too.
    pub shared: Vec<Package>,
}

impl Work {
    /// Do it. Blocking.
    ///
    /// # Errors
    /// When a package is not what it should be, the files cannot be written, or nobody waits any more.
    pub fn run(self, given_up: &GivenUp) -> Result<Parts, ApplianceError> {
        let unpacked = self.unpack(given_up)?;
        let step = self.events.step("appliance: kernel and firmware", None, Unit::Bytes);
        self.write_kernel(&unpacked.kernel)?;
        let firmware = &self.definition.firmware;
        self.copy(&self.packages.firmware, &unpacked.firmware, &firmware.code, file::FIRMWARE_CODE)?;
        self.copy(&self.packages.firmware, &unpacked.firmware, &firmware.variables, file::FIRMWARE_VARIABLES)?;
        let kernel = root::kernel_modules(&self.definition, &self.packages.kernel, &unpacked.kernel, given_up)?;
        let order = modules::load_order(&kernel.modules, &self.definition.modules.initramfs);
        let archive = self.made.join(file::MODULES);
        let bytes = modules::cpio(&order).map_err(ApplianceError::io("write", &archive))?;
        fs::write(&archive, bytes).map_err(ApplianceError::io("write", &archive))?;
        let names = order.iter().map(|module| format!("{}.ko", module.name())).collect();
        step.finish();

        let mut tree = root::assemble(&self.definition, &self.packages.root, unpacked.root)?;
        root::add_modules(&mut tree, &kernel)?;
        let step = self.events.step("appliance: root file system", Some(tree.bytes()), Unit::Bytes);
        image::write(&tree, &self.made.join(file::ROOT[0]), given_up, &step)?;
        step.finish();
        let packages = self.packages.all().map(|package| ManifestPackage {
            name: package.name().to_owned(),
            version: package.version(),
            sha256: package.sha256.clone(),
        });
        let packages = packages.collect();
        let shared = self.packages.root.into_iter().chain([self.packages.kernel]).collect();
        Ok(Parts { kernel_release: kernel.release, modules: names, packages, shared })
    }

    fn unpack(&self, given_up: &GivenUp) -> Result<Unpacked, ApplianceError> {
        let count = self.packages.all().count() as u64;
        let step = self.events.step("appliance: unpack", Some(count), Unit::Items);
        let firmware = &self.definition.firmware;
        let keep = Keep {
            root: &|path| path.to_str().is_none_or(|path| !self.definition.excludes(path)),
            kernel: &|path| path.starts_with("boot") || path.starts_with("usr/lib/modules"),
            firmware: &|path| path == Path::new(&firmware.code) || path == Path::new(&firmware.variables),
        };
        let unpacked = unpack::all(&self.packages, &self.archives, &self.spools, &keep, given_up, &step)?;
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
