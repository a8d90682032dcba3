use super::*;

#[test]
fn the_disk_has_a_size() {
    table(
        with_disk,
        &[
            ("{ size: 0 }", "6:15 the disk has a size of 0 | a minimal Debian takes 1GiB, a comfortable one 4GiB"),
            ("{ size: 1EiB }", "6:15 a disk of 1EiB is more than the 8TiB that are possible | 4GiB will do for most"),
            ("{ size: 4GB }", "6:15 the size is not a multiple of 1MiB | GB and MB count in thousands; write `4GiB`"),
            ("{ size: 1025KiB }", "6:15 the size is not a multiple of 1MiB | write `2MiB`"),
            (
                "{ size: 100MiB }",
                "6:15 33MiB for the partition `root` is too little: the packages of the stages do not fit | make it larger by at least 147MiB",
            ),
            ("{ size: '4' }", "6:15 the size is not a multiple of 1MiB | give it a unit: `4GiB`"),
            (
                "{ size: 4GiB, filesystem: swap, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true }] }",
                "6:33 this file system cannot hold the root of a Debian system | it is `ext4`, `xfs` or `btrfs`",
            ),
            (
                "{ size: 4GiB, filesystem: xfs, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true, filesystem: btrfs }] }",
                "6:33 every partition has a file system of its own | remove this key, or theirs",
            ),
            ("{ size: much }", "6:15 `much` is no size: write a number and a unit, like `4GiB`"),
            (
                "{ size: 4GiB, filesystem: vfat }",
                "6:33 this file system cannot hold the root of a Debian system | it is `ext4`, `xfs` or `btrfs`",
            ),
            ("{ size: 4GiB, sector_size: 1024 }", "6:34 1024 is not possible here: it is 512 or 4096"),
            ("{ size: 4GiB, sector_size: 4096 }", ""),
        ],
    );
}

#[test]
fn a_bios_does_not_boot_from_large_sectors() {
    let recipe = |disk: &str| with_disk(disk).replace("timeout: 1", "firmware: [bios]");
    table(
        recipe,
        &[(
            "{ size: 8GiB, sector_size: 4096 }",
            "5:36 a BIOS cannot boot from a disk with sectors of 4096 bytes | use `firmware: [uefi]`, or a sector size of 512",
        )],
    );
}

#[test]
fn formats_that_imply_a_sector_size_hold_no_other() {
    table(
        |formats| {
            format!("{}\noutput: {{ formats: {formats} }}\n", with_disk("{ size: 8GiB, sector_size: 4096 }").trim_end())
        },
        &[
            ("[raw, qcow2]", ""),
            (
                "[vmdk]",
                "7:21 the format `vmdk` has sectors of 512 bytes only | use `raw` or `qcow2`, or a sector size of 512",
            ),
        ],
    );
}

