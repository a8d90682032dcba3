//! The kernels of an image, with what each boots with.

use super::initramfs::{Initramfs, module_name};
use super::keep::Content;
use super::tree::{Kind, Tree};
use super::uki::Uki;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Its version: the name of its folder in `/usr/lib/modules`.
    pub version: String,
    /// Where it lies in the image, or null where there are modules only.
    pub image: Option<String>,
    /// Where its initramfs lies.
    pub initramfs_path: Option<String>,
    /// What is in its initramfs, or in that of its unified kernel image.
    pub initramfs: Option<Initramfs>,
    /// Where its unified kernel image lies.
    pub uki_path: Option<String>,
    /// What is in its unified kernel image; the initramfs stands beside it.
    pub uki: Option<Uki>,
    /// Drivers that are part of the kernel; null where the image does not say (`modules.builtin`).
    #[serde(skip)]
    pub builtin: Option<BTreeSet<String>>,
}

impl Kernel {
    /// Whether it has the driver `module` before there is a root; none if that cannot be told.
    pub(super) fn has_driver(&self, module: &str) -> Option<bool> {
        let initramfs = self.initramfs.as_ref()?;
        if initramfs.modules.iter().any(|name| *name == module) {
            return Some(true);
        }
        if initramfs.problem.is_some() {
            return None;
        }
        Some(self.builtin.as_ref()?.contains(module))
    }

    /// Whether it lies where OSTree and bootc look for it.
    pub(super) fn is_in_modules(&self) -> bool {
        self.image.as_ref().or(self.uki_path.as_ref()).is_some_and(|path| path.starts_with("usr/lib/modules/"))
    }
}

/// All kernels, by version. A folder of modules without a kernel is one too: of what a package has left behind.
pub(super) fn all(tree: &Tree) -> Vec<Kernel> {
    let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
    for (version, node) in tree.list("usr/lib/modules") {
        if node.kind == Kind::Folder {
            kernels.insert(version.clone(), of_modules(tree, version));
        }
    }
    for (name, _) in tree.list("boot") {
        let path = format!("boot/{name}");
        if let Some(version) = name.strip_prefix("vmlinuz-").filter(|_| tree.has(&path)) {
            kernels.entry(version.to_owned()).or_default().image.get_or_insert(path);
        }
    }
    for (version, kernel) in &mut kernels {
        kernel.version.clone_from(version);
        if kernel.initramfs_path.is_none() {
            let places = [format!("boot/initrd.img-{version}"), format!("boot/initramfs-{version}.img")];
            for path in places {
                if let Some(found) = initramfs(tree, &path) {
                    (kernel.initramfs_path, kernel.initramfs) = (Some(path), Some(found));
                    break;
                }
            }
        }
    }
    for (name, node) in tree.list("boot/EFI/Linux") {
        if let Content::Uki(uki) = &node.content {
            let version = uki.version.clone().unwrap_or_else(|| name.trim_end_matches(".efi").to_owned());
            let kernel = kernels.entry(version.clone()).or_default();
            kernel.version = version;
            unified(kernel, format!("boot/EFI/Linux/{name}"), uki);
        }
    }
    kernels.into_values().collect()
}

fn of_modules(tree: &Tree, version: String) -> Kernel {
    let folder = format!("usr/lib/modules/{version}");
    let mut kernel = Kernel { version, ..Kernel::default() };
    let image = format!("{folder}/vmlinuz");
    kernel.image = tree.has(&image).then_some(image);
    for name in ["initramfs.img", "initramfs"] {
        let path = format!("{folder}/{name}");
        if let Some(found) = initramfs(tree, &path) {
            (kernel.initramfs_path, kernel.initramfs) = (Some(path), Some(found));
            break;
        }
    }
    for (name, node) in tree.list(&folder) {
        if let Content::Uki(uki) = &node.content {
            unified(&mut kernel, format!("{folder}/{name}"), uki);
        }
    }
    let builtin = tree.text(&format!("{folder}/modules.builtin"));
    kernel.builtin = builtin.map(|text| text.lines().filter_map(module_name).collect());
    kernel
}

/// What is in the initramfs at `path`, if there is one; what is sparse was not looked into.
fn initramfs(tree: &Tree, path: &str) -> Option<Initramfs> {
    let node = tree.find(path).filter(|node| node.kind == Kind::File)?;
    Some(match &node.content {
        Content::Initramfs(found) => Arc::as_ref(found).clone(),
        _ => {
            let problem = Some("it is a link to a file that is not looked into, or a sparse one".into());
            Initramfs { size: node.size, problem, ..Initramfs::default() }
        }
    })
}

fn unified(kernel: &mut Kernel, path: String, uki: &Uki) {
    let mut uki = uki.clone();
    // That of the unified image is the one that is booted.
    if let Some(initramfs) = uki.initramfs.take() {
        kernel.initramfs = Some(initramfs);
    }
    kernel.uki_path = Some(path);
    kernel.uki = Some(uki);
}
