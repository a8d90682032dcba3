use super::*;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

/// A folder with a file, a folder, links that stay and links that leave, beside a secret.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("recipe");
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    std::fs::write(around.path().join("secret"), "x").unwrap();
    std::fs::write(folder.join("setup.sh"), "x").unwrap();
    symlink("setup.sh", folder.join("inside")).unwrap();
    symlink("../secret", folder.join("outside")).unwrap();
    symlink("/etc", folder.join("absolute")).unwrap();
    symlink("gone", folder.join("dangling")).unwrap();
    symlink(folder.join("setup.sh"), folder.join("whole")).unwrap();
    std::fs::File::create(folder.join("huge.sh")).unwrap().set_len(17 << 20).unwrap();
    for name in ["pipes", "names"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    nix::unistd::mkfifo(&folder.join("pipes/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(folder.join("names").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    (around, folder)
}

#[test]
fn files_lie_in_the_folder_of_the_recipe() {
    let (_around, folder) = folder();
    let copy = |source: &str| with_stage(&format!("copy, options: {{ source: {source}, destination: /opt/ }}"));
    table_in(
        &folder,
        copy,
        &[
            ("setup.sh", ""),
            ("./setup.sh", ""),
            ("conf.d/../setup.sh", ""),
            ("conf.d", ""),
            ("inside", ""),
            ("''", "6:38 this is not a path"),
            ("setup", "6:38 there is no file `setup` | did you mean `setup.sh`?"),
            ("nowhere/x", "6:38 there is no file `nowhere/x` | paths are relative to the recipe's folder"),
            (
                "../secret",
                "6:38 `../secret` leads out of the recipe's folder | the build sees the recipe's folder only: put the file into it, and name it from there",
            ),
            (
                "conf.d/../../secret",
                "6:38 `conf.d/../../secret` leads out of the recipe's folder | the build sees the recipe's folder only: put the file into it, and name it from there",
            ),
            (
                "/etc/passwd",
                "6:38 `/etc/passwd` is an absolute path | the build sees the recipe's folder only: put the file into it, and name it from there",
            ),
            (
                "outside",
                "6:38 `outside` leads out of the recipe's folder by a symbolic link | the build sees the recipe's folder only: put the file into it, and name it from there",
            ),
            (
                "absolute/passwd",
                "6:38 `absolute/passwd` leads out of the recipe's folder by a symbolic link | the build sees the recipe's folder only: put the file into it, and name it from there",
            ),
            (
                "whole",
                "6:38 `whole` leads through a symbolic link with an absolute path | make the link relative (`ln -sr`)",
            ),
            ("pipes", "6:38 `pipes/pipe` cannot be copied: it is neither a file, a folder nor a link"),
            ("names", "6:38 `names/\u{fffd}` cannot be copied: its name is not UTF-8"),
            ("huge.sh", ""),
            ("pipe", "6:38 `pipe` is neither a file nor a folder"),
            ("dangling", "6:38 `dangling` is a symbolic link to nowhere"),
        ],
    );
    table_in(
        &folder,
        with_stage,
        &[
            ("run, options: { file: setup.sh }", ""),
            ("run, options: { file: huge.sh }", "6:35 `huge.sh` has 17MiB, and the build reads 16MiB of it at most"),
            ("run, options: { file: conf.d }", "6:35 `conf.d` is not a file"),
            ("run, options: { file: setup.ssh }", "6:35 there is no file `setup.ssh` | did you mean `setup.sh`?"),
            (
                "copy, options: { source: setup.sh, destination: opt, mode: '9' }",
                "6:61 `opt` is not an absolute path | for instance `/opt/app/`\n6:72 `9` is not a file mode | permissions are octal digits, like `0644` or `0755`",
            ),
            (
                "sources, options: { sources: [{ name: a, suites: [b], keyring: keys.d/x }] }",
                "6:76 `keys.d/x` is not a name of a keyring | apt tells the formats apart by the name: `.asc` (armoured), `.gpg` or `.pgp` (binary)\n6:76 there is no file `keys.d/x` | paths are relative to the recipe's folder",
            ),
            (
                "sources, options: { sources: [{ name: a, suites: [b], keyring: missing.gpg }] }",
                "6:76 there is no file `missing.gpg` | paths are relative to the recipe's folder",
            ),
        ],
    );
}

#[test]
fn what_is_copied_has_to_fit() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::File::create(folder.path().join("data/large")).unwrap().set_len(100 << 30).unwrap();
    let too_large = "7:15 4029MiB for the partition `root` is too little: the files that are copied do not fit | make it larger by at least 98551MiB";
    let copy = "copy, options: { source: data, destination: /srv }";
    let script = format!("{copy} }}\n  - {{ type: run, options: {{ script: rm -r /srv/large }}");
    let rows = [(copy, too_large), (script.as_str(), "")];
    table_in(folder.path(), with_stage, &rows);
}

#[test]
fn what_is_copied_to_the_top_is_not_mounted_over() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["site/run/app", "site/tmp", "good/tmp", "good/etc/run"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("site/run/app/socket"), "x").unwrap();
    let lost = "6:30 what is put to `/run/app` is lost: something else is mounted there | choose another place, or make it at each boot with tmpfiles.d(5)";
    let rows = [
        ("copy, options: { source: site, destination: / }", lost),
        ("copy, options: { source: good, destination: / }", ""),
        ("copy, options: { source: site, destination: /srv }", ""),
    ];
    table_in(folder.path(), with_stage, &rows);
}
