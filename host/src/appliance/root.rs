//! The tree of the root file system, from the unpacked packages.

use super::background::GivenUp;
use super::deb::{Deb, DebError, Entry};
use super::definition::{Definition, FINISH, FINISH_PATH};
use super::error::ApplianceError;
use super::fetch::Package;
use super::kernel::KernelError;
use super::modules::{self, Module};
use super::tree::{Content, Kind, Meta, Node, Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where modules lie, in the kernel's package and in the root file system.
const MODULES: &str = "usr/lib/modules";

/// Put `debs` into a tree, with a dpkg database that lists them.
///
/// # Errors
/// When a package holds something that cannot be in a tree.
pub fn assemble(definition: &Definition, packages: &[Package], debs: Vec<Deb>) -> Result<Tree, ApplianceError> {
    let mut tree = Tree::default();
    let mut status = String::new();
    for (package, deb) in packages.iter().zip(debs) {
        let failed = |source: DebError| ApplianceError::Package { package: package.file.clone(), source };
        add_to_database(&mut tree, &mut status, &deb).map_err(failed)?;
        add_entries(&mut tree, deb.entries).map_err(|error| failed(error.into()))?;
    }
    let own = |source| ApplianceError::Package { package: "the dpkg database".into(), source: DebError::Entry(source) };
    add_file(&mut tree, "var/lib/dpkg/status", status.as_bytes(), 0o644).map_err(own)?;
    add_file(&mut tree, "var/lib/dpkg/available", b"", 0o644).map_err(own)?;
    add_file(&mut tree, FINISH_PATH, FINISH.as_bytes(), 0o755).map_err(own)?;
    for folder in &definition.folders {
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        tree.insert(Path::new(folder), Node { meta: Meta::of_root(mode), kind: Kind::Folder }).map_err(own)?;
    }
    Ok(tree)
}

fn add_entries(tree: &mut Tree, entries: Vec<(PathBuf, Entry)>) -> Result<(), TreeError> {
    for (path, entry) in entries {
        match entry {
            Entry::Node(node) => tree.insert(&path, node)?,
            Entry::HardLink(target) => tree.link(&path, &target)?,
        }
    }
    Ok(())
}

fn add_file(tree: &mut Tree, path: &str, bytes: &[u8], mode: u16) -> Result<(), TreeError> {
    let kind = Kind::File(Content::Bytes(bytes.into()));
    tree.insert(Path::new(path), Node { meta: Meta::of_root(mode), kind })
}

/// The package's paragraph of the status file and its files in `info`, as dpkg would have written them
/// (deb-control(5), dpkg's doc/spec).
fn add_to_database(tree: &mut Tree, status: &mut String, deb: &Deb) -> Result<(), DebError> {
    let control = deb.control.iter().find(|(name, _)| name == "control").map(|(_, bytes)| bytes.as_slice());
    let control = std::str::from_utf8(control.unwrap_or_default())
        .map_err(|_| DebError::Format("its control file is not UTF-8".into()))?
        .trim_end();
    let field = |name: &str| {
        let value = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| DebError::Format(format!("its control file has no {name}")))
    };
    let (package, architecture) = (field("Package")?, field("Architecture")?);
    if package.is_empty() || package.contains('/') {
        return Err(DebError::Format(format!("its name is {package:?}")));
    }
    let stem = match field("Multi-Arch") {
        Ok("same") => format!("{package}:{architecture}"),
        _ => package.to_owned(),
    };
    *status += &format!("{control}\nStatus: install ok installed\n\n");
    for (name, bytes) in deb.control.iter().filter(|(name, _)| name != "control") {
        let mode =
            if matches!(name.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config") { 0o755 } else { 0o644 };
        add_file(tree, &format!("var/lib/dpkg/info/{stem}.{name}"), bytes, mode)?;
    }
    let list: String = deb.entries.iter().map(|(path, _)| format!("/{}\n", path.display())).collect();
    add_file(tree, &format!("var/lib/dpkg/info/{stem}.list"), list.as_bytes(), 0o644)?;
    Ok(())
}

/// The modules of the kernel's package.
pub struct KernelModules {
    /// `uname -r` of the kernel.
    pub release: String,
    /// Those that are kept, by name.
    pub modules: BTreeMap<String, Module>,
    /// `modules.order`, `modules.builtin` and such, by name.
    pub indexes: Vec<(String, Vec<u8>)>,
}

/// Unpack the modules that `definition` keeps, and what they depend on.
///
/// # Errors
/// When there is none, one cannot be read, or nobody waits any more.
pub fn kernel_modules(
    definition: &Definition,
    package: &Package,
    deb: &Deb,
    given_up: &GivenUp,
) -> Result<KernelModules, ApplianceError> {
    let missing = || ApplianceError::Missing { package: package.file.clone(), path: MODULES.into() };
    let mut release = None;
    let mut packed: BTreeMap<String, (&str, &Content)> = BTreeMap::new();
    let mut indexes = Vec::new();
    let mut wanted: Vec<String> = definition.modules.initramfs.clone();
    for (path, entry) in &deb.entries {
        let Some((version, rest)) = in_modules(path) else { continue };
        let Entry::Node(Node { kind: Kind::File(content), .. }) = entry else { continue };
        if *release.get_or_insert(version) != version {
            return Err(missing());
        }
        if let Some(path) = rest.strip_prefix("kernel/") {
            packed.insert(modules::name_of(path), (path, content));
            if definition.modules.root.iter().any(|prefix| path.starts_with(prefix.as_str())) {
                wanted.push(modules::name_of(path));
            }
        } else if !rest.contains('/') {
            indexes.push((rest.to_owned(), content.read().map_err(ApplianceError::io("read", path))?));
        }
    }
    let release = release.ok_or_else(missing)?.to_owned();

    let mut unpacked = BTreeMap::new();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        given_up.check()?;
        let name = name.replace('-', "_");
        let Some((path, content)) = packed.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
        let bytes = content.read().map_err(ApplianceError::io("read", *path))?;
        let module = Module::read(path, &bytes).map_err(ApplianceError::Kernel)?;
        wanted.extend(module.depends.iter().cloned());
        unpacked.insert(name, module);
    }
    match definition.modules.initramfs.iter().find(|name| !unpacked.contains_key(*name)) {
        Some(name) => Err(ApplianceError::Kernel(KernelError::Module {
            module: name.clone(),
            reason: "the kernel's package has none of this name".into(),
        })),
        None => Ok(KernelModules { release, modules: unpacked, indexes }),
    }
}

