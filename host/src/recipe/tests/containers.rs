use super::*;

/// A container in which nothing is wrong, with `stage` in line 5 and `rest` from line 8 on.
fn container(stage: &str, output: &str) -> String {
    format!(
        "name: good
stages:
  - {{ type: debootstrap, options: {{ suite: trixie }} }}
  - {{ type: kernel }}
  - {{ type: {stage} }}
output:
  {output}
"
    )
}

const OUTPUT: &str = "formats: [oci-archive]";

#[test]
fn a_container_needs_no_disk_and_no_bootloader() {
    assert_eq!(said(&container("bootc", OUTPUT)), "");
    assert_eq!(said(&container("hostname, options: { hostname: a }", "formats: [tar, docker-archive, oci]")), "");
}

#[test]
fn what_only_a_disk_has_a_use_for_is_found() {
    table(
        |rest| format!("{}{rest}\n", container("bootc", OUTPUT)),
        &[
            (
                "disk: { size: 4GiB }",
                "8:1 none of the formats is a disk | remove the key, or add a format that is a disk, for instance `qcow2`",
            ),
            (
                "tests: [{ name: a, run: 'true' }]",
                "8:1 the tests run in the booted image, and no disk is made | test the disk that is made of it; remove the key here",
            ),
        ],
    );
    table(
        |stage| container(stage, OUTPUT),
        &[(
            "bootloader",
            "5:13 there is no disk for the bootloader | remove the stage, or add a format that is a disk, for instance `qcow2`",
        )],
    );
    let recipe = container("hostname, options: { hostname: a }", OUTPUT);
    assert_eq!(
        said(&recipe.replace("type: kernel", "type: kernel, options: { cmdline: [quiet] }")),
        "4:32 nothing keeps these arguments | add a stage `bootc`, which keeps them in the container, or remove the key\n"
    );
}

#[test]
fn formats_fit_the_stages() {
    table(
        |formats| format!("{}disk: {{ size: 4GiB }}\n", container("bootc", &format!("formats: {formats}"))),
        &[(
            "[oci, raw]",
            "7:18 the stage `bootc` makes a container, and `raw` is a disk | make the container with this recipe, and the disk with another one that has it as `base-image`; or add the stages `ostree.commit` and `ostree.deploy`",
        )],
    );
    table(
        |formats| container("bootc", &format!("formats: {formats}")),
        &[
            ("[ostree-repo]", "7:13 nothing is committed to the repository | add a stage `ostree.commit`"),
            ("[oci, oci]", "7:18 the format `oci` is named twice | remove one"),
        ],
    );
    let commit = "ostree.commit, options: { ref: a/b }";
    table(
        |formats| container("ostree.commit, options: { ref: a/b }", &format!("formats: {formats}")),
        &[
            ("[ostree-repo]", ""),
            (
                "[tar]",
                "5:13 nobody gets the repository that is committed to | add the format `ostree-repo` or a stage `ostree.deploy`, or remove the stage",
            ),
        ],
    );
    assert!(container(commit, OUTPUT).contains("a/b"));
}

#[test]
fn the_work_on_the_tree_ends_with_bootc() {
    table(
        |stage| container(&format!("bootc }}\n  - {{ type: {stage}"), OUTPUT),
        &[
            (
                "hostname, options: { hostname: a }",
                "6:13 the stage `hostname` stands after `bootc`, which ends the work on the tree | put it before",
            ),
            ("bootc", "6:13 a second stage `bootc` | stage 3 is one already; keep one of them"),
            ("ostree.remotes, options: { remotes: [{ name: a, url: 'https://a.example.org/r', unsigned: true }] }", ""),
        ],
    );
}

