//! What every verb that starts a VM needs: the cache, QEMU, the appliance.

use std::path::PathBuf;

/// Where the appliance and the packages come from, when the command line says so.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// URL of a Debian mirror.
    pub mirror: Option<String>,
    /// Folder or archive of an appliance.
    pub appliance: Option<PathBuf>,
}

/// Processors of this machine that this process may use.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}
