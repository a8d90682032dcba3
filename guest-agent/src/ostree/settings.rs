//! What an image says about its installation: `kargs.d` and `install` of bootc (bootc-install-config(5), "Kernel
//! arguments" of bootc's documentation), and ostree's prepare-root.conf.

use crate::report;
use crate::tree::Tree;
use particle_vm_protocol::{Failure, FailureKind};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Where files of an installation's configuration lie; those with the same name hide the ones in folders further down.
const INSTALL: [&str; 3] = ["/usr/etc/bootc/install", "/usr/local/lib/bootc/install", "/usr/lib/bootc/install"];

/// Where files with kernel arguments lie.
const KARGS: &str = "/usr/lib/bootc/kargs.d";

/// How the Rust toolchain calls the architecture, which is what bootc compares with.
const ARCHITECTURE: &str = "x86_64";

/// Where the configuration of ostree-prepare-root(1) lies.
const PREPARE_ROOT: [&str; 2] = ["/usr/etc/ostree/prepare-root.conf", "/usr/lib/ostree/prepare-root.conf"];

/// What the image asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the stateroot.
    pub stateroot: String,
    /// Kernel arguments.
    pub kargs: Vec<String>,
    /// Whether composefs checks files with fs-verity.
    pub verity: bool,
}

/// A file of `install`. Keys that are about disks which `bootc install` makes itself say nothing here.
#[derive(Debug, Default, Deserialize)]
struct InstallFile {
    #[serde(default)]
    install: Install,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Install {
    kargs: Option<Vec<String>>,
    karg_deletes: Option<Vec<String>>,
    match_architectures: Option<Vec<String>>,
    stateroot: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct KargsFile {
    #[serde(default)]
    kargs: Vec<String>,
    match_architectures: Option<Vec<String>>,
}

/// Read what the commit in `tree` asks for; `name` is what it is called.
///
/// # Errors
/// When it is none of a bootable system, a file cannot be read, or is not what it should be.
pub fn read(tree: &Tree, name: &str) -> Result<Settings, Failure> {
    kernel(tree, name)?;
    let mut stateroot = "default".to_owned();
    let (mut kargs, mut deleted) = (Vec::new(), Vec::new());
    for (path, text) in files(tree, &INSTALL)? {
        let InstallFile { install } = parse(&path, &text)?;
        if applies(install.match_architectures.as_deref()) {
            kargs.extend(install.kargs.unwrap_or_default());
            deleted.extend(install.karg_deletes.unwrap_or_default());
        }
        if let Some(name) = install.stateroot {
            stateroot = name;
        }
    }
    for (path, text) in files(tree, &[KARGS])? {
        let file: KargsFile = parse(&path, &text)?;
        if applies(file.match_architectures.as_deref()) {
            kargs.extend(file.kargs);
        }
    }
    kargs.retain(|karg| !deleted.contains(karg));
    if let Some(karg) = kargs.iter().find(|karg| karg.is_empty() || karg.contains(|c: char| c.is_control() || c == ' '))
    {
        return Err(wrong(format!("`{karg}` of the image is no kernel argument")));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if stateroot.is_empty() || !stateroot.chars().all(is_name) {
        return Err(wrong(format!("`{stateroot}` of the image is no name of a stateroot")));
    }
    let mut verity = false;
    for path in PREPARE_ROOT {
        let text = tree.read_text(path)?;
        if let Some(enabled) = value(&text, "composefs", "enabled") {
            verity = matches!(enabled, "verity" | "signed");
            break;
        }
    }
    Ok(Settings { stateroot, kargs, verity })
}

/// What ostree-admin-deploy(1) asks of a commit, said before it complains in its own words.
fn kernel(tree: &Tree, name: &str) -> Result<(), Failure> {
    let wrong = |message: String| Err(wrong(message));
    let kernels: Vec<_> = tree
        .names("/usr/lib/modules")?
        .into_iter()
        .filter(|release| tree.is_file(&format!("/usr/lib/modules/{release}/vmlinuz")))
        .collect();
    match kernels.as_slice() {
        [] => wrong(format!("{name} has no kernel; OSTree looks for /usr/lib/modules/RELEASE/vmlinuz")),
        [release]
            if !["initramfs.img", "initramfs"]
                .iter()
                .any(|name| tree.is_file(&format!("/usr/lib/modules/{release}/{name}"))) =>
        {
            wrong(format!("{name} has no initramfs; OSTree looks for /usr/lib/modules/{release}/initramfs.img"))
        }
        [_] => Ok(()),
        several => wrong(format!(
            "{name} has {} kernels ({}), and OSTree boots one; remove the others from /usr/lib/modules",
            several.len(),
            several.join(", ")
        )),
    }
}

/// The TOML files in `folders` in the order of their names; of those with one name the first.
fn files(tree: &Tree, folders: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let mut found = BTreeMap::new();
    for folder in folders {
        for name in tree.names(folder)?.into_iter().filter(|name| name.ends_with(".toml")) {
            found.entry(name.clone()).or_insert(format!("{folder}/{name}"));
        }
    }
    found.into_values().map(|path| Ok((path.clone(), tree.read_text(&path)?))).collect()
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, Failure> {
    toml::from_str(text)
        .map_err(|error| wrong(format!("`{path}` of the image is not as it should be\n{}", error.message())))
}

fn applies(architectures: Option<&[String]>) -> bool {
    architectures.is_none_or(|architectures| architectures.iter().any(|one| one == ARCHITECTURE))
}

/// A value of a key file (Desktop Entry Specification, "Basic format of the file").
fn value<'t>(text: &'t str, group: &str, key: &str) -> Option<&'t str> {
    let mut current = "";
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = name;
        } else if let Some((name, value)) = line.split_once('=')
            && (current, name.trim()) == (group, key)
        {
            return Some(value.trim());
        }
    }
    None
}

