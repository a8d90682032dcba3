//! Extended attributes, xattr(7), of what a path names itself, links included.

use nix::errno::Errno;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest value, and longest list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 << 10;

/// All of a file's that can be read; `path` may be one that leads through an open descriptor.
///
/// # Errors
/// When the file system fails.
pub fn list(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut names = vec![0u8; MAX];
    // SAFETY: the buffer has the length that is told, and the path ends in a zero.
    let length = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(Errno::result(length)?.unsigned_abs());
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok((name.to_vec(), value(&path, &CString::new(name)?)?))).collect()
}

fn value(path: &CString, name: &CString) -> io::Result<Vec<u8>> {
    let mut value = vec![0u8; MAX];
    // SAFETY: the buffer has the length that is told, and both names end in a zero.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(Errno::result(length)?.unsigned_abs());
    Ok(value)
}

/// Set one.
///
/// # Errors
/// When the file system cannot have it.
pub fn set(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: the value has the length that is told, and both names end in a zero.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