#[test]
fn the_container_says_what_it_can() {
    table(
        |container| self::container("bootc", &format!("formats: [oci]\n  container: {container}")),
        &[
            ("{ tag: 'registry.example.org:5000/a/b:13', labels: { a.b: '1' }, environment: { A: b } }", ""),
            (
                "{ tag: 'A b' }",
                "8:21 `A b` is not a name of a container | for instance `particle-os:13` or `registry.example.org/particle-os:13`",
            ),
            ("{ environment: { 1A: b } }", "8:31 `1A` is not a name of a variable | letters, digits, `.`, `-` and `_`"),
            ("{ entrypoint: [''] }", "8:29 this is not an argument of a program"),
            ("{ compression: xz }", "8:29 `compression` cannot be `xz` | possible: `gzip`, `zstd`"),
        ],
    );
    table(
        |formats| format!("{}disk: {{ size: 4GiB }}\n", container("hostname, options: { hostname: a }", formats)),
        &[(
            "formats: [raw]\n  container: { tag: a }",
            "8:3 none of the formats is a container | remove the key, or add the format `oci-archive`",
        )],
    );
    assert_eq!(
        said(&container("bootc", OUTPUT).replace("name: good", "name: go..od")),
        "1:7 `go..od` cannot be the name of a container | give it one with `tag` under `output.container`, for instance `particle-os:13`\n"
    );
}

#[test]
fn options_of_bootc_make_sense() {
    table(
        |options| container(&format!("bootc, options: {options}"), OUTPUT),
        &[
            ("{ prepare_root: { composefs: verity }, install: { filesystem: xfs, stateroot: debian } }", ""),
            (
                "{ kargs: ['a b'] }",
                "5:39 `a b` is not one kernel argument | each argument is an item of the list: `[quiet, console=ttyS0]`",
            ),
            (
                "{ install: { filesystem: swap } }",
                "5:54 this file system cannot hold the root of a Debian system | it is `ext4`, `xfs` or `btrfs`",
            ),
            (
                "{ install: { stateroot: ../x } }",
                "5:53 `../x` is not a name of a state root | letters, digits, `_`, `-` and `.`, for instance `default`",
            ),
            (
                "{ prepare_root: { composefs: maybe } }",
                "5:58 `composefs` cannot be `maybe` | possible: `yes`, `no`, `verity`",
            ),
        ],
    );
}

#[test]
fn stages_of_ostree_make_sense() {
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let remote = |key: &str| {
        format!(
            "ostree.remotes, options: {{ remotes: [{{ name: a, url: 'https://a.example.org/r', ed25519_key: {key} }}] }}"
        )
    };
    let recipe = |stage: &str| {
        container(&format!("ostree.commit, options: {{ ref: a }} }}\n  - {{ type: {stage}"), "formats: [ostree-repo]")
    };
    let folder = tempfile::tempdir().unwrap();
    let check = |stage: &str, expected: &str| {
        assert_eq!(said_in(&recipe(stage), folder.path()).trim_end(), expected, "{stage}");
    };
    let pull = |options: &str| format!("ostree.pull, options: {{ refs: [a/b], {options} }}");
    check(&pull("url: 'https://a.example.org/r', unsigned: true"), "");
    check(&remote(KEY), "");
    check(
        &remote("AAEC"),
        "6:106 this is not a public ed25519 key | 32 bytes in base64, as `openssl pkey -pubout -outform DER | tail -c 32 | base64` prints it",
    );
    check(
        &pull("url: 'https://a.example.org/r'"),
        "6:26 nothing says which signatures the commits have | give it one of `gpg_keyring` and `unsigned: true`",
    );
    check(&pull("depth: 1"), "6:26 the stage has nowhere to pull from | give it `url` or `path`");
    check(&pull("path: repo"), "6:56 there is no file `repo` | paths are relative to the recipe's folder");
    check(
        "ostree.config, options: { set: { readonly: 'true' } }",
        "6:46 `readonly` is not a key of a repository | a group and a key, for instance `core.min-free-space-percent`",
    );
    check(
        "ostree.init, options: { mode: bare }",
        "6:43 the files of a bare repository belong to root, and an output does not | remove the key: `archive` is what web servers have",
    );
}
