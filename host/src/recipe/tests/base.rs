use super::*;
use particle_vm_protocol::stage::{BootloaderType, Firmware};
use particle_vm_protocol::{Engine, SectorSize};

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
            ("disk: {}", ""),
            ("disk: { filesystem: xfs, min_size: 20GiB }", ""),
            (
                "disk: { min_size: 20GB }",
                "3:19 the size is not a multiple of 1MiB | GB and MB count in thousands; write `20GiB`",
            ),
            (
                "disk: { size: 8GiB, min_size: 20GiB }",
                "3:21 `min_size` is for a disk without a `size` | remove one of them",
            ),
            ("engine: nativ", "3:9 `engine` cannot be `nativ` | possible: `native-ostree`, `bootc`, `plain`"),
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
                "disk: { size: 8GiB, partitions: [{ kind: esp, size: 64MiB }, { kind: root, grow: true }] }",
                "4:21 GRUB on a BIOS machine needs a BIOS boot partition | add `- { kind: bios-boot, size: 1MiB }`, or use `firmware: [uefi]`",
            ),
            (
                "disk: { size: 8GiB, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 64MiB }, { kind: root, grow: true }, { kind: linux, label: d, mountpoint: /data, size: 1GiB }] }",
                "4:160 `/data` is read-only in a system that is deployed from a container image | mount it beneath `/var`",
            ),
        ],
    );
    table(
        |lines| {
            based(&format!(
                "engine: plain\nstages: [{lines}]\ndisk: {{ size: 8GiB, partitions: [{{ kind: bios-boot, size: 1MiB }}, {{ kind: esp, size: 64MiB }}, {{ kind: root, grow: true, options: [data=journal] }}] }}"
            ))
        },
        &[
            ("{ type: bootloader }, { type: kernel }", ""),
            (
                "{ type: bootloader }",
                "5:131 the kernel has to be told `data=journal`, and no stage sets its arguments | add a stage `kernel`",
            ),
        ],
    );
    assert_eq!(
        said("name: x\nbase-image: oci:i\nengine: plain\n"),
        "2:13 the image becomes a plain system, and no stage makes it boot | add the stage `bootloader`, and `kernel` if the image has none\n"
    );
}

#[test]
fn the_composefs_backend_boots_by_systemd_boot() {
    let settled = |lines: &str, unified| {
        let mut recipe = parse(Source::new("r.yml", based(lines)), FilePath::new("."), &BTreeMap::new()).unwrap();
        let settled =
            recipe.settle_composefs(unified).map_err(|findings| told(&findings.iter().cloned().collect::<Vec<_>>()));
        settled.map(|()| recipe)
    };
    let recipe = settled("disk: { size: 8GiB }", true).unwrap();
    assert_eq!(recipe.bootloader().unwrap().kind, BootloaderType::SystemdBoot);
    assert_eq!(firmwares(recipe.bootloader(), SectorSize::B512), [Firmware::Uefi]);
    let own = "stages: [{ type: bootloader, options: { type: systemd-boot, timeout: 9 } }]";
    assert_eq!(settled(own, false).unwrap().bootloader().unwrap().timeout, 9);
    assert_eq!(
        settled("stages: [{ type: bootloader }]", false).unwrap_err(),
        "3:12 the image is for bootc's composefs backend, whose disks get systemd-boot | write `options: { type: systemd-boot }`, or remove the stage\n"
    );
    let disk = |esp: &str| {
        let partitions = format!("[{{ kind: bios-boot, size: 1MiB }}, {esp}{{ kind: root, grow: true }}]");
        settled(&format!("disk: {{ size: 8GiB, partitions: {partitions} }}"), false)
    };
    assert!(disk("{ kind: esp, size: 512MiB }, ").is_ok());
    assert!(disk("{ kind: esp, size: 64MiB }, ").unwrap_err().contains("they do not fit | write at least `128MiB`"));
    let disk = "disk: { size: 8GiB, partitions: [{ kind: bios-boot, size: 1MiB }, { kind: esp, size: 512MiB }, { kind: root, grow: true, options: [noatime] }] }";
    assert!(settled(disk, false).is_ok());
    assert_eq!(
        settled(disk, true).unwrap_err(),
        "3:122 the root has mount options, and the kernel of the image is a unified one, which cannot be told | write `rootflags=` into the unified kernel of the image\n"
    );
    assert!(settled(&disk.replace("noatime", "rw"), true).is_ok());
    let cmdline = "stages: [{ type: kernel, options: { cmdline: [quiet] } }]";
    assert!(settled(cmdline, false).is_ok());
    assert_eq!(
        settled(cmdline, true).unwrap_err(),
        "3:37 the kernel of the image is a unified one, which has its command line in it | write it into the unified kernel of the image\n"
    );
}

