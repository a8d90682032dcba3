//! What an image file is. It may come from anywhere, so nothing that it says about other files is followed.

use super::BootError;
use crate::child;
use crate::output::Format;
use crate::vm::confine::confine;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for `qemu-img` to look at an image.
const DEADLINE: Duration = Duration::from_secs(60);

/// An image that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    path: String,
    format: Format,
    /// Size of the disk in bytes.
    pub(super) virtual_size: u64,
    /// Bytes in a logical sector: 4096 where the partition table begins at byte 4096, else 512.
    pub(super) sector_size: u32,
}

/// What `qemu-img info --output=json` says, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    virtual_size: u64,
    #[serde(default)]
    encrypted: bool,
    backing_filename: Option<String>,
    #[serde(default)]
    children: Vec<Child>,
    format_specific: Option<FormatSpecific>,
}

/// A file that the image consists of. QEMU 8.1 and later tell.
#[derive(Deserialize)]
struct Child {
    name: String,
}

#[derive(Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: Value,
}

impl Image {
    /// The absolute path of the image, because QEMU takes what stands before a colon for the name of a protocol.
    ///
    /// # Errors
    /// When it is not there, not a regular file, or cannot be read.
    pub fn find(path: &Path) -> Result<PathBuf, BootError> {
        let failed = |source| BootError::Open { path: path.to_owned(), source };
        let absolute = std::fs::canonicalize(path).map_err(failed)?;
        if !absolute.is_file() {
            let reason = "it is not a regular file".into();
            return Err(BootError::Unsuitable { path: path.to_owned(), reason });
        }
        File::open(&absolute).map_err(failed)?;
        Ok(absolute)
    }

