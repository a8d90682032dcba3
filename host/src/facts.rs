//! What was found out about this machine and is kept for the next time ([`crate::dirs::Dirs::facts`]). Each fact can be
//! found out anew: one that cannot be read counts as none.

use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Keep `fact` in the file `path`. The file is written under another name, always the same one, so that a process that is
/// killed leaves no more than one behind. Two that write at once may spoil each other's fact, and nothing else.
///
/// # Errors
/// When the folder cannot be written to.
pub fn keep(path: &Path, fact: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    // Nobody else's business.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(fact)?)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_with_the_next_fact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts/kvm.json");
        keep(&path, &1).unwrap();
        fs::write(dir.path().join("facts/kvm.new"), "half a fa").unwrap();
        keep(&path, &2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(fs::read_dir(dir.path().join("facts")).unwrap().count(), 1);
    }
}
