//! What becomes of file systems and partitions.

use super::*;

#[test]
fn file_systems_become_partitions() {
    let text = "[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"10 GiB\"\n";
    let disk = good(toml(text)).disk.unwrap();
    // The partitions that boot it, and the two ends of the table.
    assert_eq!((disk.size, disk.min_size, disk.partitions), (None, Some(Size(10 * GIB + 67 * MIB)), None));
    let more = "[[customizations.filesystem]]\nmountpoint = \"/var/lib/data\"\nminsize = 1000000000\n\
                [[customizations.filesystem]]\nmountpoint = \"/boot\"\nminsize = \"1 GiB\"\n";
    let mut recipe = good(toml(&format!("{text}{more}")));
    let disk = recipe.disk.clone().unwrap();
    let partitions = disk.partitions.unwrap();
    let kinds: Vec<_> = partitions.iter().map(|partition| partition.kind).collect();
    use PartitionKind::{BiosBoot, Boot, Esp, Linux, Root};
    assert_eq!(kinds, [BiosBoot, Esp, Linux, Boot, Root]);
    assert_eq!((partitions[2].size, partitions[4].grow), (Some(Size(954 * MIB)), true));
    recipe.settle_disk(Size(20 * GIB));
    // The image wants more for its root than the blueprint.
    assert_eq!(recipe.disk.as_ref().unwrap().size, Some(Size(21 * GIB + (954 + 67) * MIB)));
    let base = Base {
        engine: Engine::NativeOstree,
        backend: particle_vm_protocol::Backend::Ostree,
        layers: Vec::new(),
        manifest: String::new(),
        digest: String::new(),
        config: String::new(),
        created: 0,
        reference: "oci:./image".into(),
        origin: String::new(),
    };
    let facts = HostFacts {
        base: Some(BaseFacts { base, content_bytes: GIB, layer_bytes: GIB }),
        cpus: 1,
        ..HostFacts::default()
    };
    let planned = plan(&recipe, &facts, &Overrides::default()).unwrap();
    let disk = planned.plan.disk.unwrap();
    assert_eq!(disk.mounted_at("/boot").unwrap().size, Some(GIB));
    assert!(disk.mounted_at("/").is_some() && disk.mounted_at("/var/lib/data").is_some());
    table(&[
        (
            "[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"large\"\n",
            "3:11 `minsize` is not a size | write a number of bytes, or `\"10 GiB\"`",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/\"\n",
            "2:1 this `customizations.filesystem` has no `minsize` | give it one: `minsize = ...`",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"20 EiB\"\n",
            "3:11 `minsize` is not a size | write a number of bytes, or `\"10 GiB\"`",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"9 TiB\"\n",
            "3:11 a disk of 9437251MiB is more than the 8TiB that are possible | 4GiB will do for most",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/var/a\"\nminsize = \"9 TiB\"\n",
            "1:18 the partitions take more than the 8TiB that a disk can have | make them smaller",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/tmp\"\nminsize = \"1 GiB\"\n",
            "2:14 something else is mounted on `/tmp` in a running system | choose another place",
        ),
    ]);
}

#[test]
fn a_disk_has_its_partitions() {
    let text = "[customizations.disk]\ntype = \"gpt\"\nminsize = \"30 GiB\"\n\
                [[customizations.disk.partitions]]\nmountpoint = \"/var/log\"\nminsize = \"2 GiB\"\nfs_type = \"xfs\"\nlabel = \"log\"\n\
                [[customizations.disk.partitions]]\nfs_type = \"swap\"\nminsize = \"1 GiB\"\n\
                [[customizations.disk.partitions]]\ntype = \"plain\"\nmountpoint = \"/\"\nfs_type = \"btrfs\"\n";
    let disk = good(toml(text)).disk.unwrap();
    let partitions = disk.partitions.unwrap();
    assert_eq!((disk.min_size, partitions.len()), (Some(Size(30 * GIB)), 5));
    assert_eq!((partitions[2].filesystem, partitions[2].label.as_deref()), (Some(Filesystem::Xfs), Some("log")));
    assert_eq!((partitions[3].kind, partitions[3].label.as_deref()), (PartitionKind::Swap, Some("swap2")));
    assert_eq!((partitions[4].filesystem, partitions[4].grow), (Some(Filesystem::Btrfs), true));
    table(&[
        (
            "[customizations.disk]\ntype = \"dos\"\n",
            "2:8 the partition table is a GPT | write `type = \"gpt\"`, or remove the key",
        ),
        (
            "[[customizations.disk.partitions]]\ntype = \"lvm\"\n",
            "2:8 only plain partitions can be made | write `type = \"plain\"`; LVM and subvolumes of Btrfs cannot be made",
        ),
        (
            "[[customizations.disk.partitions]]\nfs_type = \"swap\"\nmountpoint = \"/var/swap\"\nminsize = \"2 GiB\"\n",
            "3:14 swap space is mounted nowhere | remove `mountpoint`",
        ),
        (
            "[[customizations.filesystem]]\nmountpoint = \"/var/home\"\nminsize = \"2 GiB\"\n",
            "2:14 `/home` leads to `/var/home`, and nothing else is mounted there | write `/home`, `/srv`, or another folder in `/var`",
        ),
        (
            "[[customizations.disk.partitions]]\nmountpoint = \"/srv\"\n",
            "2:1 this `customizations.disk.partitions` has no `minsize` | give it one: `minsize = ...`",
        ),
        (
            "[customizations.disk]\n[[customizations.filesystem]]\nmountpoint = \"/\"\nminsize = \"4 GiB\"\n",
            "1:17 `customizations.disk` and `customizations.filesystem` cannot be together | write all partitions into one of them",
        ),
    ]);
}

#[test]
fn the_file_system_of_the_root_is_said_once() {
    let with = |filesystem, more: &str| {
        let text = format!("[[customizations.disk.partitions]]\nmountpoint = \"/\"\nfs_type = \"xfs\"\n{more}");
        let configuration = read::from_toml(Source::new("config.toml", text)).ok().unwrap();
        of(&Order { filesystem: Some(filesystem), ..order() }, Some(configuration))
    };
    let other = "[[customizations.disk.partitions]]\nmountpoint = \"/var/log\"\nminsize = \"1 GiB\"\n";
    for more in ["", other] {
        good(with(Filesystem::Xfs, more));
    }
    let wrong = said(with(Filesystem::Btrfs, other));
    assert_eq!(wrong, "3:11 the root is `xfs` here, and `btrfs` by `--rootfs` | say it in one place\n");
}
