use super::*;

#[test]
fn options_of_stages_make_sense() {
    table(
        with_stage,
        &[
            (
                "apt, options: { packages: [] }",
                "6:29 `packages` is an empty list | name packages, set `upgrade: true`, or remove the stage",
            ),
            ("apt, options: { packages: [], upgrade: true }", ""),
            (
                "apt, options: { packages: [nano, vim, nano-] }",
                "6:51 `nano` is to be installed and to be removed | keep one of them",
            ),
            (
                "users, options: { users: { a: { home: /, shell: /bin/, groups: [sudo, sudo] } } }",
                "6:51 `/` is nobody's home | leave it out, or write `/nonexistent` for a user without one\n6:61 a shell is a program, and this is a folder | for instance `/bin/bash`\n6:83 the group `sudo` is named twice",
            ),
            (
                "files, options: { files: { /a: { content: x }, /a/b: { content: x }, /etc: { content: x } } }",
                "6:40 `/a` is a file, so that `/a/b` cannot lie in it | keep one of them\n6:82 `/etc` is a folder of every Debian system | name a file in it",
            ),
            (
                "files, options: { files: { /run/x: { content: x }, /runner: { content: x } } }",
                "6:40 what is put to `/run/x` is lost: something else is mounted there | choose another place, or make it at each boot with tmpfiles.d(5)",
            ),
            (
                "apt, options: { packages: [vim, Vim, -o=x] }",
                "6:45 `Vim` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove\n6:50 `-o=x` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove",
            ),
            (
                "kernel, options: { cmdline: ['a$b;c', 'a=\"b\"'] }",
                "6:13 a second stage `kernel` | stage 2 is one already; keep one of them\n6:51 `a=\"b\"` does not reach the kernel as it stands here | remove the quotes: an argument without blanks needs none",
            ),
            (
                "sources, options: { sources: [] }",
                "6:33 `sources` is an empty list | an image without sources gets no updates",
            ),
            (
                "sources, options: { sources: [], keep: true }",
                "6:33 this stage does nothing | name a source, or remove the stage",
            ),
            (
                "sources, options: { sources: [{ name: a b, suites: [], types: [rpm], uris: [ftp://x/] }] }",
                "6:51 `a b` is not a name of a source | the name of a file in sources.list.d: letters, digits, `_`, `-` and `.`\n6:56 `suites` is an empty list\n6:76 `rpm` is not a type | it is `deb` or `deb-src`\n6:89 the build cannot fetch from `ftp://x/` | a mirror is a URL that begins with `http://` or `https://`",
            ),
            (
                "sources, options: { sources: [{ name: a, suites: [./], uris: [nonsense] }] }",
                "6:54 a flat archive has components | a suite that ends in `/` is a folder without components: write `components: []`\n6:75 `nonsense` is not a URL: relative URL without a base | a mirror is a URL that begins with `http://` or `https://`",
            ),
            (
                "sources, options: { sources: [{ name: a, suites: [a], components: [] }, { name: a, suites: [b] }] }",
                "6:67 `components` is an empty list | remove the key, or write `[main]`\n6:93 two sources are called `a`",
            ),
            (
                "sources, options: { sources: [{ name: a, suites: [a], uris: ['http://me:pw@example.org/'] }] }",
                "6:74 a mirror with a password in it | it would stand in the image; use a mirror without",
            ),
            (
                "locale, options: { language: en_US, generate: [german, de-DE.UTF-8] }",
                "6:42 `en_US` is not a locale | did you mean `en_US.UTF-8`?\n6:60 `german` is not a locale | for instance `en_US.UTF-8`\n6:68 `de-DE.UTF-8` is not a locale | did you mean `de_DE.UTF-8`?",
            ),
            (
                "locale, options: { language: xx_YY.UTF-8, generate: [de_DD.UTF-8, de_DE.ISO-8859-15@euro, C, vi_VN.UTF-8, C.UTF-8] }",
                "6:42 there is no locale `xx_YY.UTF-8` | for instance `en_US.UTF-8`\n6:66 there is no locale `de_DD.UTF-8` | did you mean `de_DE.UTF-8`?",
            ),
            (
                "timezone, options: { zone: Europe/Berln }",
                "6:40 there is no time zone `Europe/Berln` | did you mean `Europe/Berlin`?",
            ),
            (
                "keymap, options: { layout: 'de-latin1,uk', variant: x }",
                "6:40 there is no keyboard layout `de-latin1` | did you mean `de`?\n6:40 there is no keyboard layout `uk` | did you mean `gb`?",
            ),
            (
                "keymap, options: { layout: de, variant: 'nodeadkey,x', model: '', options: ['a b'] }",
                "6:53 the keyboard layout `de` has no variant `nodeadkey` | did you mean `nodeadkeys`?\n6:53 there are more variants than layouts\n6:75 `` is not a keyboard model | for instance `pc105`\n6:89 `a b` is not an option of XKB | letters, digits, `_`, `-`, `+` and `:`, for instance `grp:alt_shift_toggle`",
            ),
            (
                "hostname, options: { hostname: my_host }",
                "6:44 `my_host` is not a host name | letters, digits and hyphens, in parts between dots, at most 64 characters",
            ),
            (
                "users, options: { users: {} }",
                "6:31 this stage makes no user and no group | name one, or remove the stage",
            ),
            (
                "users, options: { users: { Deb: {}, a: { uid: 5, home: x, shell: /bin/b:c }, b: { uid: 5, groups: [A] } } }",
                "6:40 `Deb` is not a user name | small letters, digits, `_` and `-`, beginning with a letter, at most 32 characters\n6:68 `x` is not an absolute path\n6:78 `/bin/b:c` is not an absolute path\n6:100 `a` and `b` have the same uid\n6:112 `A` is not a group name | small letters, digits, `_` and `-`",
            ),
            (
                "users, options: { users: { a: { uid: 0, gid: 65535, description: 'a:b' } } }",
                "6:50 0 is the uid of root, and root has no other | leave it out\n6:58 65535 cannot be an id | people's ids begin with 1000\n6:78 the name of a user is one line without colons",
            ),
            (
                "users, options: { users: { a: { password: '$6$x', ssh_keys: [nonsense, ssh-rsa AAAA] } } }",
                "6:55 the password begins with `$` and is no hash of crypt(5) | make a hash with `openssl passwd -6`, and write it in single quotes\n6:74 this is not an ssh key | take the line of a `.pub` file: `ssh-ed25519 AAAA... comment`\n6:84 this ssh key is cut off or damaged | take the line of a `.pub` file: `ssh-ed25519 AAAA... comment`",
            ),
            (
                "users, options: { users: { a: { password: '' } } }",
                "6:55 the password is empty | remove the key: without it, no password is accepted",
            ),
            ("systemd", "6:7 this stage does nothing | name units to enable, disable or mask, or remove the stage"),
            (
                "systemd, options: { enable: [ssh, a b], mask: [ssh.service], default_target: multi-user }",
                "6:42 `ssh` stands under `enable` and under `mask`\n6:47 `a b` is not a unit | for instance `ssh.service` or `fstrim.timer`\n6:90 `multi-user` is not a target | for instance `multi-user.target` or `graphical.target`",
            ),
            ("run", "6:7 the stage `run` has nothing to run | give it `script` or `file`"),
            ("run, options: { script: ' ' }", "6:37 the script is empty"),
            (
                "run, options: { script: 'true', file: x, environment: { 1A: x } }",
                "6:18 the stage `run` has both `script` and `file` | keep one of them\n6:69 `1A` is not a name of a variable | letters, digits and `_`",
            ),
            (
                "run, timeout: 0s, name: '', options: { script: 'true' }",
                "6:27 a timeout is between 1s and 7days, and not 0s\n6:37 a name is one line of at most 100 characters",
            ),
            ("files, options: { files: {} }", "6:31 `files` is empty | name a file, or remove the stage"),
            (
                "files, options: { files: { etc/motd: { content: x, mode: rw, owner: a b } } }",
                "6:40 `etc/motd` is not an absolute path of a file | for instance `/etc/motd`\n6:70 `rw` is not a file mode | permissions are octal digits, like `0644` or `0755`\n6:81 `a b` is not an owner | a name of the image, or a number",
            ),
        ],
    );
}

