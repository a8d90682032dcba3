use super::*;
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
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    (around, folder)
}

#[test]
fn files_lie_in_the_folder_of_the_recipe() {
    let (_around, folder) = folder();
    let copy = |source: &str| with_stage(&format!("copy, options: {{ source: {source}, destination: /opt/ }}"));
    for (source, expected) in [
        ("setup.sh", ""),
        ("./setup.sh", ""),
        ("conf.d/../setup.sh", ""),
        ("conf.d", ""),
        ("inside", ""),
        ("''", ""),
        ("setup", ""),
        ("nowhere/x", ""),
        ("../secret", ""),
        ("conf.d/../../secret", ""),
        ("/etc/passwd", ""),
        ("outside", ""),
        ("absolute/passwd", ""),
        ("pipe", ""),
    ] {
        assert_eq!(said_in(&copy(source), &folder).trim_end(), expected, "{source}");
    }
    for (stage, expected) in [
        ("run, options: { file: conf.d }", ""),
        ("run, options: { file: setup.ssh }", ""),
        ("copy, options: { source: setup.sh, destination: opt, mode: '9' }", ""),
        ("sources, options: { sources: [{ name: a, suites: [b], keyring: missing.gpg }] }", ""),
    ] {
        assert_eq!(said_in(&with_stage(stage), &folder).trim_end(), expected, "{stage}");
    }
}
