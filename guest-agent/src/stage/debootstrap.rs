//! `debootstrap`: make a Debian tree with mmdebstrap(1).

use super::{DPKG_OPTIONS, Site, again, apt_options, hostname, sources, suites, work};
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use particle_vm_protocol::stage::{Debootstrap, Source, Variant};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs;
use std::io;

/// The name of the source in the tree.
pub(super) const SOURCE: &str = "debian";

/// The keyring of Debian's archive in the appliance.
const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the stanza for mmdebstrap lies. The extension matters to it.
const STANZA: &str = "/scratch/debian.sources";

/// Where a keyring of the recipe's lies while mmdebstrap runs.
const KEYRING: &str = "/scratch/keyring";

/// What mmdebstrap is not to do: its checks of a world outside of it, and cleaning up what the next stages need.
const SKIP: &str = "check/empty,check/qemu,cleanup/apt";

/// What mmdebstrap leaves in the tree of the options that it was given, and of its surroundings.
const LEFTOVERS: [&str; 5] = [
    "/etc/apt/apt.conf.d/00mmdebstrap",
    "/etc/apt/apt.conf.d/99mmdebstrap",
    "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "/etc/hostname",
    "/etc/resolv.conf",
];

/// Make the tree.
pub(super) fn perform(site: &mut Site<'_>, options: &Debootstrap) -> Result<(), Failure> {
    let source = source(options)?;
    let keyring = match &options.keyring {
        None => ARCHIVE_KEYRING.to_owned(),
        Some(file) => {
            let path = format!("{KEYRING}.{}", sources::extension(file)?);
            write(&path, &work::read(file)?)?;
            path
        }
    };
    write(STANZA, sources::stanza(&source, &keyring)?.as_bytes())?;
    make(site, options)?;
    site.left.requested = options.include.iter().cloned().collect();
    site.enter()?;
    suites::check_all(site)?;
    let tree = site.tree()?;
    for path in LEFTOVERS {
        tree.remove(path)?;
    }
    if options.variant != Variant::Extract {
        hostname::ensure_localhost(tree)?;
    }
    if !site.has_program("apt-get")? {
        return Ok(());
    }
    // mmdebstrap gives the file another name, and it knows the keyring where it lies in the appliance.
    sources::remove_all(tree)?;
    sources::add(site, &source)?;
    site.left.lists = Some(sources::state(site.tree()?)?);
    Ok(())
}

fn write(path: &str, content: &[u8]) -> Result<(), Failure> {
    fs::write(path, content).explain(FailureKind::Agent, || format!("cannot write {path}"))
}

/// What the tree is made from, and what goes into its sources.
fn source(options: &Debootstrap) -> Result<Source, Failure> {
    let mirror = options.mirror.clone().ok_or_else(|| super::wrong("the plan names no mirror for `debootstrap`"))?;
    Ok(Source {
        name: SOURCE.into(),
        types: vec!["deb".into()],
        uris: vec![mirror],
        suites: vec![options.suite.clone()],
        components: options.components.clone(),
        keyring: options.keyring.clone(),
    })
}

fn make(site: &Site<'_>, options: &Debootstrap) -> Result<(), Failure> {
    let mut command = Command::new("mmdebstrap")
        .args(["--mode=root", "--format=directory", "--verbose"])
        .arg(format!("--variant={}", variant(options.variant)))
        .arg(format!("--skip={SKIP}"))
        .arg(format!("--architectures={}", site.plan.architecture))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args(apt_options(site.plan).map(|line| format!("--aptopt={line}")))
        .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
        // As for every other installation of packages: the initramfs is made at the end.
        .env("INITRD", "No");
    if !options.include.is_empty() {
        command = command.arg(format!("--include={}", options.include.join(",")));
    }
    let command = command.args([&options.suite, paths::TREE, STANZA]);
    again::with_wrong_bytes(site, || {
        // Of an attempt that failed.
        match fs::remove_dir_all(paths::TREE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).explain(FailureKind::Agent, || format!("cannot remove {}", paths::TREE))
            }
            _ => site.context.run(&command),
        }
    })
}

fn variant(variant: Variant) -> &'static str {
    match variant {
        Variant::Extract => "extract",
        Variant::Custom => "custom",
        Variant::Essential => "essential",
        Variant::Minbase => "minbase",
        Variant::Apt => "apt",
        Variant::Important => "important",
        Variant::Standard => "standard",
    }
}