    /// Find out what `path` is. `dir` takes a small file; `qemu` is the program that will run the image.
    ///
    /// # Errors
    /// When it is no image that can be started: of another format, encrypted, or made of several files.
    pub async fn probe(path: &Path, dir: &Path, qemu: &Path) -> Result<Self, BootError> {
        let absolute = Self::find(path)?;
        let unsuitable = |reason: String| BootError::Unsuitable { path: path.to_owned(), reason };
        let Some(name) = absolute.to_str() else {
            return Err(unsuitable("QEMU takes only names in UTF-8".into()));
        };
        let failed = |source| BootError::Probe { path: path.to_owned(), source };
        let refused = |source| BootError::Confine { path: path.to_owned(), source };
        let mut command = child::command("qemu-img");
        command.args(["info", "--output=json", name]);
        // The image may name any file of this machine, and qemu-img would open it to tell about it.
        confine(&mut command, qemu, &[&absolute], &[]).map_err(refused)?;
        let info = child::run(command, DEADLINE).await.map_err(failed)?;
        let info: Info = serde_json::from_slice(&info)
            .map_err(|error| unsuitable(format!("what qemu-img says of it makes no sense: {error}")))?;
        let format = suitable(&info, name).map_err(unsuitable)?;

        let head = dir.join("head");
        let write = |source| BootError::Write { path: head.clone(), source };
        std::fs::write(&head, "").map_err(write)?;
        let mut command = child::command("qemu-img");
        command.args(["dd", "-f", format.driver(), "-O", "raw", "bs=4096", "count=2"]);
        command.arg(format!("if={name}")).arg(prefixed("of=", &head));
        confine(&mut command, qemu, &[&absolute], &[&head]).map_err(refused)?;
        child::run(command, DEADLINE).await.map_err(failed)?;
        let head = std::fs::read(&head).map_err(write)?;
        Ok(Self { path: name.into(), format, virtual_size: info.virtual_size, sector_size: sector_size(&head) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The block node `node` that reads the image and never writes to it, for `-blockdev`.
    pub(super) fn blockdev(&self, node: &str) -> Value {
        let mut blockdev = json!({
            "driver": self.format.driver(),
            "node-name": node,
            "read-only": true,
            "file": { "driver": "file", "filename": self.path, "read-only": true },
        });
        if matches!(self.format, Format::Qcow2 | Format::Vmdk) {
            blockdev["backing"] = Value::Null;
        }
        blockdev
    }
}

fn prefixed(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(prefix);
    text.push(path);
    text
}

/// The format, if this is one file in a format of ours.
fn suitable(info: &Info, name: &str) -> Result<Format, String> {
    let Some(format) = Format::from_driver(&info.format) else {
        return Err(format!("images of the format {} are not supported", info.format));
    };
    if info.encrypted {
        return Err("it is encrypted".into());
    }
    if let Some(other) = &info.backing_filename {
        return Err(format!("it holds only the differences to another image, {other}"));
    }
    let data = info.format_specific.as_ref().map(|specific| &specific.data);
    let data_file = data.and_then(|data| data["data-file"].as_str());
    let extents = data.and_then(|data| data["extents"].as_array()).into_iter().flatten();
    let mut others = extents.filter_map(|extent| extent["filename"].as_str()).filter(|file| *file != name);
    if let Some(other) = data_file.or_else(|| others.next()) {
        return Err(format!("its content is in another file, {other}"));
    }
    if info.children.iter().any(|child| child.name != "file") {
        return Err("its content is in several files".into());
    }
    Ok(format)
}

/// A GPT begins in the second sector.
fn sector_size(head: &[u8]) -> u32 {
    let gpt_at = |offset: usize| head.get(offset..offset + 8) == Some(b"EFI PART");
    if !gpt_at(512) && gpt_at(4096) { 4096 } else { 512 }
}

#[cfg(test)]
impl Image {
    /// An image that is not there, for tests of what is done with one.
    pub(super) fn imagined() -> Self {
        Self { path: "/images/x.raw".into(), format: Format::Raw, virtual_size: 1 << 30, sector_size: 512 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(info: Value) -> Result<Format, String> {
        suitable(&serde_json::from_value(info).unwrap(), "/images/a")
    }

    #[test]
    fn one_file_in_a_format_of_ours_is_suitable() {
        let info = json!({ "format": "vpc", "virtual-size": 1, "children": [{ "name": "file", "info": {} }] });
        assert_eq!(judge(info), Ok(Format::Vhd));
        let extents = json!({ "data": { "extents": [{ "filename": "/images/a" }] } });
        let info = json!({ "format": "vmdk", "virtual-size": 1, "format-specific": extents });
        assert_eq!(judge(info), Ok(Format::Vmdk));
    }

    #[test]
    fn an_image_that_names_another_file_is_refused() {
        let backing = json!({ "format": "qcow2", "virtual-size": 1, "backing-filename": "/etc/shadow" });
        let data = json!({ "data": { "data-file": "/etc/shadow" } });
        let data = json!({ "format": "qcow2", "virtual-size": 1, "format-specific": data });
        let extents = json!({ "data": { "extents": [{ "filename": "/etc/shadow" }] } });
        let extents = json!({ "format": "vmdk", "virtual-size": 1, "format-specific": extents });
        for info in [backing, data, extents] {
            assert!(judge(info).unwrap_err().contains("/etc/shadow"));
        }
        let children = json!([{ "name": "file" }, { "name": "extents.0" }]);
        assert!(judge(json!({ "format": "vmdk", "virtual-size": 1, "children": children })).is_err());
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        assert!(judge(json!({ "format": "luks", "virtual-size": 1 })).unwrap_err().contains("luks"));
        assert!(judge(json!({ "format": "qcow2", "virtual-size": 1, "encrypted": true })).is_err());
    }

    #[test]
    fn the_place_of_the_partition_table_tells_the_sector_size() {
        let mut head = vec![0; 8192];
        assert_eq!(sector_size(&head), 512);
        head[4096..4104].copy_from_slice(b"EFI PART");
        assert_eq!(sector_size(&head), 4096);
        head[512..520].copy_from_slice(b"EFI PART");
        assert_eq!(sector_size(&head), 512);
        assert_eq!(sector_size(&[]), 512);
    }
}
