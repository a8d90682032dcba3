//! The disk that a container image itself asks for: image-builder's `disk.yaml` (its documentation, "Partitions"), and the
//! file system of the root in bootc's install configuration. A recipe that says otherwise has its way.

use super::finding::Source;
use super::layout::EDGE;
use super::path::Path;
use super::size::{MIB, Size};
use super::types::{Disk, Partition, Recipe};
use particle_vm_protocol::stage::{Bootloader, Firmware};
use particle_vm_protocol::{Filesystem, PartitionKind, Stage};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path as FilePath;

/// The way out for what cannot be made.
pub(super) const INSTEAD: &str =
    "write `disk` with its `partitions` in the recipe, which comes before what the image says";

/// What an image says.
#[derive(Debug, Clone, Default)]
pub struct ImageDisk {
    /// Its `disk.yaml`: the path, and the text; none of one that is too long, or leads nowhere.
    pub file: Option<(String, Option<String>)>,
    /// The file system that bootc's install configuration wants for the root.
    pub filesystem: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mount_configuration: Option<String>,
    partition_table: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "type")]
    kind: Option<String>,
    size: Option<Size>,
    partitions: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    size: Option<Size>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    bootable: bool,
    uuid: Option<String>,
    label: Option<String>,
    payload_type: Option<String>,
    // What it may hold depends on its type.
    payload: Option<serde_yaml::Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Payload {
    #[serde(rename = "type")]
    kind: Option<Filesystem>,
    mountpoint: Option<String>,
    label: Option<String>,
    fstab_options: Option<String>,
    // When something is dumped and checked follows from the file system here.
    #[serde(rename = "fstab_freq")]
    _freq: Option<u32>,
    #[serde(rename = "fstab_passno")]
    _passno: Option<u32>,
}

impl Recipe {
    /// Take from the image what the recipe does not say of the disk.
    ///
    /// # Errors
    /// With what in the image's own words cannot be made, and what to do.
    pub fn settle_image_disk(&mut self, image: &ImageDisk) -> Result<(), (String, &'static str)> {
        let disk = Path::root().key("disk");
        let own = self.is_written(&disk.key("filesystem"));
        let filesystem = image.filesystem.as_deref().and_then(filesystem);
        if let Some(filesystem) = filesystem.filter(|_| !own) {
            self.disk.get_or_insert_default().filesystem = filesystem;
        }
        let Some((path, text)) = image.file.as_ref().filter(|_| !self.is_written(&disk.key("partitions"))) else {
            return Ok(());
        };
        let wrong = |(message, help): (String, &'static str)| (format!("`/{path}` of the image: {message}"), help);
        let Some(text) = text else {
            return Err(wrong(("it is too long to be one, or leads to no file".into(), INSTEAD)));
        };
        let file: File = serde_yaml::from_str(text).map_err(|error| wrong((error.to_string(), INSTEAD)))?;
        let (sizes, mut partitions) = partitions(file).map_err(wrong)?;
        let ordered = self.origin.ordered;
        let settled = self.disk.get_or_insert_default();
        if own {
            // `--rootfs`, or the recipe's own key. Options belong to the file system that they were written for.
            let root = partitions.iter_mut().find(|partition| partition.kind == PartitionKind::Root);
            for root in root.into_iter().filter(|root| root.filesystem != Some(settled.filesystem)) {
                root.filesystem = Some(settled.filesystem);
                root.options.clear();
            }
        }
        let least = settled.min_size.map_or(0, |size| size.0);
        let least = if ordered {
            // What a blueprint says is the least size of the root, more or less.
            sizes.others.saturating_add(sizes.root.max(least)).max(sizes.whole)
        } else {
            sizes.others.saturating_add(sizes.root).max(sizes.whole).max(least)
        };
        settled.min_size = Some(Size(least)).filter(|_| settled.size.is_none());
        settled.partitions = Some(partitions);
        if let Some(bootloader) = &mut self.origin.bootloader {
            bootloader.firmware = firmwares(settled);
        }
        let mut stages = vec![serde_json::json!({
            "type": "bootloader", "options": self.bootloader().unwrap_or(&Bootloader::default())
        })];
        if self.stages.iter().any(|stage| matches!(stage.stage, Stage::Kernel(_))) {
            stages.push(serde_json::json!({ "type": "kernel" }));
        }
        let mut text = serde_json::json!({
            "name": "image",
            "base-image": "oci:image",
            "stages": stages,
            "disk": self.disk,
        });
        // Each has its own.
        text["disk"].as_object_mut().map(|disk| disk.remove("filesystem"));
        // What recipes are held to.
        match super::parse(Source::new(path.as_str(), text.to_string()), FilePath::new("."), &BTreeMap::new()) {
            Ok(_) => Ok(()),
            Err(findings) => {
                let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_ref()).collect();
                Err(wrong((messages.join("; "), INSTEAD)))
            }
        }
    }
}