/// The release and the rest of a path beneath the folder of modules.
fn in_modules(path: &Path) -> Option<(&str, &str)> {
    path.strip_prefix(MODULES).ok()?.to_str()?.split_once('/')
}

/// Put the modules into the tree, unpacked.
///
/// # Errors
/// When the tree has something else in their place.
pub fn add_modules(tree: &mut Tree, kernel: &KernelModules) -> Result<(), ApplianceError> {
    let folder = format!("{MODULES}/{}", kernel.release);
    let modules = kernel.modules.values().map(|module| (format!("kernel/{}.ko", module.path), module.bytes.as_slice()));
    let indexes = kernel.indexes.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice()));
    for (name, bytes) in modules.chain(indexes) {
        add_file(tree, &format!("{folder}/{name}"), bytes, 0o644).map_err(|error| ApplianceError::Package {
            package: "the modules".into(),
            source: DebError::Entry(error),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::definition;

    fn package(name: &str) -> Package {
        Package { uri: String::new(), file: format!("{name}_1_all.deb"), size: 1, sha256: "0".repeat(64) }
    }

    fn deb(control: &str, entries: Vec<(PathBuf, Entry)>) -> Deb {
        let scripts = [("control", control), ("postinst", "#!/bin/sh\n")];
        Deb {
            control: scripts.iter().map(|(name, text)| ((*name).into(), text.as_bytes().to_vec())).collect(),
            entries,
        }
    }

    #[test]
    fn packages_stand_in_the_database_as_installed() {
        let definition = definition::Definition::embedded().unwrap();
        let debs = vec![
            deb("Package: one\nArchitecture: all\nDescription: x\n y\n", vec![]),
            deb("Package: two\nArchitecture: amd64\nMulti-Arch: same\n", vec![]),
        ];
        let tree = assemble(&definition, &[package("one"), package("two")], debs).unwrap();
        let Kind::File(status) = &tree.get("var/lib/dpkg/status").unwrap().kind else { panic!() };
        let status = String::from_utf8(status.read().unwrap()).unwrap();
        assert!(
            status.starts_with("Package: one\nArchitecture: all\nDescription: x\n y\nStatus: install ok installed\n\n")
        );
        assert_eq!(tree.get("var/lib/dpkg/info/one.postinst").unwrap().meta.mode, 0o755);
        assert!(tree.get("var/lib/dpkg/info/two:amd64.list").is_some());
        assert_eq!(tree.get("tmp").unwrap().meta.mode, 0o1777);
        assert!(matches!(tree.get("work").unwrap().kind, Kind::Folder));
    }

    #[test]
    fn a_package_with_a_hostile_name_is_refused() {
        let definition = definition::Definition::embedded().unwrap();
        let debs = vec![deb("Package: ../x\nArchitecture: all\n", vec![])];
        let error = assemble(&definition, &[package("x")], debs).unwrap_err();
        assert!(matches!(error, ApplianceError::Package { source: DebError::Format(_), .. }), "{error}");
    }
}
