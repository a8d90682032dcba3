//! The kernels of an image, with what each boots with.

use super::initramfs::{Initramfs, telling};
use super::keep::Content;
use super::limits;
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
    /// Those drivers that are part of the kernel and decide whether the root is found; null where the image does not say
    /// (`modules.builtin`).
    #[serde(skip)]
    pub builtin: Option<BTreeSet<&'static str>>,
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

/// All kernels, by version, up to as many as are looked into. A folder of modules without a kernel is one too: of what a
/// package has left behind.
pub(super) fn all(tree: &Tree) -> Vec<Kernel> {
    let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
    let folders = tree.list("usr/lib/modules").into_iter().filter(|(_, node)| node.kind == Kind::Folder);
    for (version, _) in folders.take(limits::KERNELS) {
        kernels.insert(version.clone(), of_modules(tree, version));
    }
    for (name, _) in tree.list("boot") {
        let path = format!("boot/{name}");
        let version = name.strip_prefix("vmlinuz-").filter(|_| tree.has(&path));
        if let Some(kernel) = version.and_then(|version| entry(&mut kernels, version)) {
            kernel.image.get_or_insert(path);
        }
    }
    for (version, kernel) in &mut kernels {
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
    for (name, node) in tree.list("boot/EFI/Linux").into_iter().take(limits::FILES) {
        if let Content::Uki(uki) = &node.content {
            let version = uki.version.as_deref().unwrap_or(name.trim_end_matches(".efi"));
            if let Some(kernel) = entry(&mut kernels, version) {
                unified(kernel, format!("boot/EFI/Linux/{name}"), uki);
            }
        }
    }
    kernels.into_values().collect()
}

/// The kernel of this version, a new one where there is room for it. A version is a name in `/usr/lib/modules`.
fn entry<'a>(kernels: &'a mut BTreeMap<String, Kernel>, version: &str) -> Option<&'a mut Kernel> {
    if version.len() > limits::NAME || (kernels.len() >= limits::KERNELS && !kernels.contains_key(version)) {
        return None;
    }
    let new = || Kernel { version: version.to_owned(), ..Kernel::default() };
    Some(kernels.entry(version.to_owned()).or_insert_with(new))
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
    for (name, node) in tree.list(&folder).into_iter().take(limits::FILES) {
        if let Content::Uki(uki) = &node.content {
            unified(&mut kernel, format!("{folder}/{name}"), uki);
        }
    }
    let builtin = tree.text(&format!("{folder}/modules.builtin"));
    kernel.builtin = builtin.map(|text| text.lines().filter_map(telling).collect());
    kernel
}

/// What is in the initramfs at `path`, if there is one; what is sparse was not looked into.
fn initramfs(tree: &Tree, path: &str) -> Option<Initramfs> {
    let node = tree.find(path).filter(|node| node.kind == Kind::File)?;
    Some(match &node.content {
        Content::Initramfs(found) => Arc::as_ref(found).clone(),
        _ => {
            let problem = Some("it is a link to a file that is not looked into, a sparse one, or one too many".into());
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