fn filesystem(name: &str) -> Option<Filesystem> {
    [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs].into_iter().find(|known| known.name() == name)
}

/// The firmwares that the partitions are for.
fn firmwares(disk: &Disk) -> Vec<Firmware> {
    let has = |kind| disk.partitions.iter().flatten().any(|partition| partition.kind == kind);
    let firmwares = [(Firmware::Bios, PartitionKind::BiosBoot), (Firmware::Uefi, PartitionKind::Esp)];
    firmwares.into_iter().filter(|(_, kind)| has(*kind)).map(|(firmware, _)| firmware).collect()
}

/// What a disk takes, in bytes.
struct Sizes {
    /// Its root at least.
    root: u64,
    /// All else on it.
    others: u64,
    /// The whole of it at least.
    whole: u64,
}

/// The partitions, and what they take.
fn partitions(file: File) -> Result<(Sizes, Vec<Partition>), (String, &'static str)> {
    let cannot = |message: String| Err((message, INSTEAD));
    if let Some(kind) = file.mount_configuration.filter(|kind| kind != "fstab") {
        return cannot(format!(
            "`mount_configuration: {kind}` cannot be honoured: file systems are mounted by fstab(5)"
        ));
    }
    let table = file.partition_table;
    if let Some(kind) = table.kind.filter(|kind| kind != "gpt") {
        return cannot(format!("a partition table `{kind}` cannot be made, only `gpt`"));
    }
    let whole = |size: Option<Size>| size.unwrap_or_default().0.checked_next_multiple_of(MIB).unwrap_or(u64::MAX);
    let mut sizes = Sizes { root: 0, others: 2 * EDGE, whole: whole(table.size) };
    let mut partitions = Vec::new();
    for (index, entry) in table.partitions.into_iter().enumerate() {
        let (number, size) = (index + 1, whole(entry.size));
        let partition = match partition(entry, size, number) {
            Ok(partition) => partition,
            Err(message) => return cannot(format!("partition {number}: {message}")),
        };
        let sum = if partition.grow { &mut sizes.root } else { &mut sizes.others };
        *sum = sum.saturating_add(size);
        partitions.push(partition);
    }
    Ok((sizes, partitions))
}

/// One partition; the root takes what is left.
fn partition(entry: Entry, size: u64, number: usize) -> Result<Partition, String> {
    let payload = payload(&entry)?;
    let kind = kind(&entry, payload.as_ref())?;
    if entry.bootable && kind != PartitionKind::BiosBoot {
        return Err("`bootable` is for a BIOS boot partition".into());
    }
    let grow = kind == PartitionKind::Root;
    let inner = payload.as_ref().and_then(|payload| payload.label.clone());
    if inner.as_ref().zip(entry.label.as_ref()).is_some_and(|(inner, outer)| inner != outer) {
        return Err("the label of a partition is that of its file system".into());
    }
    let numbered = matches!(kind, PartitionKind::Linux | PartitionKind::Swap);
    let options = payload.as_ref().and_then(|payload| payload.fstab_options.as_deref()).unwrap_or_default();
    let options = options.split(',').filter(|option| !matches!(*option, "" | "defaults"));
    Ok(Partition {
        kind,
        size: Some(Size(size)).filter(|size| !grow && size.0 > 0),
        grow,
        mountpoint: payload.as_ref().and_then(|payload| payload.mountpoint.clone()),
        filesystem: payload.as_ref().and_then(|payload| payload.kind),
        // No two partitions have the same.
        label: inner.or(entry.label).or_else(|| numbered.then(|| format!("data{number}"))),
        uuid: entry.uuid,
        options: options.map(str::to_owned).collect(),
    })
}

