use super::*;

#[test]
fn options_of_stages_make_sense() {
    table(
        with_stage,
        &[
            ("apt, options: { packages: [] }", ""),
            ("apt, options: { packages: [], upgrade: true }", ""),
            ("apt, options: { packages: [vim, Vim, -o=x] }", ""),
            ("sources, options: { sources: [] }", ""),
            ("sources, options: { sources: [], keep: true }", ""),
            ("sources, options: { sources: [{ name: a b, suites: [], types: [rpm], uris: [ftp://x/] }] }", ""),
            ("sources, options: { sources: [{ name: a, suites: [./], uris: [nonsense] }] }", ""),
            ("sources, options: { sources: [{ name: a, suites: [a], components: [] }, { name: a, suites: [b] }] }", ""),
            ("sources, options: { sources: [{ name: a, suites: [a], uris: ['http://me:pw@example.org/'] }] }", ""),
            ("locale, options: { language: en_US, generate: [german, de-DE.UTF-8] }", ""),
            ("timezone, options: { zone: Europe/Berln }", ""),
            ("hostname, options: { hostname: my_host }", ""),
            ("users, options: { users: {} }", ""),
            (
                "users, options: { users: { Deb: {}, a: { uid: 5, home: x, shell: /bin/b:c }, b: { uid: 5, groups: [A] } } }",
                "",
            ),
            ("users, options: { users: { a: { uid: 0, gid: 65535, description: 'a:b' } } }", ""),
            ("users, options: { users: { a: { password: '$6$x', ssh_keys: [nonsense, ssh-rsa AAAA] } } }", ""),
            ("users, options: { users: { a: { password: '' } } }", ""),
            ("systemd", ""),
            ("systemd, options: { enable: [ssh, a b], mask: [ssh.service], default_target: multi-user }", ""),
            ("run", ""),
            ("run, options: { script: ' ' }", ""),
            ("run, options: { script: 'true', file: x, environment: { 1A: x } }", ""),
            ("run, timeout: 0s, name: '', options: { script: 'true' }", ""),
            ("files, options: { files: {} }", ""),
            ("files, options: { files: { etc/motd: { content: x, mode: rw, owner: a b } } }", ""),
        ],
    );
}

#[test]
fn the_tree_is_made_as_said() {
    let with_tree = |options: &str| GOOD.replace("suite: trixie", options);
    table(
        with_tree,
        &[
            ("suite: Tri xie, mirror: 'file:///x', components: [], include: [A]", ""),
            ("suite: trixie, mirror: example.org/debian, keyring: keys.gpg", ""),
            ("suite: trixie, variant: essential", ""),
        ],
    );
}

#[test]
fn the_kernel_takes_arguments() {
    table(
        |options| GOOD.replace("type: kernel", &format!("type: kernel, options: {options}")),
        &[("{ package: Linux, cmdline: [quiet splash, root=/dev/sda1, ''] }", "")],
    );
}

#[test]
fn the_bootloader_fits_the_firmware() {
    table(
        |options| GOOD.replace("{ timeout: 1 }", options),
        &[("{ type: systemd-boot, firmware: [uefi, bios] }", ""), ("{ firmware: [bios, bios], timeout: 9999 }", "")],
    );
}

#[test]
fn stages_come_in_order() {
    let stages = |stages: &str| format!("name: x\nstages:\n{stages}disk: {{ size: 4GiB }}\n");
    table(
        stages,
        &[
            ("  []\n", ""),
            ("  - { type: hostname, options: { hostname: x } }\n", ""),
            ("  - { type: kernel }\n  - { type: debootstrap, options: { suite: trixie } }\n", ""),
            (
                "  - { type: debootstrap, options: { suite: trixie } }\n  - { type: debootstrap, options: { suite: trixie } }\n",
                "",
            ),
            ("  - { type: debootstrap, options: { suite: trixie } }\n  - { type: bootloader }\n", ""),
        ],
    );
}

#[test]
fn the_other_parts_make_sense() {
    table(
        with_line,
        &[
            ("network: { allow: ['https://example.org/', '*', 'a b', ok.example.org] }", ""),
            ("output: { formats: [] }", ""),
            ("output: { formats: [raw, raw] }", ""),
            ("resources: { memory: 1MiB, scratch: 1GB, cpus: 0 }", ""),
            ("tests: [{ name: a, run: '' }, { name: a, run: x, expect: '', timeout: 100days }]", ""),
        ],
    );
    let without_bootloader =
        |line: &str| with_line(line).replace("  - { type: bootloader, options: { timeout: 1 } }\n", "");
    table(without_bootloader, &[("tests: [{ name: a, run: x }]", "")]);
    table(|name| GOOD.replace("good", name), &[("Bad Name", ""), ("../x", "")]);
}