#[test]
fn an_image_installs_itself_by_a_stage() {
    let text = based(
        "stages:\n  - type: org.osbuild.bootc.install-to-filesystem\n    options: { kernel_args: [quiet], target_imgref: 'r.example/os:1' }",
    );
    let recipe = parse(Source::new("r.yml", text), FilePath::new("."), &BTreeMap::new()).unwrap();
    assert_eq!(recipe.engine, Some(Engine::Bootc));
    table(
        based,
        &[
            (
                "stages: [{ type: kernel }, { type: bootc.install, options: { kernel_args: ['a b'] } }]",
                "3:36 the image is installed before stages work in it | put the stage first\n3:76 `a b` is not one kernel argument | each argument is an item of the list: `[quiet, console=ttyS0]`",
            ),
            (
                "engine: plain\nstages: [{ type: bootc.install }]",
                "4:18 the recipe has another `engine` | remove the stage, or write `engine: bootc`",
            ),
            (
                "stages: [{ type: bootc.install, options: { target_imgref: 'oci:a' } }]",
                "3:59 `oci:a` is in no registry | write `HOST/NAME:TAG`; what is in a file cannot be reached from the installed system",
            ),
        ],
    );
    let own = "name: x\nstages:\n  - { type: debootstrap, options: { suite: trixie } }\n  - { type: bootc.install }\ndisk: { size: 4GiB }\n";
    assert_eq!(said(own), "4:13 there is no container image to install | add a `base-image`\n");
}

#[test]
fn archives_are_made_of_a_tree_and_not_of_a_deployment() {
    table(
        |lines| based(&format!("engine: native-ostree\n{lines}")),
        &[
            ("output: { formats: [raw, qcow2] }", ""),
            (
                "output: { formats: [raw, oci] }",
                "2:13 the image is deployed on a disk, and `oci` is made of a tree of files | remove the format, or write `engine: plain`",
            ),
        ],
    );
    table(
        |lines| based(&format!("engine: plain\n{lines}")),
        &[
            // Neither needs to be written: the size of the disk follows from the image, and a container has none.
            ("output: { formats: [raw, tar] }\nstages: [{ type: bootloader }]", ""),
            ("output: { formats: [oci, docker-archive] }", ""),
            (
                "output: { formats: [oci] }\ndisk: { size: 4GiB }",
                "5:1 none of the formats is a disk | remove the key, or add a format that is a disk, for instance `qcow2`",
            ),
            (
                "output: { formats: [oci] }\nstages: [{ type: bootloader }]",
                "5:18 there is no disk for the bootloader | remove the stage, or add a format that is a disk, for instance `qcow2`",
            ),
        ],
    );
    let source = Source::new("r.yml", based("output: { formats: [oci] }"));
    let mut recipe = parse(source, FilePath::new("."), &BTreeMap::new()).unwrap();
    // What the image asks for is known only when it has been fetched, and the command line may name others.
    assert!(recipe.check_formats(&[Format::Qcow2, Format::OciArchive]).is_ok());
    assert!(recipe.fits(Engine::Plain).is_ok());
    assert!(recipe.fits(Engine::NativeOstree).is_err());
    recipe.output.formats = vec![Format::Qcow2];
    assert!(recipe.fits(Engine::NativeOstree).is_ok());
    assert!(recipe.fits(Engine::Plain).is_err());
}
