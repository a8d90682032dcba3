use super::*;

#[test]
fn keys_and_types_are_those_of_a_recipe() {
    table(
        with_line,
        &[
            (
                "outputs: { formats: [raw] }",
                "7:1 the recipe has no key `outputs` | did you mean `output`? keys: `architecture`, `base-image`, `description`, `disk`, `engine`, `name`, `network`, `output`, `resources`, `stages`, `tests`, `variables`",
            ),
            (
                "output: { formts: [raw] }",
                "7:11 `output` has no key `formts` | did you mean `formats`? keys: `container`, `formats`",
            ),
            ("output: { formats: qcow2 }", "7:20 `formats` is a list, and not a text | write `[qcow2]`"),
            (
                "output: { formats: [qcow, iso] }",
                "7:21 an item of `formats` cannot be `qcow` | did you mean `qcow2`? possible: `raw`, `qcow2`, `vmdk`, `vdi`, `vhd`, `vhdx`, `oci-archive`, `oci`, `docker-archive`, `ostree-repo`, `tar`\n7:27 an item of `formats` cannot be `iso` | possible: `raw`, `qcow2`, `vmdk`, `vdi`, `vhd`, `vhdx`, `oci-archive`, `oci`, `docker-archive`, `ostree-repo`, `tar`",
            ),
            ("output: [raw]", "7:1 `output` is a mapping, and not a list"),
            ("output:", ""),
            ("output: { formats: }", ""),
            ("description: ~", ""),
            ("resources: { cpus: , memory: ~ }", ""),
            ("tests:", ""),
            (
                "tests: [{ name: , run: ~ }]",
                "7:11 `name` is a text, and not empty | give it a value\n7:24 `run` is a text, and not empty | give it a value",
            ),
            ("description: 42", "7:14 `description` is a text, and not the number 42 | write it in quotes: `\"42\"`"),
            ("description: [a, b]", "7:1 `description` is a text, and not a list"),
            ("description: true", "7:14 `description` is a text, and not `true` | write it in quotes: `\"true\"`"),
            ("architecture: arm64", "7:15 `architecture` cannot be `arm64` | possible: `amd64`"),
            (
                "tests: [{ nam: x }]",
                "7:11 an item of `tests` has no key `nam` | did you mean `name`? keys: `diag`, `expect`, `name`, `reboot`, `run`, `timeout`\n7:11 an item of `tests` lacks the key `run` | `run`: Shell command that root runs in the booted image.",
            ),
            ("tests: { name: x }", "7:1 `tests` is a list, and not a mapping"),
            (
                "tests: [{ name: x, run: y, timeout: 5 }]",
                "7:37 `timeout` is a length of time like `20min`, and not the number 5 | give it a unit: `5s` or `5min`",
            ),
            (
                "tests: [{ name: x, run: y, timeout: soon }]",
                "7:37 `soon` is no length of time: write a number and a unit, like `20min`",
            ),
            ("resources: { cpus: -1 }", "7:20 `cpus` is a whole number from 0, and not the number -1"),
            ("resources: { cpus: 5000000000 }", "7:20 5000000000 is more than the 4294967295 that are possible"),
            (
                "resources: { cpus: '2' }",
                "7:20 `cpus` is a whole number from 0, and not a text | write it without quotes",
            ),
            ("resources: { cpus: 'x' }", "7:20 `cpus` is a whole number from 0, and not a text"),
            (
                "resources: { memory: -5 }",
                "7:22 `memory` is a size like `4GiB`, and not the number -5 | write a number and a unit, like `4GiB`",
            ),
            (
                "resources: { memory: true }",
                "7:22 `memory` is a size like `4GiB`, and not `true` | write a number and a unit, like `4GiB`",
            ),
            (
                "resources: { memory: 1e9 }",
                "7:22 `memory` is a size like `4GiB`, and not the number 1000000000.0 | write a number and a unit, like `4GiB`",
            ),
            (
                "resources: { memory: 1.5 }",
                "7:22 `memory` is a size like `4GiB`, and not the number 1.5 | give it a unit: `1.5GiB`",
            ),
            (
                "1: x",
                "7:1 the recipe has no key `1` | keys: `architecture`, `base-image`, `description`, `disk`, `engine`, `name`, `network`, `output`, `resources`, `stages`, `tests`, `variables`",
            ),
        ],
    );
    table(
        str::to_owned,
        &[
            ("hello", "1:1 the recipe is a mapping, and not a text"),
            ("- a", "1:1 the recipe is a mapping, and not a list"),
            (
                "name: x",
                "1:1 the recipe lacks the key `disk` | `disk`: The disk that is made; the formats `oci-archive`, `oci`, `docker-archive`, `ostree-repo` and `tar` need none\n1:1 the recipe lacks the key `stages` | `stages`: What is done, in this order.",
            ),
        ],
    );
}