#[test]
fn the_tree_is_made_as_said() {
    let with_tree = |options: &str| GOOD.replace("suite: trixie", options);
    table(
        with_tree,
        &[
            (
                "suite: Tri xie, mirror: 'file:///x', components: [], include: [A]",
                "3:44 `Tri xie` is not a suite | suites are names like `trixie`, `bookworm` and `trixie-backports`\n3:61 the build cannot fetch from `file:///x` | a mirror is a URL that begins with `http://` or `https://`\n3:74 `components` is an empty list | remove the key, or write `[main]`\n3:100 `A` is not a package | packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove",
            ),
            (
                "suite: trixie, mirror: example.org/debian, keyring: keys.gpg",
                "3:60 `example.org/debian` is not a URL: relative URL without a base | a mirror is a URL that begins with `http://` or `https://`\n3:89 there is no file `keys.gpg` | paths are relative to the recipe's folder",
            ),
            (
                "suite: trixie, variant: essential",
                "4:13 the stage `kernel` needs apt, which the tree lacks | use the variant `minbase`, or add `apt` to its `include`",
            ),
        ],
    );
}

#[test]
fn locales_of_other_suites_are_not_known() {
    let recipe = with_stage("locale, options: { language: xx_YY.UTF-8 }");
    assert_eq!(said(&recipe.replace("suite: trixie", "suite: sid")), "");
}

