//! The appliance: the kernel and the root file system of the VM, built of Debian's packages by an ordinary user.

mod assemble;
mod background;
mod build;
mod cache;
mod deb;
mod definition;
mod error;
mod export;
mod fetch;
mod finish;
mod image;
mod import;
mod kernel;
mod manifest;
mod modules;
mod oci;
mod publish;
mod root;
mod share;
mod tree;
mod unpack;
mod verify;

pub use cache::{InUse, Listed};
pub use error::ApplianceError;
pub use manifest::{Manifest, ManifestFile, ManifestPackage};

use crate::apt;
use crate::dirs::Dirs;
use crate::event::Events;
use crate::vm::Hypervisor;
use manifest::file;
use publish::Purpose;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which appliance is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--appliance`: the folder of an appliance, or an archive of one, which is imported into the cache. Without it the
    /// one of the cache is taken, or built.
    pub appliance: Option<PathBuf>,
    /// `--mirror`: the mirror to build it from. Without it, [`apt::mirror`] finds one.
    pub mirror: Option<String>,
}

/// Room in bytes that building one takes in the cache: its packages, their unpacked files, its layers and the VM that
/// finishes it; measured and rounded up.
pub const ROOM: u64 = 3 << 29;

/// An appliance whose files are those of its manifest. It is not removed from the cache while there is a handle.
#[derive(Debug, Clone)]
pub struct Appliance {
    dir: PathBuf,
    manifest: Manifest,
    in_use: Arc<InUse>,
}

impl Appliance {
    /// The appliance that is wanted; built, when it is not in the cache, with a VM of `hypervisor` at the end.
    ///
    /// # Errors
    /// When it cannot be used, fetched or built.
    pub async fn ensure(
        dirs: &Dirs,
        hypervisor: &Hypervisor,
        request: &Request,
        events: &Events,
    ) -> Result<Self, ApplianceError> {
        if let Some(given) = &request.appliance {
            return if given.is_dir() {
                Self::open(given, dirs).await
            } else {
                Self::brought(dirs, given, events).await
            };
        }
        let named = apt::named_mirror(request.mirror.as_deref()).map_err(ApplianceError::Fetch)?;
        if let Some(found) = Self::cached(dirs, named.as_deref(), events).await {
            return Ok(found);
        }
        let _lock = cache::lock(dirs, events).await?;
        // Whoever held the lock before may have built it.
        if let Some(found) = Self::cached(dirs, named.as_deref(), &Events::none()).await {
            return Ok(found);
        }
        Self::build(dirs, hypervisor, named.as_deref(), events).await
    }

    /// The appliance that [`Appliance::ensure`] would take, without building one or unpacking an archive.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub async fn present(dirs: &Dirs, request: &Request) -> Result<Option<Self>, ApplianceError> {
        if let Some(given) = &request.appliance {
            if given.is_dir() {
                return Self::open(given, dirs).await.map(Some);
            }
            import::expect_archive(given)?;
            return Ok(Self::announced(dirs, given).await);
        }
        let named = apt::named_mirror(request.mirror.as_deref()).map_err(ApplianceError::Fetch)?;
        let folder = cache::indexed(dirs, named.as_deref()).map(|digest| cache::folder(dirs, &digest));
        match folder.filter(|folder| folder.exists()) {
            Some(folder) => Self::open(&folder, dirs).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether [`Appliance::ensure`] need not build one, as far as can be told without reading it.
    ///
    /// # Errors
    /// When the mirror of the request is none.
    pub fn is_there(dirs: &Dirs, request: &Request) -> Result<bool, ApplianceError> {
        if request.appliance.is_some() {
            return Ok(true);
        }
        let named = apt::named_mirror(request.mirror.as_deref()).map_err(ApplianceError::Fetch)?;
        let folder = cache::indexed(dirs, named.as_deref()).map(|digest| cache::folder(dirs, &digest));
        Ok(folder.is_some_and(|folder| folder.exists()))
    }

    /// The appliance of the cache, if it is there and whole.
    async fn cached(dirs: &Dirs, named: Option<&str>, events: &Events) -> Option<Self> {
        let digest = cache::indexed(dirs, named)?;
        match Self::open(&cache::folder(dirs, &digest), dirs).await {
            Ok(found) => Some(found),
            Err(error @ ApplianceError::Damaged { .. }) => {
                events.warn(format!("{error}; it is built anew"));
                None
            }
            // Removed, or of another format.
            Err(error) => {
                events.detail(error.to_string());
                None
            }
        }
    }

    /// Build with the lock held.
    async fn build(
        dirs: &Dirs,
        hypervisor: &Hypervisor,
        named: Option<&str>,
        events: &Events,
    ) -> Result<Self, ApplianceError> {
        let mirror = apt::mirror(named, dirs).await.map_err(ApplianceError::Fetch)?;
        let digest = build::build(dirs, hypervisor, &mirror, events).await?;
        cache::enter(dirs, named, &digest)?;
        Self::open(&cache::folder(dirs, &digest), dirs).await
    }

    /// The appliance of an archive, from the cache, where it is brought if need be. Other builds do not use it for that.
    async fn brought(dirs: &Dirs, archive: &Path, events: &Events) -> Result<Self, ApplianceError> {
        if let Some(found) = Self::announced(dirs, archive).await {
            return Ok(found);
        }
        let _lock = cache::lock(dirs, events).await?;
        // Another process may have brought it meanwhile.
        if let Some(found) = Self::announced(dirs, archive).await {
            return Ok(found);
        }
        Self::bring(dirs, archive, Purpose::OneBuild, events).await
    }

    /// The appliance that the archive says it holds, if the cache has it.
    async fn announced(dirs: &Dirs, archive: &Path) -> Option<Self> {
        let digest = import::announced(archive)?;
        Self::open(&cache::folder(dirs, &digest), dirs).await.ok()
    }

    /// Bring the appliance of an archive into the cache, with the lock held.
    async fn bring(dirs: &Dirs, archive: &Path, purpose: Purpose, events: &Events) -> Result<Self, ApplianceError> {
        import::expect_archive(archive)?;
        let digest = publish::import(dirs, archive, purpose, events).await?;
        Self::open(&cache::folder(dirs, &digest), dirs).await
    }

    /// Open the appliance in `folder` and compare its files with its manifest.
    ///
    /// # Errors
    /// When it is none, is one for another version of this program, or is damaged.
    pub async fn open(folder: &Path, dirs: &Dirs) -> Result<Self, ApplianceError> {
        let (dir, dirs) = (folder.to_owned(), dirs.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let in_use = Arc::new(InUse::mark(&dir)?);
            let manifest = Manifest::read(&dir)?;
            verify::check(&dir, &manifest, &dirs)?;
            Ok(Self { dir, manifest, in_use })
        });
        opened.await.map_err(ApplianceError::Task)?
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made from.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A handle that keeps it in the cache, for those who go on with its paths only.
    pub fn in_use(&self) -> Arc<InUse> {
        Arc::clone(&self.in_use)
    }

    /// Its digest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// `uname -r` of its kernel.
    pub fn kernel_release(&self) -> &str {
        &self.manifest.kernel_release
    }

    /// The uncompressed kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(file::KERNEL)
    }

    /// The first part of the initramfs: the modules and their order.
    pub fn modules_cpio(&self) -> PathBuf {
        self.dir.join(file::MODULES)
    }

    /// The layers of the root file system, lowest first.
    pub fn root_layers(&self) -> Vec<PathBuf> {
        file::ROOT.iter().map(|name| self.dir.join(name)).collect()
    }

    /// UEFI firmware.
    pub fn firmware_code(&self) -> PathBuf {
        self.dir.join(file::FIRMWARE_CODE)
    }

    /// Template of its variables.
    pub fn firmware_vars(&self) -> PathBuf {
        self.dir.join(file::FIRMWARE_VARIABLES)
    }
}

/// Options of `particle-vm appliance build`.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The mirror to build it from.
    pub mirror: Option<String>,
    /// Build it even if the cache has one: takes what the mirror has now.
    pub force: bool,
}

/// Build the appliance, or look whether it is there.
///
/// # Errors
/// When it cannot be fetched or built.
pub async fn build(
    dirs: &Dirs,
    hypervisor: &Hypervisor,
    options: &BuildOptions,
    events: &Events,
) -> Result<Appliance, ApplianceError> {
    if !options.force {
        let request = Request { appliance: None, mirror: options.mirror.clone() };
        return Appliance::ensure(dirs, hypervisor, &request, events).await;
    }
    let named = apt::named_mirror(options.mirror.as_deref()).map_err(ApplianceError::Fetch)?;
    let _lock = cache::lock(dirs, events).await?;
    Appliance::build(dirs, hypervisor, named.as_deref(), events).await
}

/// The appliances in the cache, by digest.
///
/// # Errors
/// When the cache cannot be read.
pub fn list(dirs: &Dirs) -> Result<Vec<Listed>, ApplianceError> {
    cache::list(dirs)
}

/// Remove the appliance whose digest begins with `digest`. Gives its whole digest.
///
/// # Errors
/// When there is no such appliance, or more than one, or it cannot be removed.
pub async fn remove(dirs: &Dirs, digest: &str, events: &Events) -> Result<String, ApplianceError> {
    let _lock = cache::lock(dirs, events).await?;
    let digest = cache::find(dirs, digest)?;
    cache::remove(dirs, &digest)?;
    Ok(digest)
}

/// Write the appliance whose digest begins with `digest`, or the one that builds use now, into the archive `output`
/// (an OCI image layout that holds one artifact). Gives the size and the SHA-256 of the archive.
///
/// # Errors
/// When there is no such appliance, it is damaged, or the archive cannot be written.
pub async fn export(
    dirs: &Dirs,
    digest: Option<&str>,
    output: &Path,
    events: &Events,
) -> Result<ManifestFile, ApplianceError> {
    let digest = match digest {
        Some(digest) => cache::find(dirs, digest)?,
        None => cache::indexed(dirs, None).ok_or(ApplianceError::NoneYet)?,
    };
    let appliance = Appliance::open(&cache::folder(dirs, &digest), dirs).await?;
    let (output, events) = (output.to_owned(), events.clone());
    background::run(move |given_up| export::write(&appliance, &output, given_up, &events)).await
}

/// Bring the appliance in `archive` into the cache. When it is of the definition of this program, builds use it from now
/// on. Of two that have the same digest the one that is there stays, if it is sound and was not brought for one build
/// only: what such an archive says of itself may be wrong.
///
/// # Errors
/// When the archive holds no appliance that this program can use, or was altered, or the cache cannot be written.
pub async fn import(dirs: &Dirs, archive: &Path, events: &Events) -> Result<Appliance, ApplianceError> {
    let _lock = cache::lock(dirs, events).await?;
    let found = match Appliance::announced(dirs, archive).await {
        Some(found) if cache::is_entered(dirs, found.digest()) => found,
        _ => Appliance::bring(dirs, archive, Purpose::AllBuilds, events).await?,
    };
    if found.manifest.definition == definition::digest() {
        cache::enter(dirs, None, found.digest())?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
