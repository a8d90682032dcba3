//! Images made by code.

use super::super::*;
use cpio::newc;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use tar::{EntryType, Header};

/// The kernel of the images.
pub const KERNEL: &str = "6.12.1-amd64";

/// What a path is.
#[derive(Clone)]
pub enum Item {
    File(Vec<u8>),
    Program(Vec<u8>),
    Folder,
    Link(&'static str),
    Device,
}

/// An image of one layer.
#[derive(Clone)]
pub struct Image {
    pub items: BTreeMap<String, Item>,
    pub labels: BTreeMap<&'static str, &'static str>,
    pub architecture: &'static str,
    pub history: Vec<serde_json::Value>,
}

impl Image {
    /// A Debian that only wants recipe stages.
    pub fn plain() -> Self {
        let mut image = Self {
            items: BTreeMap::new(),
            labels: BTreeMap::new(),
            architecture: "amd64",
            history: vec![serde_json::json!({})],
        };
        image
            .file("usr/lib/os-release", "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
        image.add("etc/os-release", Item::Link("../usr/lib/os-release"));
        for (name, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/sbin")] {
            image.add(name, Item::Link(target));
        }
        image.add("usr/sbin/init", Item::Link("../lib/systemd/systemd"));
        image.add("usr/lib/systemd/systemd", Item::Program(b"ELF".to_vec()));
        image.file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\n");
        image.file("etc/shadow", "root:$y$j9T$aaaaaaaaaaaa$bbbbbbbbbbbbbbb:1::::::\n");
        image.file("etc/machine-id", "uninitialized\n");
        image.file("var/lib/dpkg/status", "Package: ostree\nStatus: install ok installed\nVersion: 2026.4-1\n");
        image
    }

    /// One that is ready for OSTree, with nothing to find fault with.
    pub fn ostree() -> Self {
        let mut image = Self::plain();
        image.remove("var/lib/dpkg/status");
        image.file(
            "usr/lib/sysimage/dpkg/status",
            "Package: ostree\nStatus: install ok installed\nVersion: 2026.4-1\n\n\
             Package: libostree-1-1\nStatus: install ok installed\nVersion: 2026.4-1\n",
        );
        image.labels.insert("containers.bootc", "1");
        image.add("sysroot", Item::Folder);
        image.add("boot", Item::Folder);
        image.add("ostree", Item::Link("sysroot/ostree"));
        let mut lines = "L /var/lib/dpkg - - - - ../../usr/lib/sysimage/dpkg\n".to_owned();
        for (name, target) in
            [("home", "var/home"), ("root", "var/roothome"), ("srv", "var/srv"), ("opt", "var/opt"), ("mnt", "var/mnt")]
        {
            image.add(name, Item::Link(target));
            lines += &format!("d /{target} 0755 root root -\n");
        }
        image.file("usr/lib/tmpfiles.d/var.conf", &lines);
        image.file("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = yes\n[sysroot]\nreadonly = true\n");
        image.add("usr/bin/ostree", Item::Program(b"ELF".to_vec()));
        image.kernel(&initramfs(&ostree_initramfs()));
        image
    }

    /// One that bootc's composefs backend boots.
    pub fn composefs() -> Self {
        let mut image = Self::ostree();
        image.kernel(&initramfs(&bootc_initramfs()));
        for tool in ["bootc", "bootctl", "blkid", "findmnt", "lsblk", "mount", "skopeo"] {
            image.add(&format!("usr/bin/{tool}"), Item::Program(b"ELF".to_vec()));
        }
        image.file("etc/containers/policy.json", "{}");
        image.add("usr/lib/systemd/boot/efi/systemd-bootx64.efi", Item::File(b"MZ".to_vec()));
        image
    }

    pub fn kernel(&mut self, initramfs: &[u8]) {
        let folder = format!("usr/lib/modules/{KERNEL}");
        self.file(&format!("{folder}/vmlinuz"), "kernel");
        self.add(&format!("{folder}/initramfs.img"), Item::File(initramfs.to_vec()));
        self.file(
            &format!("{folder}/modules.builtin"),
            "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n",
        );
    }

    pub fn add(&mut self, path: &str, item: Item) {
        self.items.insert(path.to_owned(), item);
    }

    pub fn file(&mut self, path: &str, text: &str) {
        self.add(path, Item::File(text.as_bytes().to_vec()));
    }

    pub fn remove(&mut self, path: &str) {
        self.items.remove(path).unwrap_or_else(|| panic!("{path} is not there"));
    }

    pub fn report(&self) -> Result<Report, InspectError> {
        self.report_for(None)
    }

    /// The report for who wishes for an engine.
    pub fn report_for(&self, wish: Option<Engine>) -> Result<Report, InspectError> {
        let mut layer = Layer::default();
        for (path, item) in &self.items {
            match item {
                Item::File(bytes) => layer.file(path, bytes),
                Item::Program(bytes) => layer.entry(path.as_bytes(), EntryType::Regular, b"", 0o755, bytes),
                Item::Folder => layer.folder(path),
                Item::Link(target) => layer.link(path, target),
                Item::Device => layer.entry(path.as_bytes(), EntryType::Char, b"", 0o600, b""),
            }
        }
        let config = serde_json::json!({"architecture": self.architecture, "os": "linux", "config": {"Labels": self.labels}, "history": self.history});
        inspect_for(&[layer.end()], &config.to_string(), wish)
    }
}

/// Look into an image of these layers.
pub fn inspect(layers: &[Vec<u8>], config: &str) -> Result<Report, InspectError> {
    inspect_for(layers, config, None)
}

fn inspect_for(layers: &[Vec<u8>], config: &str, wish: Option<Engine>) -> Result<Report, InspectError> {
    let digests = (0..layers.len()).map(|index| format!("sha256:{index:064x}"));
    let listed = digests.zip(layers).map(|(digest, layer)| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()})
    });
    let manifest = serde_json::json!({"schemaVersion": 2, "layers": listed.collect::<Vec<_>>()}).to_string();
    let input = Input {
        reference: "oci:image",
        origin: None,
        digest: "sha256:00",
        config_digest: "sha256:00",
        manifest: manifest.as_bytes(),
        config: config.as_bytes(),
        wish,
    };
    image(input, layers.iter().map(|layer| Ok(Cursor::new(layer))))
}