#[test]
fn no_file_lies_in_a_file_of_another_stage() {
    let files = |name: &str| format!("  - {{ type: files, options: {{ files: {{ {name}: {{ content: x }} }} }} }}\n");
    let said_of = |stages: [&str; 3]| said(&GOOD.replace("disk:", &(stages.concat() + "disk:")));
    let (outer, inner, other) = (files("/a"), files("/a/b/c"), files("/ab"));
    assert_eq!(
        said_of([&outer, &other, &inner]),
        "8:40 `/a` is a file, so that `/a/b/c` cannot lie in it | the other one is in stage 4; keep one of them\n"
    );
    assert_eq!(
        said_of([&inner, &other, &outer]),
        "8:40 `/a` is a file, so that `/a/b/c` cannot lie in it | the other one is in stage 4; keep one of them\n"
    );
    assert_eq!(said_of([&outer, "  - { type: run, options: { script: rm /a } }\n", &inner]), "");
    assert_eq!(said_of([&outer, &other, &outer]), "");
}

#[test]
fn the_kernel_takes_arguments() {
    table(
        |options| GOOD.replace("type: kernel", &format!("type: kernel, options: {options}")),
        &[(
            "{ package: Linux, cmdline: [quiet splash, root=/dev/sda1, ''] }",
            "4:41 `Linux` is not a package | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines\n4:58 `quiet splash` is not one kernel argument | each argument is an item of the list: `[quiet, console=ttyS0]`\n4:72 `root=` follows from the disk | remove it\n4:88 `` is not one kernel argument | each argument is an item of the list: `[quiet, console=ttyS0]`",
        )],
    );
}

#[test]
fn the_kernel_is_one_for_the_image() {
    table(
        |package| GOOD.replace("type: kernel", &format!("type: kernel, options: {{ package: {package} }}")),
        &[
            ("linux-image-6.12.41+deb13-amd64", ""),
            ("linux-xanmod-x64v3", ""),
            ("proxmox-kernel-6.8", ""),
            (
                "linux-image-arm64",
                "4:41 `linux-image-arm64` is a kernel for arm64, and the image is amd64 | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines",
            ),
            (
                "linux-doc",
                "4:41 `linux-doc` is not the package of a kernel | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines",
            ),
            (
                "linux-base",
                "4:41 `linux-base` is not the package of a kernel | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines",
            ),
            (
                "linux-headers-amd64",
                "4:41 `linux-headers-amd64` is not the package of a kernel | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines",
            ),
            (
                "nano",
                "4:41 `nano` is not the package of a kernel | for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines",
            ),
        ],
    );
}