#[test]
fn partitions_make_sense_alone() {
    const OTHERS: &str = "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, size: 2GiB }";
    let recipe = |partition: &str| with_disk(&format!("{{ size: 9GiB, partitions: [{OTHERS},\n{partition}] }}"));
    table(
        recipe,
        &[
            (
                "{ kind: home }",
                "7:3 this partition has no size | give it `size`, or `grow: true` for the rest of the disk",
            ),
            ("{ kind: home, size: 0 }", "7:21 the partition has a size of 0"),
            (
                "{ kind: home, size: 1GB, grow: false }",
                "7:21 the size is not a multiple of 1MiB | GB and MB count in thousands; write `1GiB`",
            ),
            (
                "{ kind: home, size: 1GiB, grow: true }",
                "7:33 this partition has a size and grows | keep `size` or `grow: true`",
            ),
            (
                "{ kind: home, size: 1MiB }",
                "7:21 1MiB is too small: the journal of an ext4 does not fit | write at least `8MiB`",
            ),
            (
                "{ kind: home, size: 100MiB, filesystem: xfs }",
                "7:21 100MiB is too small: mkfs.xfs makes no file system below 300MiB | write at least `300MiB`",
            ),
            (
                "{ kind: home, size: 100MiB, filesystem: btrfs }",
                "7:21 100MiB is too small: mkfs.btrfs makes no file system below 109MiB | write at least `128MiB`",
            ),
            (
                "{ kind: home, grow: true, mountpoint: home }",
                "7:39 `home` is not an absolute path | for instance `/srv`",
            ),
            (
                "{ kind: home, grow: true, mountpoint: / }",
                "7:39 only the root partition is mounted on `/` | use `kind: root`\n7:39 two partitions are mounted on `/`",
            ),
            (
                "{ kind: linux, grow: true, mountpoint: /proc/x }",
                "7:40 something else is mounted on `/proc/x` in a running system | choose another place",
            ),
            (
                "{ kind: linux, grow: true, mountpoint: /etc }",
                "7:40 `/etc` is needed before it could be mounted | leave it on the root partition",
            ),
            (
                "{ kind: swap, grow: true, mountpoint: /swap, filesystem: ext4 }",
                "7:39 this kind of partition is not mounted | remove the key\n7:58 a swap partition holds swap space | remove the key",
            ),
            (
                "{ kind: home, grow: true, filesystem: swap }",
                "7:39 swap space belongs into a partition of `kind: swap` | use `kind: swap`",
            ),
            (
                "{ kind: home, grow: true, filesystem: vfat }",
                "7:39 FAT has no owners and no links, which Debian needs here | it is `ext4`, `xfs` or `btrfs`",
            ),
            (
                "{ kind: linux, mountpoint: /usr, filesystem: vfat, grow: true }",
                "7:46 FAT has no owners and no links, which Debian needs here | it is `ext4`, `xfs` or `btrfs`",
            ),
            ("{ kind: linux, mountpoint: /srv/dos, filesystem: vfat, grow: true }", ""),
            (
                "{ kind: linux, grow: true, mountpoint: /usr/lib }",
                "7:40 `/usr/lib` is needed before it could be mounted | leave it on the root partition",
            ),
            (
                "{ kind: linux, grow: true, mountpoint: /var/lib/dpkg/status }",
                "7:40 `/var/lib/dpkg/status` is needed before it could be mounted | leave it on the root partition",
            ),
            (
                "{ kind: boot, grow: true, mountpoint: /data }",
                "7:39 a partition of this kind is mounted on `/boot` | remove the key, or use `kind: linux`",
            ),
            (
                "{ kind: linux, grow: true, mountpoint: /boot }",
                "7:40 `/boot` is for a partition of another kind | use `kind: boot`",
            ),
            (
                "{ kind: linux, grow: true, options: [noatime] }",
                "7:28 this partition is not mounted, so its options mean nothing | give the partition a `mountpoint`, or remove the key",
            ),
            (
                "{ kind: home, grow: true, options: [noatime, 'subvol=@home'] }",
                "7:46 `subvol=@home` names a subvolume, and none is made | remove it; what the image holds lies in the file system's top",
            ),
            (
                "{ kind: var, size: 8MiB }",
                "7:20 8MiB is too small: the databases of dpkg and debconf do not fit | write at least `32MiB`",
            ),
            (
                "{ kind: linux, mountpoint: /var, size: 8MiB }",
                "7:40 8MiB is too small: the databases of dpkg and debconf do not fit | write at least `32MiB`",
            ),
            (
                "{ kind: home, grow: true, uuid: 00000000-0000-0000-0000-000000000000 }",
                "7:33 the nil UUID names no partition | `uuidgen` makes one; without the key it follows from the recipe",
            ),
            (
                "{ kind: home, grow: true, label: a label }",
                "7:34 `a label` cannot be the label of this partition | letters, digits, `-`, `_` and `.`, at most 16 characters",
            ),
            (
                "{ kind: home, grow: true, filesystem: xfs, label: thirteen-char }",
                "7:51 `thirteen-char` cannot be the label of this partition | letters, digits, `-`, `_` and `.`, at most 12 characters",
            ),
            (
                "{ kind: home, grow: true, uuid: 123 }",
                "7:33 `uuid` is a text, and not the number 123 | write it in quotes: `\"123\"`",
            ),
            (
                "{ kind: home, grow: true, uuid: x }",
                "7:33 `x` is not a UUID | `uuidgen` makes one; without the key it follows from the recipe",
            ),
            (
                "{ kind: home, grow: true, options: ['noatime,ro'] }",
                "7:37 `noatime,ro` is not one mount option | each option is an item of the list: `[noatime, compress=zstd]`",
            ),
            (
                "{ kind: bios-boot, grow: true, label: b, filesystem: ext4, mountpoint: /x }",
                "7:9 there can be one partition of this kind only\n7:54 a BIOS boot partition has no file system | remove the key\n7:72 this kind of partition is not mounted | remove the key",
            ),
            (
                "{ kind: hme, grow: true }",
                "7:9 `kind` cannot be `hme` | did you mean `home`? possible: `esp`, `bios-boot`, `boot`, `root`, `home`, `srv`, `var`, `tmp`, `swap`, `linux`",
            ),
            ("{ kind: home, grow: true }", ""),
            ("{ kind: linux, size: 1GiB }, { kind: home, grow: true }", ""),
        ],
    );
}

