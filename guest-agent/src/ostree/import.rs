//! A container image as a commit, stored as bootc's own importer stores it, so that bootc finds what it looks for: one
//! commit for each layer, named by the digest of its blob, and one of all of them with the manifest in its metadata.

use super::filter::Filter;
use super::{Commit, escape, settings};
use crate::context::Context;
use crate::layer;
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use crate::tree::Tree;
use particle_vm_protocol::{Base, BaseLayer, Failure, FailureKind};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The repository in a sysroot.
pub(super) const REPO: &str = "ostree/repo";

/// Where the layers are put together: beside the repository, whose files it has links to. In the repository's own `tmp`
/// each commit would remove what is old, and files in a repository are from 1970.
const MERGED: &str = ".particle-vm-merge";

/// Who has made the commits.
const IMPORTER: &str = concat!("ostree.importer.version=particle-vm ", env!("CARGO_PKG_VERSION"));

/// Files that container engines mount over while an image is built, and leave behind empty.
const LEFT_BY_ENGINES: [&str; 2] = ["/usr/etc/hostname", "/usr/etc/resolv.conf"];

/// Make a repository in `sysroot`.
///
/// # Errors
/// When ostree fails.
pub(super) fn init(context: &Context, sysroot: &Path) -> Result<(), Failure> {
    context.run(&Command::new("ostree").args(["admin", "init-fs", "--modern"]).arg(sysroot))?;
    // What `bootc install` sets: entries name kernels from the root of the disk, and nobody writes to its root.
    for (key, value) in [("bootloader", "none"), ("bootprefix", "true"), ("readonly", "true")] {
        context.run(&ostree(sysroot, "config").args(["set", &format!("sysroot.{key}"), value]))?;
    }
    Ok(())
}

/// A command for the repository in `sysroot`.
pub(super) fn ostree(sysroot: &Path, verb: &str) -> Command {
    Command::new("ostree").arg(verb).arg(format!("--repo={}", sysroot.join(REPO).display()))
}

/// Make a repository in `sysroot` and commit the image to it.
///
/// # Errors
/// When a layer is broken, or holds what no commit may have, and when the disk is full.
pub fn import(context: &Context, sysroot: &Path, base: &Base, largest: u64) -> Result<Commit, Failure> {
    let ostree = |verb: &str| ostree(sysroot, verb);
    init(context, sysroot)?;
    let merged = Merged::in_sysroot(sysroot);
    // The folders of each layer, by its digest.
    let mut commits = BTreeMap::new();
    for (index, layer) in base.layers.iter().enumerate() {
        context.output(format!("layer {} of {}: {}", index + 1, base.layers.len(), layer.digest));
        let reference = escape::blob(&layer.digest);
        // The same layer twice is one commit.
        let folders = match commits.entry(&layer.digest) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(new) => {
                new.insert(commit_layer(context, &ostree("commit"), base, layer, &merged.0, &reference, largest)?)
            }
        };
        if let Ok(tree) = Tree::open(&merged.0) {
            folders.iter().try_for_each(|folder| give_way(&tree, folder))?;
        }
        let checkout = ostree("checkout")
            .args(["--require-hardlinks", "--union", "--whiteouts", "--force-copy-zerosized"])
            .arg(&reference)
            .arg(&merged.0);
        context.run(&checkout)?;
        let tree = Tree::open(&merged.0).explain(FailureKind::Agent, || "cannot open the tree")?;
        folders.iter().try_for_each(|folder| set_folder(&tree, folder))?;
    }
    let tree = Tree::open(&merged.0).explain(FailureKind::Input, || "the image has no layers")?;
    for path in LEFT_BY_ENGINES {
        if tree.link_target(path).is_none() && tree.stat(path).is_some_and(|stat| stat.st_size == 0) {
            tree.remove(path)?;
        }
    }
    let settings = settings::read(&tree, "the image")?;
    let reference = escape::image(&base.reference);
    let metadata = [
        format!("ostree.manifest-digest={}", base.digest),
        format!("ostree.manifest={}", base.manifest),
        format!("ostree.container.image-config={}", base.config),
        IMPORTER.to_owned(),
    ];
    let mut command =
        ostree("commit").args(["--no-bindings", "--parent=none", "--bootable", "--link-checkout-speedup"]);
    for entry in metadata {
        command = command.arg(format!("--add-metadata-string={entry}"));
    }
    let command = command
        .arg(format!("--timestamp=@{}", base.created))
        .arg(format!("--tree=dir={}", merged.0.display()))
        .arg(format!("--branch={reference}"));
    context.run(&command)?;
    Ok(Commit { reference, settings })
}

fn commit_layer(
    context: &Context,
    commit: &Command,
    base: &Base,
    layer: &BaseLayer,
    below: &Path,
    reference: &str,
    largest: u64,
) -> Result<Vec<layer::Entry>, Failure> {
    let path = Path::new(paths::BASE).join(&layer.file);
    let archive = File::open(&path).explain(FailureKind::Agent, || format!("cannot open {}", path.display()))?;
    let below = Tree::open(below).ok();
    let command = commit
        .clone()
        .arg(format!("--add-metadata-string={IMPORTER}"))
        .args(["--no-bindings", "--parent=none", "--tar-autocreate-parents", "--tree=tar=/proc/self/fd/0"])
        .arg(format!("--timestamp=@{}", base.created))
        .arg(format!("--branch={reference}"));
    let filter = Filter::new(context, below.as_ref(), largest);
    let mut folders = Vec::new();
    let fed = context.run_fed(command, |output| {
        folders = filter.copy(BufReader::with_capacity(1 << 20, archive), output)?;
        Ok(())
    });
    match fed {
        Ok(()) => Ok(folders),
        Err(failure) => Err(Failure { message: format!("layer {}\n{}", layer.digest, failure.message), ..failure }),
    }
}

/// Remove what lower layers have in the place of a folder: ostree-checkout(1) puts none where a file or a link is.
fn give_way(tree: &Tree, folder: &layer::Entry) -> Result<(), Failure> {
    let Some(place) = tree.existing(&folder.path).filter(|_| !folder.path.is_empty()) else { return Ok(()) };
    let remove = || match place.stat()? {
        Some(there) if there.st_mode & libc::S_IFMT != libc::S_IFDIR => place.clear(),
        _ => Ok(()),
    };
    remove().explain(FailureKind::Agent, || format!("cannot replace `{}`", layer::shown(&folder.path)))
}

/// Owner, permissions and attributes of a folder, which may be one that lower layers have.
fn set_folder(tree: &Tree, folder: &layer::Entry) -> Result<(), Failure> {
    // The root is the same in all layers; what a later whiteout of the same layer has removed is not there.
    if folder.path.is_empty() || !tree.is_folder_raw(&folder.path) {
        return Ok(());
    }
    let set = tree.place(&folder.path).and_then(|place| layer::apply(&place, folder));
    set.explain(FailureKind::Input, || format!("cannot take `{}` of the layer", layer::shown(&folder.path)))
}

/// The folder in which the layers are put together; removed when dropped.
pub(super) struct Merged(pub(super) PathBuf);

impl Merged {
    /// In this sysroot. It is not made yet.
    pub(super) fn in_sysroot(sysroot: &Path) -> Self {
        Self(sysroot.join(MERGED))
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        // What stays takes room on the disk and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
