//! The kernel modules of the initramfs.

use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use thiserror::Error;

/// Where they are, decompressed, with the order to load them in.
const FOLDER: &str = "/modules";

/// Why a module is not there.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// The list cannot be read.
    #[error("cannot read {FOLDER}/order")]
    Order(#[source] io::Error),
    /// A module cannot be loaded.
    #[error("cannot load the kernel module {name}")]
    Load {
        /// Its file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Load them all.
pub(super) fn load() -> Result<(), ModuleError> {
    let folder = Path::new(FOLDER);
    let order = fs::read_to_string(folder.join("order")).map_err(ModuleError::Order)?;
    for name in order.lines().filter(|line| !line.is_empty()) {
        let loaded =
            File::open(folder.join(name)).and_then(|file| Ok(finit_module(file, c"", ModuleInitFlags::empty())?));
        match loaded {
            // Built into this kernel, or loaded already.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(ModuleError::Load { name: name.into(), source }),
            Ok(()) => {}
        }
    }
    Ok(())
}
