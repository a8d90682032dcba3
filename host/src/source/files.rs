//! Files beneath a folder, or in a tar archive, that somebody else has made. They are opened by names relative to it,
//! and no name leads out.

use super::archive::Members;
use super::document::shown;
use super::error::Problem;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// The files.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    kind: &'static str,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(File),
    Archive { file: Arc<File>, members: Members },
}

impl Files {
    /// Those beneath the folder `path`, which should be a `kind`. Blocking.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn folder(path: &Path, kind: &'static str) -> Result<Self, Problem> {
        let flags = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits();
        let folder = File::options().read(true).custom_flags(flags).open(path);
        let folder = folder.map_err(|error| unusable(path, kind, &error))?;
        Ok(Self { path: path.to_owned(), kind, place: Place::Folder(folder) })
    }

    /// Those in the tar archive `path`, which should be a `kind`. Blocking.
    ///
    /// # Errors
    /// When it cannot be opened, or is no tar archive.
    pub fn archive(path: &Path, kind: &'static str) -> Result<Self, Problem> {
        // Not waiting for the other end of a pipe.
        let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
        let file = file.and_then(regular).map_err(|error| unusable(path, kind, &error))?;
        let wrong = |reason| Problem::Archive { path: path.to_owned(), kind, reason };
        let members = Members::of(&file).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), kind, place: Place::Archive { file: Arc::new(file), members } })
    }

    /// Something is wrong with them.
    pub fn wrong(&self, reason: impl Into<String>) -> Problem {
        Problem::Archive { path: self.path.clone(), kind: self.kind, reason: reason.into() }
    }

    /// What they are called.
    pub fn name(&self) -> String {
        format!("the {} {}", self.kind, self.path.display())
    }

    /// The file `name`; none if it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<Section>, Problem> {
        match &self.place {
            Place::Archive { file, members } => Ok(members.find(name).map(|(offset, size)| Section {
                file: file.clone(),
                position: offset,
                end: offset + size,
            })),
            Place::Folder(folder) => {
                let how = OpenHow::new()
                    .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
                    .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
                let opened = openat2(folder, name, how).map_err(io::Error::from).and_then(|file| regular(file.into()));
                match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
                    Ok((end, file)) => Ok(Some(Section { file: Arc::new(file), position: 0, end })),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(self.wrong(format!("{} cannot be read ({error})", shown(name)))),
                }
            }
        }
    }

    /// The bytes of the document `name`.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or has more than `most` bytes.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, Problem> {
        let mut section = self.open(name)?.ok_or_else(|| self.wrong(format!("it has no {}", shown(name))))?;
        if section.size() > most {
            return Err(self.wrong(format!("its {} has {} bytes", shown(name), section.size())));
        }
        let mut text = Vec::new();
        let read = section.read_to_end(&mut text);
        read.map_err(|error| self.wrong(format!("{} cannot be read ({error})", shown(name))))?;
        Ok(text)
    }
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn unusable(path: &Path, kind: &'static str, error: &io::Error) -> Problem {
    Problem::Archive { path: path.to_owned(), kind, reason: error.to_string() }
}

/// A part of a file.
#[derive(Debug, Clone)]
pub struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// Bytes that are left.
    pub fn size(&self) -> u64 {
        self.end - self.position
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut section = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let count = section.read(&mut chunk)?;
            chunk.truncate(count);
            Ok::<_, io::Error>((section, chunk))
        });
        let (section, chunk) = read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        *self = section;
        Ok(chunk)
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("images");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("inside", folder.join("near")).unwrap();
        std::fs::write(folder.join("inside"), "inside").unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let files = Files::folder(&folder, "image layout").unwrap();
        assert_eq!(files.read("near", 100).unwrap(), b"inside");
        assert!(files.read("inside", 3).unwrap_err().to_string().contains("has 6 bytes"));
        assert!(files.read("nothing", 3).unwrap_err().to_string().contains("it has no nothing"));
        let long = format!("\x1b[2J{}", "a".repeat(100_000));
        let error = files.read(&long, 3).unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains('\x1b'), "{error}");
        for name in ["link", "../secret", "/etc/passwd", "pipe", "."] {
            assert!(files.read(name, 1 << 20).is_err(), "{name}");
        }
        assert!(Files::archive(&folder.join("pipe"), "archive").is_err());
        assert!(Files::archive(&folder, "archive").is_err());
    }
}