#[test]
fn stages_have_a_type_and_options() {
    table(
        with_stage,
        &[
            (
                "atp, options: { packages: [vim] }",
                "6:13 there is no stage type `atp` | did you mean `apt`? types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            (
                "org.osbuild.debian.atp",
                "6:13 there is no stage type `org.osbuild.debian.atp` | did you mean `org.osbuild.debian.apt`? types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            (
                "qqqq",
                "6:13 there is no stage type `qqqq` | types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            (
                "org.osbuild.rpm",
                "6:13 there is no stage type `org.osbuild.rpm` | types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            (
                "apt-get, options: { packages: [vim] }",
                "6:13 there is no stage type `apt-get` | did you mean `apt`? types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            ("[apt]", "6:7 `type` is the name of a stage, and not a list"),
            (
                "apt",
                "6:7 the stage `apt` lacks the key `packages` | `packages`: Packages as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove.",
            ),
            ("apt, options: [vim]", "6:18 the stage `apt` is a mapping, and not a list"),
            (
                "apt, options:",
                "6:18 the stage `apt` lacks the key `packages` | `packages`: Packages as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove.",
            ),
            (
                "apt, packages: [vim]",
                "6:18 the stage `apt` has `packages` outside of its options | write `options: { packages: ... }`, or indent it beneath `options:`",
            ),
            (
                "apt, option: { packages: [vim] }",
                "6:18 the stage `apt` has no key `option` | did you mean `options`? keys: `type`, `options`, `name`, `timeout`, `cache`",
            ),
            (
                "apt, options: { package: [vim], recommends: yes }",
                "6:29 the stage `apt` has no key `package` | did you mean `packages`? keys: `packages`, `recommends`, `upgrade`\n6:57 `recommends` is `true` or `false`, and not a text",
            ),
            ("apt, options: { packages: vim }", "6:39 `packages` is a list, and not a text | write `[vim]`"),
            ("org.osbuild.debian.apt-install, options: { packages: [vim] }", ""),
            (
                "users, options: { users: { deb: { sshkeys: [a], uid: abc } } }",
                "6:47 `deb` has no key `sshkeys` | did you mean `ssh_keys`? keys: `description`, `gid`, `groups`, `home`, `password`, `shell`, `ssh_keys`, `uid`\n6:66 `uid` is a whole number from 0, and not a text",
            ),
            (
                "users, options: { users: { deb: } }",
                "6:40 `deb` is a mapping, and not empty | write `{}` for the defaults",
            ),
            ("users, options: { users: { deb: { groups: , ssh_keys: ~ } } }", ""),
            (
                "files, options: { files: { /etc/motd: { content: } } }",
                "6:53 `content` is a text, and not empty | give it a value",
            ),
            ("files, options: { files: { /etc/motd: hello } }", "6:51 `/etc/motd` is a mapping, and not a text"),
            ("files, options: { files: { /etc/motd: { content: hello, mode: 0600 } } }", ""),
        ],
    );
    table(
        |stage| GOOD.replace("disk:", &format!("  - {stage}\ndisk:")),
        &[
            (
                "options: { packages: [vim] }",
                "6:5 a stage lacks the key `type` | types: `debootstrap`, `sources`, `apt`, `kernel`, `locale`, `timezone`, `keymap`, `hostname`, `users`, `files`, `copy`, `run`, `systemd`, `bootloader`, `bootc`, `bootc.install`, `bootupd`, `ostree.init`, `ostree.config`, `ostree.pull`, `ostree.remotes`, `ostree.commit`, `ostree.deploy`",
            ),
            ("apt", "6:5 a stage is a mapping with `type` and `options`, and not a text"),
            ("", "6:5 a stage is a mapping with `type` and `options`, and not empty"),
        ],
    );
}

#[test]
fn everything_is_told_in_one_go() {
    table(
        str::to_owned,
        &[(
            "name: All Wrong
stages:
  - type: debootstrap
    options: { suit: trixie }
  - type: apt
    options: { packages: [vim, Emacs] }
  - type: timezone
    options: { zone: Mars/Olympus }
  - type: bootloader
disk:
  size: 0
outputs: { formats: [raw] }
tests:
  - name: x
    run: y
    expects: z
",
            "1:7 `All Wrong` is not a name of an image | small letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 63 characters
4:16 the stage `debootstrap` has no key `suit` | did you mean `suite`? keys: `components`, `include`, `keyring`, `mirror`, `suite`, `variant`
6:32 `Emacs` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove
8:22 there is no time zone `Mars/Olympus` | for instance `Europe/Berlin` or `Etc/UTC`
11:9 the disk has a size of 0 | a minimal Debian takes 1GiB, a comfortable one 4GiB
12:1 the recipe has no key `outputs` | did you mean `output`? keys: `architecture`, `base-image`, `description`, `disk`, `engine`, `name`, `network`, `output`, `resources`, `stages`, `tests`, `variables`
16:5 an item of `tests` has no key `expects` | did you mean `expect`? keys: `diag`, `expect`, `name`, `reboot`, `run`, `timeout`",
        )],
    );
}

#[test]
fn what_cannot_be_read_hides_nothing_beside_it() {
    table(
        with_stage,
        &[
            (
                "users, options: { users: { BOB: { uid: 65535 }, al: { uid: x, home: rel } } }",
                "6:40 `BOB` is not a user name | small letters, digits, `_` and `-`, beginning with a letter, at most 32 characters\n6:52 65535 cannot be an id | people's ids begin with 1000\n6:72 `uid` is a whole number from 0, and not a text\n6:81 `rel` is not an absolute path",
            ),
            (
                "apt, timeout: 0s, options: { packages: [Vim, [x], -o], recommends: 1 }",
                "6:27 a timeout is between 1s and 7days, and not 0s\n6:53 `Vim` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove\n6:58 an item of `packages` is a text, and not a list\n6:63 `-o` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove\n6:80 `recommends` is `true` or `false`, and not the number 1",
            ),
            // Nor is anything said about what stands in for it.
            ("run, options: { script: [x] }", "6:29 `script` is a text, and not a list"),
            (
                "run, options: { skript: x }",
                "6:29 the stage `run` has no key `skript` | did you mean `script`? keys: `environment`, `file`, `script`",
            ),
            (
                "systemd, enable: [x]",
                "6:22 the stage `systemd` has `enable` outside of its options | write `options: { enable: ... }`, or indent it beneath `options:`",
            ),
        ],
    );
    table(
        with_disk,
        &[
            (
                "{ size: 0, sector_size: '512', partitions: [{ kind: esp, size: 1MiB, grow: true }] }",
                "6:15 the disk has a size of 0 | a minimal Debian takes 1GiB, a comfortable one 4GiB\n6:31 `sector_size` is a whole number from 0, and not a text | write it without quotes\n6:38 no partition holds the root file system | add `- { kind: root, grow: true }`\n6:70 1MiB is too small: a FAT32 has at least 65525 clusters of 512 bytes, and firmware sees no other | write at least `33MiB`\n6:82 this partition has a size and grows | keep `size` or `grow: true`",
            ),
            (
                "{ size: 4GiB, partitions: [{ kind: rot, grow: true }, { kind: home, size: 1GB }] }",
                "6:42 `kind` cannot be `rot` | did you mean `root`? possible: `esp`, `bios-boot`, `boot`, `root`, `home`, `srv`, `var`, `tmp`, `swap`, `linux`\n6:81 the size is not a multiple of 1MiB | GB and MB count in thousands; write `1GiB`",
            ),
            (
                "{ size: [1], partitions: [{ kind: home, mountpoint: x, size: 1GiB }] }",
                "6:9 `size` is a size like `4GiB`, and not a list\n6:20 no partition holds the root file system | add `- { kind: root, grow: true }`\n6:59 `x` is not an absolute path | for instance `/srv`",
            ),
        ],
    );
    table(
        with_line,
        &[
            (
                "output: { formats: [raw, qcow, raw] }",
                "7:26 an item of `formats` cannot be `qcow` | did you mean `qcow2`? possible: `raw`, `qcow2`, `vmdk`, `vdi`, `vhd`, `vhdx`, `oci-archive`, `oci`, `docker-archive`, `ostree-repo`, `tar`\n7:32 the format `raw` is named twice | remove one",
            ),
            (
                "tests: [{ name: [a], run: '' }, { run: '' }]",
                "7:11 `name` is a text, and not a list\n7:27 the test runs nothing\n7:35 an item of `tests` lacks the key `name` | `name`: What it proves, in a few words.\n7:40 the test runs nothing",
            ),
        ],
    );
}
