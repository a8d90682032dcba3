//! What a VM is made of.

use super::hypervisor::Hypervisor;
use super::proxy::Proxy;
use super::scratch::Layers;
use crate::error::{Class, Classify};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Memory in MiB: below it the kernel and the agent have no room for a job, and more is a slip of the finger.
pub const MEMORY_MIB: RangeInclusive<u64> = 256..=1 << 20;

/// Number of processors; more would only wait for each other.
pub const CPUS: RangeInclusive<u32> = 1..=64;

/// Most root layers, so that all disks get a slot on the PCI bus.
const MAX_LAYERS: usize = 8;

/// A VM.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// What runs it.
    pub hypervisor: Hypervisor,
    /// The kernel, an uncompressed ELF image with the PVH entry.
    pub kernel: PathBuf,
    /// Archive (newc) of the modules that the kernel needs before it has a root file system.
    pub modules_cpio: PathBuf,
    /// Read-only layers of the root file system, lowest first. Any number of VMs may use them at a time.
    pub root_layers: Vec<PathBuf>,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u32,
    /// The disk that the agent works on, empty; it is created, and may be removed after the end.
    pub scratch: Option<Disk>,
    /// The same in layers, instead of that.
    pub layers: Option<Layers>,
    /// The disk image that is being made; it is created.
    pub target: Option<Disk>,
    /// The disk that takes archives, without a file system; it is created.
    pub archive: Option<Disk>,
    /// Folder that the guest may read.
    pub work_share: Option<PathBuf>,
    /// Folder with the layers of a container image, which the guest may read.
    pub base_share: Option<PathBuf>,
    /// Folder that the guest may write to.
    pub staging_share: Option<PathBuf>,
    /// The way out; without it the guest has no network at all.
    pub network: Option<Proxy>,
    /// Folder for the VM's own files; it must belong to nobody else and be removed after the end.
    pub workspace: PathBuf,
}

/// A disk image without content.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file; what it holds is lost.
    pub path: PathBuf,
    /// Its size in bytes, a multiple of 4096.
    pub bytes: u64,
}

/// Why there can be no such VM.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Too little memory.
    #[error("{0} MiB of memory are too little for a VM")]
    Memory(u64),
    /// No processor, or too many.
    #[error("a VM cannot have {0} processors")]
    Cpus(u32),
    /// More layers than disks fit in.
    #[error("an appliance of {0} layers has too many")]
    Layers(usize),
    /// QEMU's options are text.
    #[error("the path {} is not valid UTF-8, which QEMU cannot take", .0.display())]
    Path(PathBuf),
    /// A disk of no size, or of a part of a block.
    #[error("the disk {} cannot be {bytes} bytes long", .path.display())]
    DiskSize {
        /// The file.
        path: PathBuf,
        /// The size.
        bytes: u64,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        match self {
            Self::Memory(_) | Self::Cpus(_) => Class::Usage,
            Self::Path(_) => Class::Host,
            Self::Layers(_) | Self::DiskSize { .. } => Class::Internal,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Memory(_) => Some(format!("give at least --memory {}MiB", MEMORY_MIB.start())),
            Self::Cpus(_) => Some(format!("give --cpus a number from 1 to {}", CPUS.end())),
            Self::Path(_) => Some("use a folder with another name (XDG_CACHE_HOME, --work-dir, --output)".into()),
            Self::Layers(_) | Self::DiskSize { .. } => None,
        }
    }
}

impl VmConfig {
    /// Find out whether this can be a VM, without looking at the machine.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !MEMORY_MIB.contains(&self.memory_mib) {
            return Err(ConfigError::Memory(self.memory_mib));
        }
        if !CPUS.contains(&self.cpus) {
            return Err(ConfigError::Cpus(self.cpus));
        }
        if self.root_layers.len() > MAX_LAYERS {
            return Err(ConfigError::Layers(self.root_layers.len()));
        }
        for disk in self.disks() {
            if disk.bytes == 0 || !disk.bytes.is_multiple_of(4096) {
                return Err(ConfigError::DiskSize { path: disk.path.clone(), bytes: disk.bytes });
            }
        }
        let files = self.root_layers.iter().map(PathBuf::as_path).chain(self.disks().map(|disk| disk.path.as_path()));
        let files = files.chain(
            self.layers.iter().flat_map(|layers| layers.kept.iter().chain(&layers.written)).map(PathBuf::as_path),
        );
        match files.chain([self.kernel.as_path(), self.workspace.as_path()]).find(|path| path.to_str().is_none()) {
            Some(path) => Err(ConfigError::Path(path.to_owned())),
            None => Ok(()),
        }
    }

    /// The disks that are written to, beside the layers.
    pub(super) fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.scratch.iter().chain(&self.target).chain(&self.archive)
    }

    /// The initramfs, made when the VM is started.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.workspace.join("initramfs")
    }

    /// The shares: mount tag, folder, and whether it is read-only.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&'static str, &Path, bool)> {
        use particle_vm_protocol::share::{BASE, STAGING, WORK};
        let base = self.base_share.as_deref().map(|path| (BASE, path, true));
        let work = self.work_share.as_deref().map(|path| (WORK, path, true));
        let staging = self.staging_share.as_deref().map(|path| (STAGING, path, false));
        work.into_iter().chain(base).chain(staging)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn config() -> VmConfig {
        VmConfig {
            hypervisor: Hypervisor::imagined(),
            kernel: "/cache/vmlinux".into(),
            modules_cpio: "/cache/modules.cpio".into(),
            root_layers: vec!["/cache/root0.squashfs".into(), "/cache/root1.squashfs".into()],
            memory_mib: 1024,
            cpus: 2,
            scratch: Some(Disk { path: "/work/a,b/scratch.img".into(), bytes: 1 << 30 }),
            layers: None,
            target: None,
            archive: None,
            work_share: None,
            base_share: None,
            staging_share: None,
            network: None,
            workspace: "/work".into(),
        }
    }

    #[test]
    fn what_can_be_a_vm_is_valid() {
        assert_eq!(config().validate(), Ok(()));
    }

    #[test]
    fn what_cannot_be_a_vm_is_refused() {
        let refused = |change: fn(&mut VmConfig)| {
            let mut config = config();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(refused(|config| config.memory_mib = 64), ConfigError::Memory(64));
        assert_eq!(refused(|config| config.cpus = 0), ConfigError::Cpus(0));
        assert_eq!(refused(|config| config.cpus = 65), ConfigError::Cpus(65));
        assert_eq!(refused(|config| config.root_layers = vec!["/x".into(); 9]), ConfigError::Layers(9));
        for bytes in [0, 4095] {
            let path = PathBuf::from("/work/target.img");
            let mut config = config();
            config.target = Some(Disk { path: path.clone(), bytes });
            assert_eq!(config.validate(), Err(ConfigError::DiskSize { path, bytes }));
        }
        use std::os::unix::ffi::OsStrExt;
        let error = refused(|config| config.kernel = std::ffi::OsStr::from_bytes(b"/\xff").into());
        assert!(matches!(error, ConfigError::Path(_)), "{error}");
    }
}
