//! Kernel modules: what they depend on, in which order they are loaded, and the archive for the initramfs.

use super::kernel::KernelError;
use object::{Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// Most bytes of one unpacked module; the largest of Debian's has 6 MiB.
const MAX_MODULE: u64 = 64 << 20;

/// A module, unpacked.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its path beneath `kernel/` without `.ko` and what follows, for instance `drivers/block/virtio_blk`.
    pub path: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
    /// Names of the modules it depends on.
    pub depends: Vec<String>,
}

impl Module {
    /// Unpack `packed`, whose path beneath `kernel/` is `path` (with `.ko`, `.ko.xz` or `.ko.zst`).
    ///
    /// # Errors
    /// When it cannot be unpacked or is no module.
    pub fn read(path: &str, packed: &[u8]) -> Result<Self, KernelError> {
        let failed = |reason: String| KernelError::Module { module: path.to_owned(), reason };
        let (stem, suffix) = path.split_once(".ko").ok_or_else(|| failed("its name does not end in .ko".into()))?;
        let decoder: Box<dyn Read> = match suffix {
            "" => Box::new(packed),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(packed)),
            ".zst" => Box::new(zstd::Decoder::new(packed).map_err(|error| failed(error.to_string()))?),
            other => return Err(failed(format!("unknown compression {other:?}"))),
        };
        let mut bytes = Vec::new();
        decoder.take(MAX_MODULE).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        let depends = depends(&bytes).map_err(failed)?;
        Ok(Self { path: stem.to_owned(), bytes, depends })
    }

    /// The name by which other modules depend on it: a dash counts as an underscore.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }
}

/// The name of the module of a path.
pub fn name_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// `depends=` of the section `.modinfo`: `KEY=VALUE` strings, each ended by a NUL.
fn depends(module: &[u8]) -> Result<Vec<String>, String> {
    let file = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("it has no .modinfo")?;
    let info = section.data().map_err(|error| error.to_string())?;
    let mut strings = info.split(|byte| *byte == 0);
    let value = strings.find_map(|string| string.strip_prefix(b"depends=")).unwrap_or_default();
    let value = std::str::from_utf8(value).map_err(|error| error.to_string())?;
    Ok(value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

/// `wanted` and what they depend on, each after all that it depends on. Names that are not in `modules` are built into
/// the kernel.
pub fn load_order<'a>(modules: &'a BTreeMap<String, Module>, wanted: &[String]) -> Vec<&'a Module> {
    fn visit<'a>(
        modules: &'a BTreeMap<String, Module>,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<&'a Module>,
    ) {
        let Some(module) = modules.get(name) else { return };
        if seen.insert(name.to_owned()) {
            for name in &module.depends {
                visit(modules, name, seen, order);
            }
            order.push(module);
        }
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        visit(modules, &name.replace('-', "_"), &mut seen, &mut order);
    }
    order
}

/// The archive that the kernel unpacks before the one with the agent: `/modules/NAME.ko` and `/modules/order`, the file
/// names in the order in which they are loaded.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn cpio(modules: &[&Module]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut entry = |name: &str, mode: u32, bytes: &[u8], inode: u32| -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let builder = cpio::newc::Builder::new(name).mode(mode).ino(inode).nlink(1);
        let mut writer = builder.write(&mut archive, length);
        io::Write::write_all(&mut writer, bytes)?;
        writer.finish()?;
        Ok(())
    };
    entry("modules", 0o040_755, &[], 1)?;
    let mut order = String::new();
    for (module, inode) in modules.iter().zip(3..) {
        let file = format!("{}.ko", module.name());
        entry(&format!("modules/{file}"), 0o100_644, &module.bytes, inode)?;
        order += &file;
        order.push('\n');
    }
    entry("modules/order", 0o100_644, order.as_bytes(), 2)?;
    cpio::newc::trailer(&mut archive)?;
    // The kernel takes the next archive at a multiple of four bytes, Documentation/driver-api/early-userspace.
    archive.resize(archive.len().next_multiple_of(512), 0);
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str]) -> (String, Module) {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        let module = Module { path: path.into(), bytes: b"ELF".to_vec(), depends };
        (module.name(), module)
    }

    #[test]
    fn modules_are_loaded_after_what_they_depend_on() {
        let modules = BTreeMap::from([
            module("fs/xfs/xfs", &["libcrc32c"]),
            module("lib/libcrc32c", &["crc32c_generic"]),
            module("fs/btrfs/btrfs", &["libcrc32c", "raid6_pq"]),
            module("lib/raid6/raid6_pq", &["btrfs"]),
            module("drivers/block/virtio-blk", &[]),
        ]);
        let wanted = ["xfs", "virtio-blk", "btrfs", "built_in"].map(ToOwned::to_owned);
        let order: Vec<_> = load_order(&modules, &wanted).iter().map(|module| module.name()).collect();
        assert_eq!(order, ["libcrc32c", "xfs", "virtio_blk", "raid6_pq", "btrfs"]);
    }

    #[test]
    fn the_archive_holds_the_modules_and_their_order() {
        let (_, one) = module("a/one-x", &[]);
        let (_, two) = module("two", &[]);
        let archive = cpio(&[&one, &two]).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let mut rest = &archive[..];
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            seen.push((reader.entry().name().to_owned(), text));
            rest = reader.finish().unwrap();
        }
        let seen: Vec<_> = seen.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let order = "one_x.ko\ntwo.ko\n";
        assert_eq!(
            seen,
            [("modules", ""), ("modules/one_x.ko", "ELF"), ("modules/two.ko", "ELF"), ("modules/order", order)]
        );
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for (path, bytes) in [("a/b", &b""[..]), ("a/b.ko", b"text"), ("a/b.ko.xz", b"text"), ("a/b.ko.gz", b"")] {
            assert!(matches!(Module::read(path, bytes), Err(KernelError::Module { .. })), "{path}");
        }
    }
}