/// A layer in the making. Names are written as they are given.
#[derive(Default)]
pub struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    pub fn entry(&mut self, name: &[u8], kind: EntryType, target: &[u8], mode: u32, content: &[u8]) {
        // What does not fit is put into the way of GNU tar, as builders do.
        for (name, kind) in [(name, EntryType::GNULongName), (target, EntryType::GNULongLink)] {
            if name.len() > 100 {
                self.header(b"././@LongLink", kind, b"", 0, name.len() as u64 + 1);
                self.content(&[name, b"\0"].concat());
            }
        }
        self.header(&name[..name.len().min(100)], kind, &target[..target.len().min(100)], mode, content.len() as u64);
        self.content(content);
    }

    pub fn header(&mut self, name: &[u8], kind: EntryType, target: &[u8], mode: u32, size: u64) {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
    }

    pub fn content(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    pub fn pax(&mut self, records: &[(&str, &[u8])]) {
        let mut body = Vec::new();
        for (key, value) in records {
            // The length counts itself.
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(b"PaxHeaders/x", EntryType::XHeader, b"", 0o644, &body);
    }

    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path.as_bytes(), EntryType::Regular, b"", 0o644, content);
    }

    pub fn folder(&mut self, path: &str) {
        self.entry(path.as_bytes(), EntryType::Directory, b"", 0o755, b"");
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path.as_bytes(), EntryType::Symlink, target.as_bytes(), 0o777, b"");
    }

    pub fn hard_link(&mut self, path: &str, target: &str) {
        self.entry(path.as_bytes(), EntryType::Link, target.as_bytes(), 0o644, b"");
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// A cpio archive of these files.
pub fn initramfs(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut writer = newc::Builder::new(name).mode(0o100_644).write(&mut archive, content.len() as u32);
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }
    newc::trailer(&mut archive).unwrap();
    archive
}

fn common() -> Vec<(String, Vec<u8>)> {
    let modules = format!("usr/lib/modules/{KERNEL}/kernel");
    [
        "usr/lib/systemd/systemd".to_owned(),
        format!("{modules}/fs/erofs/erofs.ko.xz"),
        format!("{modules}/fs/overlayfs/overlay.ko.xz"),
        format!("{modules}/drivers/block/virtio_blk.ko.xz"),
    ]
    .map(|name| (name, Vec::new()))
    .to_vec()
}

/// The files of an initramfs for OSTree.
pub fn ostree_initramfs() -> Vec<(String, Vec<u8>)> {
    let mut files = common();
    let conf = b"[composefs]\nenabled = yes\n[sysroot]\nreadonly = true\n";
    files.push(("usr/lib/ostree/ostree-prepare-root".into(), b"ELF".to_vec()));
    files.push(("usr/lib/ostree/prepare-root.conf".into(), conf.to_vec()));
    files.push(("usr/lib/systemd/system/initrd-root-fs.target.wants/ostree-prepare-root.service".into(), vec![]));
    files.push(("usr/lib/dracut/modules.txt".into(), b"systemd\nostree\nbase\n".to_vec()));
    files
}

/// The files of an initramfs for bootc's composefs backend.
pub fn bootc_initramfs() -> Vec<(String, Vec<u8>)> {
    let mut files = common();
    files.push(("usr/lib/bootc/initramfs-setup".into(), b"ELF".to_vec()));
    files.push(("etc/systemd/system/initrd-root-fs.target.wants/bootc-root-setup.service".into(), vec![]));
    files
}
