use super::*;

#[test]
fn the_disk_has_a_size() {
    table(
        with_disk,
        &[
            ("{ size: 0 }", ""),
            ("{ size: 1EiB }", ""),
            ("{ size: 4GB }", ""),
            ("{ size: 1025KiB }", ""),
            ("{ size: 100MiB }", ""),
            ("{ size: much }", ""),
            ("{ size: 4GiB, filesystem: vfat }", ""),
            ("{ size: 4GiB, sector_size: 1024 }", ""),
            ("{ size: 4GiB, sector_size: 4096 }", ""),
        ],
    );
}

#[test]
fn a_bios_does_not_boot_from_large_sectors() {
    let recipe = |disk: &str| with_disk(disk).replace("timeout: 1", "firmware: [bios]");
    table(recipe, &[("{ size: 4GiB, sector_size: 4096 }", "")]);
}

#[test]
fn partitions_make_sense_alone() {
    const OTHERS: &str = "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, size: 2GiB }";
    let recipe = |partition: &str| with_disk(&format!("{{ size: 9GiB, partitions: [{OTHERS},\n{partition}] }}"));
    table(
        recipe,
        &[
            ("{ kind: home }", ""),
            ("{ kind: home, size: 0 }", ""),
            ("{ kind: home, size: 1GB, grow: false }", ""),
            ("{ kind: home, size: 1GiB, grow: true }", ""),
            ("{ kind: home, size: 1MiB }", ""),
            ("{ kind: home, size: 100MiB, filesystem: xfs }", ""),
            ("{ kind: home, size: 100MiB, filesystem: btrfs }", ""),
            ("{ kind: home, grow: true, mountpoint: home }", ""),
            ("{ kind: home, grow: true, mountpoint: / }", ""),
            ("{ kind: linux, grow: true, mountpoint: /proc/x }", ""),
            ("{ kind: linux, grow: true, mountpoint: /etc }", ""),
            ("{ kind: swap, grow: true, mountpoint: /swap, filesystem: ext4 }", ""),
            ("{ kind: home, grow: true, filesystem: swap }", ""),
            ("{ kind: home, grow: true, filesystem: vfat }", ""),
            ("{ kind: home, grow: true, label: a label }", ""),
            ("{ kind: home, grow: true, filesystem: xfs, label: thirteen-char }", ""),
            ("{ kind: home, grow: true, uuid: 123 }", ""),
            ("{ kind: home, grow: true, uuid: x }", ""),
            ("{ kind: home, grow: true, options: ['noatime,ro'] }", ""),
            ("{ kind: bios-boot, grow: true, label: b, filesystem: ext4, mountpoint: /x }", ""),
            ("{ kind: hme, grow: true }", ""),
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
            ("", ""),
            ("{ kind: root, grow: true }", ""),
            ("{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 16MiB },\n{ kind: root, grow: true }", ""),
            (
                "{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB, mountpoint: /esp, filesystem: ext4 },\n{ kind: root, grow: true }",
                "",
            ),
        ],
    );
    let with_boot = |partitions: &str| with_disk(&format!("{{ size: 4GiB, partitions: [{BOOT},\n{partitions}] }}"));
    table(
        with_boot,
        &[
            ("{ kind: root, grow: true },\n{ kind: root, size: 1GiB }", ""),
            (
                "{ kind: root, size: 1GiB },\n{ kind: home, size: 1GiB },\n{ kind: linux, mountpoint: /home, grow: true }",
                "",
            ),
            ("{ kind: root, grow: true },\n{ kind: home, grow: true }", ""),
            ("{ kind: root, size: 3GiB },\n{ kind: home, size: 2GiB }", ""),
            ("{ kind: root, size: 100MiB }", ""),
            ("{ kind: root, grow: true },\n{ kind: home, size: 3968MiB }", ""),
            ("{ kind: root, grow: true, mountpoint: /x }", ""),
            (
                "{ kind: root, grow: true, uuid: 3ce4e8c7-3a1c-4a94-9c3e-17a4a2b5b8d1 },\n{ kind: swap, size: 1GiB, uuid: 3ce4e8c7-3a1c-4a94-9c3e-17a4a2b5b8d1 }",
                "",
            ),
            ("{ kind: root, grow: true },\n{ kind: swap, size: 1GiB }, { kind: swap, size: 1GiB }", ""),
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
    table(recipe, &[("256MiB", ""), ("257MiB", "")]);
}

#[test]
fn systemd_boot_keeps_kernels_on_the_esp() {
    let recipe = |size: &str| {
        with_disk(&format!(
            "{{ size: 4GiB, partitions: [{{ kind: esp, size: {size} }}, {{ kind: root, grow: true }}] }}"
        ))
        .replace("timeout: 1", "type: systemd-boot")
    };
    table(recipe, &[("64MiB", ""), ("512MiB", "")]);
}
