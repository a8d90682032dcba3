//! Containers as one file.

use super::layer::Source;
use super::tree::listing;
use super::work::Watch;
use super::{Contents, image};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// How much is written at a time.
const BUFFER: usize = 1 << 20;

/// Where the layer lies in a `docker-archive` until its digest is known, which is its name: as long as that.
const UNNAMED: [u8; 64] = [b'0'; 64];

/// `manifest.json` of a `docker-archive`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage<'a> {
    config: String,
    repo_tags: [&'a str; 1],
    layers: [String; 1],
}

/// Write an OCI layout as a tar archive.
pub(super) fn pack(layout: &Path, target: &Path, date: u64, watch: &Watch) -> io::Result<()> {
    let mut builder = Builder::new(BufWriter::with_capacity(BUFFER, File::create_new(target)?));
    let mut folders = BTreeSet::new();
    for file in listing(layout)? {
        for folder in ancestors(&file) {
            if folders.insert(folder.clone()) {
                append(&mut builder, &folder, EntryType::Directory, 0, date, io::empty())?;
            }
        }
        let content = File::open(layout.join(&file))?;
        let length = content.metadata()?.len();
        append(&mut builder, &file, EntryType::Regular, length, date, watch.over(content))?;
    }
    finish(builder)?;
    Ok(())
}

/// Write a container as `docker save` does. Returns the digest of its configuration, which is Docker's image id.
pub(super) fn docker(mut source: Source, contents: &Contents, target: &Path) -> io::Result<String> {
    let date = contents.source_date;
    let mut file = File::options().read(true).write(true).create_new(true).open(target)?;
    // The layer goes first: its digest is known when it has been read, and its name is written over then.
    let length = source.length();
    let mut header = header(&docker_layer(&UNNAMED), EntryType::Regular, length, date)?;
    file.write_all(header.as_bytes())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            read => file.write_all(&buffer[..read])?,
        }
    }
    file.write_all(&vec![0; (length.next_multiple_of(512) - length) as usize])?;
    let diff_id = source.digest();
    header.set_path(docker_layer(diff_id.as_bytes()))?;
    header.set_cksum();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header.as_bytes())?;
    file.seek(SeekFrom::End(0))?;
    let configuration = image::configuration(contents, &diff_id)?;
    let id = hex::encode(Sha256::digest(&configuration));
    let config = format!("{id}.json");
    let manifest = serde_json::to_vec(&[DockerImage {
        config: config.clone(),
        repo_tags: [&contents.reference],
        layers: [docker_layer(diff_id.as_bytes()).display().to_string()],
    }])?;
    let mut builder = Builder::new(BufWriter::new(file));
    for (name, content) in [(config.as_str(), &configuration), ("manifest.json", &manifest)] {
        append(&mut builder, Path::new(name), EntryType::Regular, content.len() as u64, date, content.as_slice())?;
    }
    finish(builder)?;
    Ok(format!("sha256:{id}"))
}

fn docker_layer(digest: &[u8]) -> PathBuf {
    PathBuf::from(format!("{}.tar", String::from_utf8_lossy(digest)))
}

fn finish(builder: Builder<BufWriter<File>>) -> io::Result<File> {
    builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)
}

/// The folders above a path, the outermost first.
fn ancestors(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> = path
        .ancestors()
        .skip(1)
        .filter(|above| above.components().any(|part| matches!(part, Component::Normal(_))))
        .map(Path::to_owned)
        .collect();
    folders.reverse();
    folders
}

/// An entry that says nothing of this machine.
fn header(path: &Path, kind: EntryType, length: u64, date: u64) -> io::Result<Header> {
    // GNU's form has room for layers of any size.
    let mut header = Header::new_gnu();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(date);
    header.set_size(length);
    header.set_cksum();
    Ok(header)
}

fn append(
    builder: &mut Builder<impl Write>,
    path: &Path,
    kind: EntryType,
    length: u64,
    date: u64,
    content: impl Read,
) -> io::Result<()> {
    builder.append(&header(path, kind, length, date)?, content)
}