fn wrong(message: String) -> Failure {
    report::plain(FailureKind::Input, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_its_group() {
        let text = "# x\n[sysroot]\nenabled = no\n[composefs]\n#enabled=no\nenabled = signed\n";
        assert_eq!(value(text, "composefs", "enabled"), Some("signed"));
        assert_eq!(value(text, "root", "transient"), None);
    }

    #[test]
    fn what_the_files_say_is_put_together() {
        let root = std::env::temp_dir().join(format!("particle-vm-settings-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("usr/lib/bootc/install/10-a.toml", "[install]\nkargs = [\"a\", \"b\"]\nroot-fs-type = \"xfs\"\n");
        write("usr/lib/bootc/install/20-b.toml", "[install]\nkargs = [\"hidden\"]\n");
        write("usr/etc/bootc/install/20-b.toml", "[install]\nkarg-deletes = [\"b\"]\nstateroot = \"debian\"\n");
        write("usr/lib/bootc/kargs.d/1.toml", "kargs = [\"c=1\"]\nmatch-architectures = [\"x86_64\"]\n");
        write("usr/lib/bootc/kargs.d/2.toml", "kargs = [\"d\"]\nmatch-architectures = [\"aarch64\"]\n");
        write("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = verity\n");
        let tree = Tree::open(&root).unwrap();
        assert!(read(&tree, "the image").unwrap_err().message.starts_with("the image has no kernel"));
        write("usr/lib/modules/6.1/vmlinuz", "");
        assert!(read(&tree, "the image").unwrap_err().message.starts_with("the image has no initramfs"));
        write("usr/lib/modules/6.1/initramfs.img", "");
        let settings = Settings { stateroot: "debian".into(), kargs: vec!["a".into(), "c=1".into()], verity: true };
        assert_eq!(read(&tree, "the image").unwrap(), settings);
        write("usr/lib/bootc/kargs.d/3.toml", "kargs = [\"two words\"]\n");
        assert!(read(&tree, "the image").unwrap_err().message.contains("two words"));
        write("usr/lib/bootc/kargs.d/3.toml", "kagrs = []\n");
        assert!(read(&tree, "the image").unwrap_err().message.contains("3.toml"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
