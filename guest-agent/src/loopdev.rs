//! Loop devices: a file or a disk as another disk, with a sector size of its own.

use crate::report;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The device that hands out the others, and its numbers.
const CONTROL: &str = "/dev/loop-control";
const CONTROL_NUMBERS: (u64, u64) = (10, 237);

/// How often a free device is asked for. Between asking for one and taking it, it may be taken; nothing else here takes
/// any, so that once would do.
const ATTEMPTS: usize = 16;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `LO_FLAGS_PARTSCAN`: the partitions become devices at once.
const PARTSCAN: u32 = 8;

/// `LO_FLAGS_DIRECT_IO`: past the page cache of the file below, so that nothing is cached twice.
const DIRECT_IO: u32 = 16;

/// The requests of `linux/loop.h`.
mod ioctl {
    // LOOP_CTL_GET_FREE
    nix::ioctl_none_bad!(get_free, 0x4C82);
    // LOOP_CONFIGURE
    nix::ioctl_write_ptr_bad!(configure, 0x4C0A, super::LoopConfig);
    // LOOP_CLR_FD
    nix::ioctl_none_bad!(clear, 0x4C01);
}

/// Why there is no loop device.
#[derive(Debug, Error)]
#[error("cannot {what}")]
pub struct LoopError {
    /// What was tried.
    pub what: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

fn cannot<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> LoopError {
    |error| LoopError { what: what.into(), source: error.into() }
}

/// A loop device; detached when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    device: File,
    attached: bool,
}

impl LoopDevice {
    /// Attach `backing`, a file or a disk, for reading and writing, with logical sectors of `sector_size` bytes (512 or
    /// 4096). Its partitions appear as `loopNp1` and so on.
    ///
    /// # Errors
    /// When the kernel has no loop devices, or refuses the file or the sector size.
    pub fn attach(backing: &Path, sector_size: u32) -> Result<Self, LoopError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(backing)
            .map_err(cannot(format!("open {}", backing.display())))?;
        for _ in 1..ATTEMPTS {
            match Self::take_free(&file, sector_size) {
                Err(error) if error.source.raw_os_error() == Some(libc::EBUSY) => {}
                result => return result,
            }
        }
        Self::take_free(&file, sector_size)
    }

    fn take_free(file: &File, sector_size: u32) -> Result<Self, LoopError> {
        let control = open_control().map_err(cannot(format!("open {CONTROL}")))?;
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { ioctl::get_free(control.as_raw_fd()) }.map_err(cannot("get a free loop device"))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(cannot(format!("open {}", path.display())))?;
        let mut config = config(file.as_raw_fd(), sector_size, PARTSCAN | DIRECT_IO);
        // SAFETY: `config` has the layout of struct loop_config and outlives the call.
        let mut done = unsafe { ioctl::configure(device.as_raw_fd(), &raw const config) };
        if done == Err(nix::Error::EINVAL) {
            // Direct I/O needs a file system below that can do it with this sector size.
            config.info.flags = PARTSCAN;
            // SAFETY: as above.
            done = unsafe { ioctl::configure(device.as_raw_fd(), &raw const config) };
        }
        done.map_err(cannot(format!("configure {} with sectors of {sector_size} bytes", path.display())))?;
        Ok(Self { path, device, attached: true })
    }

    /// The device, for instance `/dev/loop0`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Write everything to the file below and detach it.
    ///
    /// # Errors
    /// When writing fails or the device is in use.
    pub fn detach(mut self) -> Result<(), LoopError> {
        self.attached = false;
        self.device.sync_all().map_err(cannot(format!("write {}", self.path.display())))?;
        self.clear()
    }

    fn clear(&self) -> Result<(), LoopError> {
        // SAFETY: LOOP_CLR_FD takes no argument.
        unsafe { ioctl::clear(self.device.as_raw_fd()) }
            .map(drop)
            .map_err(cannot(format!("detach {}", self.path.display())))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if !self.attached {
            return;
        }
        if let Err(error) = self.clear() {
            report::complain(&error);
        }
    }
}

/// Open the control device. Without a udev nobody has made it while the module is not loaded; opening it has the kernel
/// load the module.
fn open_control() -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(CONTROL);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (major, minor) = CONTROL_NUMBERS;
            mknod(CONTROL, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor))?;
            open()
        }
        result => result,
    }
}

fn config(fd: RawFd, block_size: u32, flags: u32) -> LoopConfig {
    // SAFETY: both structures consist of integers, for which zero is a valid value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    // A descriptor that is open is not negative.
    config.fd = fd.unsigned_abs();
    config.block_size = block_size;
    config.info.flags = flags;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn a_device_has_the_sector_size_and_the_content_of_its_file() {
        if OpenOptions::new().read(true).write(true).open(CONTROL).is_err() {
            eprintln!("not tested: no access to {CONTROL}");
            return;
        }
        let backing = std::env::temp_dir().join(format!("particle-vm-loop-{}", std::process::id()));
        let file = File::create(&backing).unwrap();
        file.set_len(1 << 20).unwrap();
        let device = LoopDevice::attach(&backing, 4096).unwrap();
        let queue = Path::new("/sys/block").join(device.path().file_name().unwrap()).join("queue/logical_block_size");
        assert_eq!(std::fs::read_to_string(queue).unwrap().trim_end(), "4096");
        OpenOptions::new().write(true).open(device.path()).unwrap().write_all(b"content").unwrap();
        device.detach().unwrap();
        assert!(std::fs::read(&backing).unwrap().starts_with(b"content"));
        std::fs::remove_file(&backing).unwrap();
    }
}