/// The file system, or the swap space, that is in a partition.
fn payload(entry: &Entry) -> Result<Option<Payload>, String> {
    let read = |value: &serde_yaml::Value| serde_yaml::from_value(value.clone()).map_err(|error| error.to_string());
    match entry.payload_type.as_deref() {
        Some("no-payload") => Ok(None),
        None | Some("" | "filesystem" | "raw") if entry.payload.is_none() => Ok(None),
        None | Some("" | "filesystem") => entry.payload.as_ref().map(read).transpose(),
        Some("swap") => {
            let payload: Payload = entry.payload.as_ref().map(read).transpose()?.unwrap_or_default();
            Ok(Some(Payload { kind: Some(Filesystem::Swap), ..payload }))
        }
        Some(kind) => Err(format!("a `{kind}` cannot be made, only a plain file system")),
    }
}

/// What a partition is for: of one with a file system its place tells, of another one its type. The type in the partition
/// table follows from that.
fn kind(entry: &Entry, payload: Option<&Payload>) -> Result<PartitionKind, String> {
    let is =
        |kind: PartitionKind| entry.kind.as_deref().is_some_and(|guid| guid.eq_ignore_ascii_case(kind.type_guid()));
    let Some(payload) = payload else {
        return if is(PartitionKind::BiosBoot) {
            Ok(PartitionKind::BiosBoot)
        } else {
            Err("there is nothing in it".into())
        };
    };
    let kind = match (payload.kind, payload.mountpoint.as_deref()) {
        (Some(Filesystem::Swap), _) => PartitionKind::Swap,
        (None, _) => return Err("its `payload` has no `type`".into()),
        (_, Some("/")) => PartitionKind::Root,
        (_, Some("/boot")) => PartitionKind::Boot,
        (_, Some("/boot/efi")) => PartitionKind::Esp,
        (_, Some("/home")) => PartitionKind::Home,
        (_, Some("/srv")) => PartitionKind::Srv,
        (_, Some("/var")) => PartitionKind::Var,
        (_, Some("/var/tmp")) => PartitionKind::Tmp,
        _ => PartitionKind::Linux,
    };
    match &entry.kind {
        Some(guid) if !is(kind) && !is(PartitionKind::Linux) => {
            Err(format!("the type {guid} is another one than its place has, {}", kind.type_guid()))
        }
        _ => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    fn settled(lines: &str, file: &str) -> Result<Recipe, String> {
        let text = format!("name: x\nbase-image: oci:i\n{lines}\n");
        let mut recipe = parse(Source::new("r.yml", text), FilePath::new("."), &BTreeMap::new()).unwrap();
        let file = (!file.is_empty()).then(|| ("usr/lib/disk.yaml".to_owned(), Some(file.to_owned())));
        let image = ImageDisk { file, filesystem: Some("xfs".into()) };
        recipe.settle_image_disk(&image).map(|()| recipe).map_err(|(message, help)| format!("{message} | {help}"))
    }

    const TABLE: &str = "partition_table:
  type: gpt
  partitions:
    - { size: 1 MiB, type: 21686148-6449-6E6F-744E-656564454649, bootable: true }
    - size: 501 MiB
      type: C12A7328-F81F-11D2-BA4B-00A0C93EC93B
      payload_type: filesystem
      payload: { type: vfat, mountpoint: /boot/efi, label: ESP, fstab_options: 'umask=0077,shortname=winnt', fstab_passno: 2 }
    - { size: 5 GiB, payload: { type: btrfs, mountpoint: /, fstab_options: defaults } }
    - { size: 1 GiB, payload: { type: ext4, mountpoint: /var/data } }
";

    #[test]
    fn the_image_has_its_way_where_the_recipe_says_nothing() {
        let disk = settled("", "").unwrap().disk.unwrap();
        assert_eq!((disk.filesystem, disk.partitions), (Filesystem::Xfs, None));
        assert_eq!(settled("disk: { filesystem: ext4 }", "").unwrap().disk.unwrap().filesystem, Filesystem::Ext4);

        let recipe = settled("", TABLE).unwrap();
        let disk = recipe.disk.as_ref().unwrap();
        assert_eq!(disk.min_size, Some(Size((2 + 1 + 501 + 5 * 1024 + 1024) * MIB)));
        let partitions = disk.partitions.as_ref().unwrap();
        let kinds: Vec<_> = partitions.iter().map(|partition| (partition.kind, partition.filesystem)).collect();
        assert_eq!(
            kinds,
            [
                (PartitionKind::BiosBoot, None),
                (PartitionKind::Esp, Some(Filesystem::Vfat)),
                (PartitionKind::Root, Some(Filesystem::Btrfs)),
                (PartitionKind::Linux, Some(Filesystem::Ext4)),
            ]
        );
        assert_eq!((partitions[2].grow, partitions[1].label.as_deref()), (true, Some("ESP")));
        assert_eq!(partitions[1].options, ["umask=0077", "shortname=winnt"]);
        assert_eq!(recipe.bootloader().unwrap().firmware, [Firmware::Bios, Firmware::Uefi]);
        let own = settled("disk: { filesystem: ext4, size: 9GiB }", TABLE).unwrap().disk.unwrap();
        assert_eq!((own.size, own.partitions.unwrap()[2].filesystem), (Some(Size(9216 * MIB)), Some(Filesystem::Ext4)));
        let more = format!("{TABLE}    - {{ size: 2 GiB, payload_type: swap, payload: {{ label: s }} }}\n");
        let more = more.replace("{ size: 1 MiB,", "{ size: 1 MiB, payload_type: no-payload,");
        let disk = settled("disk: { min_size: 20GiB }", &more).unwrap().disk.unwrap();
        assert_eq!(
            (disk.min_size, disk.partitions.unwrap()[4].kind),
            (Some(Size(20 * 1024 * MIB)), PartitionKind::Swap)
        );
        let lines = "disk: { size: 9GiB, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true }] }";
        assert_eq!(settled(lines, TABLE).unwrap().disk.unwrap().partitions.unwrap().len(), 3);
    }

    #[test]
    fn a_root_that_is_read_only_is_one_in_each_engine() {
        let recipe = settled("", &TABLE.replace("fstab_options: defaults", "fstab_options: 'ro,nofail'")).unwrap();
        assert_eq!(recipe.disk.as_ref().unwrap().partitions.as_ref().unwrap()[2].options, ["ro", "nofail"]);
        let findings = recipe.fits(particle_vm_protocol::Engine::NativeOstree).unwrap_err();
        let finding = findings.iter().next().unwrap();
        let message = "`disk.yaml` of the image: the root of a deployment is mounted with what the kernel is told, and not \
                       with `nofail`";
        assert_eq!((findings.iter().count(), finding.message.as_ref()), (1, message));
        assert_eq!((finding.place(), finding.help.as_deref()), ((2, 13), Some(INSTEAD)));
    }

    #[test]
    fn a_commit_is_deployed_on_the_disk_of_the_image_too() {
        let stages = "engine: plain
stages:
  - { type: ostree.commit, options: { ref: a/b } }
  - { type: ostree.deploy, options: { ref: a/b } }";
        let recipe = settled(stages, &TABLE.replace("fstab_options: defaults", "fstab_options: noexec")).unwrap();
        let findings = recipe.fits(particle_vm_protocol::Engine::Plain).unwrap_err();
        assert!(findings.iter().any(|finding| finding.message.contains("not with `noexec`")), "{findings:?}");
        let recipe = settled(stages, &TABLE.replace("/var/data", "/data")).unwrap();
        assert!(recipe.fits(particle_vm_protocol::Engine::Plain).is_err());
    }

    #[test]
    fn what_cannot_be_made_is_told_by_name() {
        for (from, to, message) in [
            ("gpt", "dos", "a partition table `dos` cannot be made"),
            ("partition_table", "mount_configuration: none\npartition_table", "`mount_configuration: none` cannot be"),
            ("    - { size: 1 GiB, payload", "    - { attrs: [1], payload", "unknown field `attrs`"),
            ("payload_type: filesystem", "payload_type: luks", "partition 2: a `luks` cannot be made"),
            ("type: btrfs", "type: bcachefs", "partition 3: unknown variant `bcachefs`"),
            (
                "type: C12A7328",
                "type: 0FC63DAE",
                "partition 2: the type 0FC63DAE-F81F-11D2-BA4B-00A0C93EC93B is another",
            ),
            (
                "payload_type: filesystem\n",
                "payload_type: filesystem\n      label: other\n",
                "partition 2: the label of a",
            ),
            ("size: 1 GiB, payload", "size: 1 GiB, bootable: true, payload", "partition 4: `bootable` is for a BIOS"),
            ("- { size: 1 MiB, type: 2", "- { size: 1 MiB, type: 3", "partition 1: there is nothing in it"),
            ("mountpoint: /var/data", "mountpoint: /boot/efi", "there can be one partition of this kind only"),
            ("size: 1 GiB, payload", "payload", "this partition has no size"),
        ] {
            assert!(TABLE.contains(from), "{from}");
            let said = settled("", &TABLE.replace(from, to)).map(|_| ()).unwrap_err();
            assert!(said.contains(message) && said.starts_with("`/usr/lib/disk.yaml` of the image: "), "{said}");
        }
    }
}
