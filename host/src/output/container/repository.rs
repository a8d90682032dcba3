//! The OSTree repository, from the guest's archive to a folder.
//!
//! The guest is not trusted with a path. What comes out of the archive are regular files whose names follow the layout
//! of a repository in the archive mode (ostree, "The archive repository format"); each is made anew, in folders that are
//! made here. Whoever pulls from it checks the objects against their names.

use super::layer::Source;
use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use tar::{Archive, EntryType};

/// Most files: a system has a hundred thousand.
const MOST_FILES: usize = 4_000_000;

/// Longest configuration or summary, in bytes.
const MOST_TEXT: u64 = 64 << 20;

/// Endings of the names of objects.
const OBJECTS: [&str; 6] = ["filez", "dirtree", "dirmeta", "commit", "commitmeta", "tombstone-commit"];

/// Folders that a repository has, also when they are empty.
const FOLDERS: [&str; 6] = ["extensions", "objects", "refs/heads", "refs/mirrors", "refs/remotes", "state"];

/// Unpack the archive to `folder`, which must not be there.
pub(super) fn unpack(source: Source, folder: &Path) -> io::Result<()> {
    DirBuilder::new().create(folder)?;
    for name in FOLDERS.into_iter().chain(["tmp/cache"]) {
        DirBuilder::new().recursive(true).create(folder.join(name))?;
    }
    let mut made = HashSet::new();
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, source));
    // Raw, so that no header makes the reader take much into memory: all names of a repository are short.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if matches!(name.as_str(), ".lock" | "state/.lock") || name.starts_with("tmp/") {
            continue;
        }
        let Some(path) = place(&name) else { return Err(refused(&name, "it does not belong into a repository")) };
        if kind != EntryType::Regular {
            return Err(refused(&name, "it is not a file"));
        }
        if !name.starts_with("objects/") && entry.size() > MOST_TEXT {
            return Err(refused(&name, "it is too long"));
        }
        if made.len() >= MOST_FILES {
            return Err(refused(&name, "there are too many files"));
        }
        let path = folder.join(path);
        if let Some(above) = path.parent().filter(|above| made.insert(above.to_path_buf())) {
            DirBuilder::new().recursive(true).create(above)?;
        }
        let mut file = File::create_new(&path)?;
        io::copy(&mut entry, &mut file)?;
        made.insert(path);
    }
    Ok(())
}

/// Where a file of this name belongs; none when it is no file of a repository.
fn place(name: &str) -> Option<PathBuf> {
    let hexadecimal = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let word = |text: &str| {
        let start = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        start && text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let good = match name.split_once('/') {
        None => matches!(name, "config" | "summary" | "summary.sig"),
        Some(("objects", object)) => object.split_once('/').is_some_and(|(first, rest)| {
            rest.split_once('.')
                .is_some_and(|(rest, kind)| hexadecimal(first, 2) && hexadecimal(rest, 62) && OBJECTS.contains(&kind))
        }),
        Some(("refs", reference)) => {
            let mut parts = reference.split('/');
            matches!(parts.next(), Some("heads" | "remotes" | "mirrors")) && reference.contains('/') && parts.all(word)
        }
        Some(_) => false,
    };
    good.then(|| PathBuf::from(name))
}

fn refused(name: &str, why: &str) -> io::Error {
    io::Error::other(format!("the VM has put `{}` into the repository: {why}", crate::clean::line(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_repository_have_a_place() {
        let object = format!("objects/ab/{}", "0".repeat(62));
        for name in
            ["config", "summary", "refs/heads/particle/13", &format!("{object}.filez"), &format!("{object}.commit")]
        {
            assert_eq!(place(name), Some(PathBuf::from(name)));
        }
        for name in [
            "",
            "/config",
            "../config",
            "refs/heads/../../x",
            "refs/heads/",
            "refs/heads",
            "refs/x/y",
            "refs/heads/.x",
            "refs/heads//x",
            "hooks/x",
            &object,
            &format!("{object}.sh"),
            &format!("{object}.filez/x"),
            "objects/ab/short.filez",
            "objects/../ab.filez",
            "refs/heads/a b",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
