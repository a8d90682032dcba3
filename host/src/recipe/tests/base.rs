use super::*;

/// A recipe that starts from an image, with more lines.
fn based(lines: &str) -> String {
    format!("name: x\nbase-image: oci:image\n{lines}\n")
}

#[test]
fn an_image_needs_neither_stages_nor_a_disk() {
    table(
        based,
        &[
            ("", ""),
            ("stages: []", ""),
            ("stages: [{ type: hostname, options: { hostname: h } }]\ntests: [{ name: t, run: 'true' }]", ""),
            (
                "stages: [{ type: debootstrap, options: { suite: trixie } }]",
                "3:18 `debootstrap` makes a tree, and the recipe has a `base-image` that is one | remove the stage, or the `base-image`",
            ),
            ("disk: {}", "3:1 `disk` lacks the key `size` | `size`: Size of the disk, a multiple of 1 MiB."),
            ("engine: nativ", "3:9 `engine` cannot be `nativ` | possible: `native-ostree`, `plain`, `bootc`"),
        ],
    );
    assert_eq!(
        said(
            "name: x\nengine: plain\nstages: [{ type: debootstrap, options: { suite: trixie } }]\ndisk: { size: 4GiB }\n"
        ),
        "2:9 `engine` says how a container image becomes a system, and there is none | add a `base-image`, or remove the key\n"
    );
    assert_eq!(
        said("name: x\nbase-image: 'a b'\n"),
        "2:13 this is no reference of an image | for instance `oci:./image:latest`\n"
    );
    // A key without a value is as if it were left out.
    assert!(said("name: x\nbase-image:\n").contains("the recipe lacks the key `stages`"));
}

#[test]
fn what_a_deployment_has_no_place_for_is_told() {
    const HELP: &str = "do it in the container image, or write `engine: plain`";
    table(
        |lines| based(&format!("engine: native-ostree\n{lines}")),
        &[
            ("", ""),
            (
                "stages: [{ type: apt, options: { packages: [vim] } }]",
                &format!("4:18 the stage `apt` writes to `/usr`, which is the container image's here | {HELP}"),
            ),
            ("stages: [{ type: kernel, options: { cmdline: [quiet] } }]", ""),
            (
                "stages: [{ type: kernel, options: { package: linux-image-amd64 } }]",
                "4:46 the kernel comes from the container image | remove the key; `cmdline` can stay",
            ),
            ("stages: [{ type: files, options: { files: { /etc/a: { content: x }, /var/b: { content: x } } } }]", ""),
            (
                "stages: [{ type: users, options: { users: { a: { home: /data/a } } } }]",
                "4:56 `/data/a` is read-only in a system that is deployed from a container image | for instance a folder in `/var/home`",
            ),
            (
                "disk: { size: 8GiB, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true }, { kind: linux, label: d, mountpoint: /data, size: 1GiB }] }",
                "4:160 `/data` is read-only in a system that is deployed from a container image | mount it beneath `/var`",
            ),
        ],
    );
    assert_eq!(
        said("name: x\nbase-image: oci:i\nengine: plain\n"),
        "2:13 the image becomes a plain system, and no stage makes it boot | add the stage `bootloader`, and `kernel` if the image has none\n"
    );
}