#[test]
fn the_bootloader_fits_the_firmware() {
    table(
        |options| GOOD.replace("{ timeout: 1 }", options),
        &[
            (
                "{ type: systemd-boot, firmware: [uefi, bios] }",
                "5:73 systemd-boot does not boot on BIOS machines | use `type: grub`, or remove `bios`",
            ),
            (
                "{ firmware: [bios, bios], timeout: 9999 }",
                "5:53 this firmware is named twice\n5:69 the menu waits for an hour at most",
            ),
        ],
    );
}

#[test]
fn stages_come_in_order() {
    let stages = |stages: &str| format!("name: x\nstages:\n{stages}disk: {{ size: 4GiB }}\n");
    table(
        stages,
        &[
            ("  []\n", "2:1 no stage makes a tree | begin with `- type: debootstrap` and `options: { suite: trixie }`"),
            (
                "  - { type: hostname, options: { hostname: x } }\n",
                "2:1 no stage makes a tree | begin with `- type: debootstrap` and `options: { suite: trixie }`",
            ),
            (
                "  - { type: kernel }\n  - { type: debootstrap, options: { suite: trixie } }\n",
                "3:13 the stage `kernel` stands before `debootstrap` | `debootstrap` makes the tree; put it first",
            ),
            (
                "  - { type: debootstrap, options: { suite: trixie } }\n  - { type: debootstrap, options: { suite: trixie } }\n",
                "4:13 a second stage `debootstrap` | stage 1 is one already; keep one of them",
            ),
            (
                "  - { type: debootstrap, options: { suite: trixie } }\n  - { type: bootloader }\n",
                "4:13 the bootloader has no kernel to start | add a stage `kernel`",
            ),
        ],
    );
}

#[test]
fn the_other_parts_make_sense() {
    table(
        with_line,
        &[
            (
                "network: { allow: ['https://example.org/', '*', 'a b', ok.example.org] }",
                "7:20 `https://example.org/` is not a host: it is a URL | give its host only: `example.org`\n7:44 `*` is not a host: it stands for the whole network | name the hosts that the build needs\n7:49 `a b` is not a host: it is neither a name nor an IP address | write a host (`deb.example.org`), a suffix (`*.example.org`), or either with a port (`:8080`)",
            ),
            ("output: { formats: [] }", "7:11 `formats` is an empty list | name at least one, for instance `[qcow2]`"),
            ("output: { formats: [raw, raw] }", "7:26 the format `raw` is named twice | remove one"),
            (
                "resources: { memory: 1MiB, scratch: 1GB, cpus: 0 }",
                "7:22 `memory` is between 256MiB and 1TiB, and not 1MiB | leave it out for a size that follows from the recipe\n7:37 `scratch` is not a multiple of 1MiB; `954MiB` is | leave it out for a size that follows from the recipe\n7:48 `cpus` is between 1 and 64",
            ),
            (
                "tests: [{ name: a, run: '' }, { name: a, run: x, expect: '', timeout: 100days }]",
                "7:25 the test runs nothing\n7:39 two tests are called `a`\n7:58 every output contains an empty text | remove the key, or say what to expect\n7:71 a timeout is between 1s and 7days, and not 3months 8days 16h 19m 12s",
            ),
        ],
    );
    let without_bootloader =
        |line: &str| with_line(line).replace("  - { type: bootloader, options: { timeout: 1 } }\n", "");
    table(
        without_bootloader,
        &[(
            "tests: [{ name: a, run: x }]",
            "6:1 the tests run in the booted image, and it has no bootloader | add a stage `bootloader`",
        )],
    );
    table(
        |name| GOOD.replace("good", name),
        &[
            (
                "Bad Name",
                "1:7 `Bad Name` is not a name of an image | small letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 63 characters",
            ),
            (
                "../x",
                "1:7 `../x` is not a name of an image | small letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 63 characters",
            ),
        ],
    );
}
