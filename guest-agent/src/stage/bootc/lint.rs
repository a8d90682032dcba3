//! What makes a container unbootable, found before anybody boots it. Each check says what is wrong and what to do.
//! `bootc container lint` checks much of the same in an image that has bootc; Debian's traps are beside it.

use super::{DPKG_IN_USR, MODULES, Site, printed, wrong};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{Bootc, Composefs};

/// Smallest initramfs that could hold systemd and the drivers of a disk.
const LEAST_INITRAMFS: i64 = 1 << 20;

/// All checks.
///
/// # Errors
/// What the first that does not pass says.
pub(super) fn check(site: &Site<'_>, options: &Bootc, kernel: &str) -> Result<(), Failure> {
    boot_files(site, kernel)?;
    initramfs_mounts_the_root(site, kernel)?;
    one_etc(site)?;
    links(site)?;
    os_release(site)?;
    packages(site)?;
    composefs(site, options)
}

/// The kernel and its initramfs lie where OSTree takes them from, and nowhere else.
fn boot_files(site: &Site<'_>, kernel: &str) -> Result<(), Failure> {
    let tree = site.tree()?;
    let path = format!("{MODULES}/{kernel}/initramfs.img");
    if tree.stat(&path).is_none_or(|stat| stat.st_size < LEAST_INITRAMFS) {
        return Err(wrong(format!("dracut has made no initramfs that could boot: `{path}` is missing or too small")));
    }
    if !tree.names("/boot")?.is_empty() {
        return Err(wrong("`/boot` is not empty; it belongs to the machine"));
    }
    Ok(())
}

/// The initramfs has what finds and mounts the root of a deployment.
fn initramfs_mounts_the_root(site: &Site<'_>, kernel: &str) -> Result<(), Failure> {
    let path = format!("{MODULES}/{kernel}/initramfs.img");
    let Some(modules) = printed(site, "lsinitrd", &["--mod", &path])? else { return Ok(()) };
    if modules.lines().any(|module| matches!(module.trim(), "ostree" | "bootc")) {
        Ok(())
    } else {
        Err(wrong("the initramfs cannot mount the root: dracut has left its module `ostree` out, see its output above"))
    }
}

/// There is one `/etc`.
fn one_etc(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    if tree.exists("/usr/etc") {
        return Err(wrong("the tree has `/etc` and `/usr/etc`; a container has `/etc` alone"));
    }
    Ok(())
}

/// What a deployment mounts its parts on is there.
fn links(site: &Site<'_>) -> Result<(), Failure> {
    let tree = site.tree()?;
    if tree.link_target("/sysroot").is_some() || !tree.names("/sysroot")?.is_empty() {
        return Err(wrong("`/sysroot` must be an empty folder"));
    }
    if tree.link_target("/ostree").is_none_or(|target| target.as_os_str() != "sysroot/ostree") {
        return Err(wrong("`/ostree` must be a link to `sysroot/ostree`"));
    }
    Ok(())
}

/// The boot menu takes its titles from os-release(5), and builders of images want a version. Debian's testing has none.
fn os_release(site: &Site<'_>) -> Result<(), Failure> {
    let text = site.tree()?.read_text("/usr/lib/os-release")?;
    let has = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')));
    for key in ["ID", "PRETTY_NAME"] {
        if !has(key) {
            return Err(wrong(format!(
                "`/usr/lib/os-release` lacks {key}; OSTree names the entry of the boot menu by it"
            )));
        }
    }
    if !has("VERSION_ID") {
        site.context.output("/usr/lib/os-release lacks VERSION_ID; bootc-image-builder refuses such a container");
    }
    Ok(())
}

/// The database of the packages is there, so that derived images can install more.
fn packages(site: &Site<'_>) -> Result<(), Failure> {
    if site.tree()?.stat(&format!("{DPKG_IN_USR}/status")).is_none_or(|stat| stat.st_size == 0) {
        return Err(wrong("the tree has no database of its packages; derived images could install none"));
    }
    Ok(())
}

/// Where the root is to be a composefs, the tree's OSTree can do that. Debian 13's is built without it.
fn composefs(site: &Site<'_>, options: &Bootc) -> Result<(), Failure> {
    if options.prepare_root.composefs == Composefs::No {
        return Ok(());
    }
    let Some(version) = printed(site, "ostree", &["--version"])? else { return Ok(()) };
    if has_composefs(&version) {
        Ok(())
    } else {
        Err(wrong(
            "the tree's OSTree is built without composefs: take `ostree`, `ostree-boot` and `libostree-1-1` from a later \
             suite, or set `composefs: no`",
        ))
    }
}

/// The features stand in a list of YAML.
fn has_composefs(version: &str) -> bool {
    version.lines().any(|line| line.trim().trim_start_matches("- ").trim() == "composefs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ostree_tells_what_it_can() {
        let version = "libostree:\n Version: '2026.4'\n Features:\n  - inode64\n  - composefs\n  - libcurl\n";
        assert!(has_composefs(version));
        assert!(!has_composefs(&version.replace("composefs", "compose")));
    }
}
