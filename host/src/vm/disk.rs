//! Disk files: sparse, and nobody else's.

use super::config::Disk;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Create the file of `disk`, or empty the one that is there, and give it its size without occupying space.
///
/// # Errors
/// When it cannot be created, or the file system holds no file of that size.
pub fn create(disk: &Disk) -> io::Result<()> {
    // The content is replaced by the second length, not by `truncate`: a symbolic link is refused before.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&disk.path)?;
    file.set_len(0)?;
    file.set_len(disk.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_disk_is_sparse_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk { path: dir.path().join("scratch.img"), bytes: 1 << 30 };
        std::fs::write(&disk.path, "left over").unwrap();
        create(&disk).unwrap();
        let data = std::fs::metadata(&disk.path).unwrap();
        assert_eq!((data.len(), data.blocks()), (1 << 30, 0));
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk { path: dir.path().join("scratch.img"), bytes: 1 << 20 };
        std::os::unix::fs::symlink(dir.path().join("other"), &disk.path).unwrap();
        assert!(create(&disk).is_err());
        assert!(!dir.path().join("other").exists());
    }
}
