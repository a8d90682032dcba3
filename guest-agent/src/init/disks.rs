//! The disks of the machine, told apart by their serial numbers.

use particle_vm_protocol::serial;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a disk may take to appear after its driver is loaded.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks. There is no udev to tell, and the wait is hardly ever needed.
const PAUSE: Duration = Duration::from_millis(2);

/// The virtio device id of a block device, as sysfs shows it (virtio 1.2, 5).
const BLOCK_DEVICE: &str = "0x0002";

/// The disks by their purpose, as paths below `/dev`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// The layers of the root file system, lowest first.
    pub root_layers: Vec<PathBuf>,
    /// The disk to work on.
    pub scratch: Option<PathBuf>,
    /// The disk that becomes the image.
    pub target: Option<PathBuf>,
    /// The disk that takes archives.
    pub archive: Option<PathBuf>,
}

/// Why the disks are not known.
#[derive(Debug, Error)]
pub enum DiskError {
    /// sysfs does not tell.
    #[error("cannot look for the disks")]
    Sysfs(#[source] io::Error),
    /// The kernel has not made disks of all virtio devices.
    #[error("only {found} of {expected} virtio disks have appeared")]
    Missing {
        /// Disks with a serial number.
        found: usize,
        /// virtio devices that are disks.
        expected: usize,
    },
    /// There is no root layer.
    #[error("the machine has no disk with the serial number `{}0`", serial::ROOT_PREFIX)]
    NoRoot,
}

/// Wait until each virtio disk has appeared, and sort them.
pub(super) fn find() -> Result<Disks, DiskError> {
    let deadline = Instant::now() + PATIENCE;
    let expected = count_devices().map_err(DiskError::Sysfs)?;
    loop {
        let found = by_serial().map_err(DiskError::Sysfs)?;
        if found.len() == expected {
            return sort(found);
        }
        if Instant::now() >= deadline {
            return Err(DiskError::Missing { found: found.len(), expected });
        }
        thread::sleep(PAUSE);
    }
}

fn count_devices() -> io::Result<usize> {
    let devices = fs::read_dir("/sys/bus/virtio/devices")?.flatten();
    let is_disk = |path: &Path| fs::read_to_string(path.join("device")).is_ok_and(|id| id.trim_end() == BLOCK_DEVICE);
    Ok(devices.filter(|device| is_disk(&device.path())).count())
}

fn by_serial() -> io::Result<BTreeMap<String, PathBuf>> {
    let disks = fs::read_dir("/sys/block")?.flatten();
    // Loop devices have no serial number.
    let named = disks.filter_map(|disk| {
        let serial = fs::read_to_string(disk.path().join("serial")).ok()?;
        Some((serial.trim_end().to_owned(), Path::new("/dev").join(disk.file_name())))
    });
    Ok(named.collect())
}

fn sort(mut found: BTreeMap<String, PathBuf>) -> Result<Disks, DiskError> {
    let layers =
        (0..).map_while(|number| found.remove(&format!("{}{number}", serial::ROOT_PREFIX))).collect::<Vec<_>>();
    if layers.is_empty() {
        return Err(DiskError::NoRoot);
    }
    Ok(Disks {
        root_layers: layers,
        scratch: found.remove(serial::SCRATCH),
        target: found.remove(serial::TARGET),
        archive: found.remove(serial::ARCHIVE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(serials: &[&str]) -> BTreeMap<String, PathBuf> {
        serials.iter().map(|serial| ((*serial).to_owned(), PathBuf::from(format!("/dev/{serial}")))).collect()
    }

    #[test]
    fn layers_are_in_the_order_of_their_numbers() {
        let disks = sort(found(&["target", "root10", "root1", "root0", "root2"])).unwrap();
        assert_eq!(disks.root_layers, ["/dev/root0", "/dev/root1", "/dev/root2"].map(PathBuf::from));
        assert_eq!(disks.target, Some("/dev/target".into()));
        assert_eq!(disks.scratch, None);
    }

    #[test]
    fn a_machine_without_a_root_layer_is_refused() {
        assert!(matches!(sort(found(&["root1", "scratch"])), Err(DiskError::NoRoot)));
    }
}