#[test]
fn partitions_make_sense_together() {
    let recipe = |partitions: &str| with_disk(&format!("{{ size: 4GiB, partitions: [\n{partitions}] }}"));
    const BOOT: &str = "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }";
    table(
        recipe,
        &[
            (
                "",
                "6:21 GRUB on a BIOS machine needs a BIOS boot partition | add `- { kind: bios-boot, size: 1MiB }`, or use `firmware: [uefi]`\n6:21 UEFI machines boot from an EFI system partition, and there is none | add `- { kind: esp, size: 64MiB }`, or use `firmware: [bios]`\n6:21 no partition holds the root file system | add `- { kind: root, grow: true }`",
            ),
            (
                "{ kind: root, grow: true }",
                "6:21 GRUB on a BIOS machine needs a BIOS boot partition | add `- { kind: bios-boot, size: 1MiB }`, or use `firmware: [uefi]`\n6:21 UEFI machines boot from an EFI system partition, and there is none | add `- { kind: esp, size: 64MiB }`, or use `firmware: [bios]`",
            ),
            (
                "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 16MiB },\n{ kind: root, grow: true }",
                "7:53 16MiB is too small: a FAT32 has at least 65525 clusters of 512 bytes, and firmware sees no other | write at least `33MiB`",
            ),
            (
                "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB, mountpoint: /esp, filesystem: ext4 },\n{ kind: root, grow: true }",
                "7:72 Debian's tools look for the ESP on `/boot/efi` or `/efi` | remove the key\n7:90 firmware reads an ESP with FAT32 only | remove the key, or write `vfat`",
            ),
            (
                "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB, mountpoint: /efi }, { kind: root, grow: true }",
                "7:72 Debian's GRUB updates itself on `/boot/efi` only | remove the key",
            ),
        ],
    );
    let with_boot = |partitions: &str| with_disk(&format!("{{ size: 4GiB, partitions: [{BOOT},\n{partitions}] }}"));
    table(
        with_boot,
        &[
            (
                "{ kind: root, grow: true },\n{ kind: root, size: 1GiB }",
                "8:9 there can be one partition of this kind only",
            ),
            (
                "{ kind: root, size: 1GiB },\n{ kind: home, size: 1GiB },\n{ kind: linux, mountpoint: /home, grow: true }",
                "9:28 two partitions are mounted on `/home`",
            ),
            (
                "{ kind: root, grow: true },\n{ kind: home, grow: true }",
                "8:21 a second partition that takes the rest of the disk | give it a `size`",
            ),
            (
                "{ kind: root, size: 3GiB },\n{ kind: home, size: 2GiB }",
                "6:15 the partitions take 5187MiB with their table, and the disk has 4GiB | write at least `5187MiB`",
            ),
            (
                "{ kind: root, size: 100MiB }",
                "7:21 100MiB for the partition `root` is too little: the packages of the stages do not fit | make it larger by at least 80MiB",
            ),
            (
                "{ kind: root, grow: true },\n{ kind: home, size: 3968MiB }",
                "6:15 61MiB for the partition `root` is too little: the packages of the stages do not fit | make it larger by at least 119MiB",
            ),
            (
                "{ kind: root, grow: true, mountpoint: /x }",
                "7:39 the root partition is mounted on `/` | remove the key, or use `kind: linux`",
            ),
            (
                "{ kind: root, grow: true, uuid: 3ce4e8c7-3a1c-4a94-9c3e-17a4a2b5b8d1 },\n{ kind: swap, size: 1GiB, uuid: 3CE4E8C7-3A1C-4A94-9C3E-17A4A2B5B8D1 }",
                "8:33 two partitions have the same UUID",
            ),
            (
                "{ kind: root, grow: true },\n{ kind: swap, size: 1GiB }, { kind: swap, size: 1GiB }",
                "8:31 two partitions have the label `swap` | give this one a `label` of its own",
            ),
        ],
    );
}

#[test]
fn a_fat_of_large_sectors_is_large() {
    let recipe = |size: &str| {
        with_disk(&format!(
            "{{ size: 4GiB, sector_size: 4096, partitions: [{{ kind: esp, size: {size} }}, {{ kind: root, grow: true }}] }}"
        ))
    };
    table(
        recipe,
        &[
            (
                "256MiB",
                "6:72 256MiB is too small: a FAT32 has at least 65525 clusters of 4096 bytes, and firmware sees no other | write at least `257MiB`",
            ),
            ("257MiB", ""),
        ],
    );
}

#[test]
fn systemd_boot_keeps_kernels_on_the_esp() {
    let recipe = |size: &str| {
        with_disk(&format!(
            "{{ size: 4GiB, partitions: [{{ kind: esp, size: {size} }}, {{ kind: root, grow: true }}] }}"
        ))
        .replace("timeout: 1", "type: systemd-boot")
    };
    table(
        recipe,
        &[
            (
                "64MiB",
                "6:53 systemd-boot keeps kernels on the ESP, and they do not fit | write at least `128MiB`; `512MiB` leaves room for updates",
            ),
            ("512MiB", ""),
        ],
    );
}

#[test]
fn options_of_the_root_reach_the_kernel() {
    let recipe = |option: &str| {
        let root = format!("{{ kind: root, grow: true, options: [{option}] }}");
        let others = "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }";
        with_disk(&format!("{{ size: 4GiB, partitions: [{others},\n{root}] }}"))
    };
    table(recipe, &[("noatime", ""), ("data=journal", "")]);
    let without_kernel = "apt, options: { packages: [linux-image-amd64] }";
    let said = said(&recipe("data=journal").replace("type: kernel", &format!("type: {without_kernel}")));
    assert_eq!(
        said,
        "7:37 the kernel has to be told `data=journal`, and no stage sets its arguments | add a stage `kernel`\n"
    );
}
