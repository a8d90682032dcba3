//! `apt`: install packages.

use super::{Site, again, ahead, debconf, locale, read_only, sources, suites};
use particle_vm_protocol::Failure;
use particle_vm_protocol::ahead::{Ahead, is_name};
use particle_vm_protocol::stage::{Apt, Kernel};

/// dpkg's database.
const STATUS: &str = "/var/lib/dpkg/status";

/// Install, and upgrade if wanted.
pub(super) fn perform(site: &mut Site<'_>, index: usize, options: &Apt) -> Result<(), Failure> {
    if options.upgrade {
        update(site)?;
        let command = site.command("apt-get")?.env("INITRD", "No").arg("dist-upgrade");
        let command = command.arg(recommends(options.recommends));
        again::with_wrong_bytes(site, || site.context.run(&command))?;
    }
    let packages: Vec<_> = options.packages.iter().map(String::as_str).collect();
    install_first(site, index, &packages, options.recommends)
}

/// Install a kernel. Its command line is written with the settings of the bootloader.
pub(super) fn kernel(site: &mut Site<'_>, index: usize, options: &Kernel) -> Result<(), Failure> {
    install_first(site, index, &[&options.package], false)
}

/// Install `packages`, and those of later stages with them where this can be done.
fn install_first(site: &mut Site<'_>, index: usize, packages: &[&str], with_recommends: bool) -> Result<(), Failure> {
    let ahead = Ahead::of(site.plan, index);
    if !ahead.packages.is_empty() && !are_installed(site, packages)? && install_with(site, packages, &ahead)? {
        return Ok(());
    }
    install(site, packages, with_recommends)
}

/// Install `packages` and those of later stages. False when apt refuses to, and nothing has been done: each stage then
/// installs its own, so that the one that names the wrong package is the one that fails.
fn install_with(site: &mut Site<'_>, packages: &[&str], ahead: &Ahead) -> Result<bool, Failure> {
    locale::prepare(site, &ahead.locales)?;
    debconf::select(site, &ahead.selections)?;
    let all: Vec<_> = packages.iter().copied().chain(ahead.packages.iter().map(String::as_str)).collect();
    match install(site, &all, false) {
        Err(failure) if ahead::is_refusal(&failure) => {
            site.context.output("once more without the packages of later stages, to see which stage fails");
            Ok(false)
        }
        result => result.map(|()| true).map_err(|failure| ahead::explain(ahead, failure)),
    }
}

/// Install `packages` with what they depend on.
pub(super) fn install(site: &mut Site<'_>, packages: &[&str], with_recommends: bool) -> Result<(), Failure> {
    if packages.is_empty() {
        return Ok(());
    }
    if site.in_deployment {
        return Err(read_only(&format!("apt-get install {}", packages.join(" "))));
    }
    if !with_recommends && are_installed(site, packages)? {
        site.context.output("the packages are installed already");
        return Ok(());
    }
    update(site)?;
    // The initramfs is made once, when everything that goes into it is there; kernel packages take this for a wish of
    // the administrator's (linux-image's postinst, "INITRD").
    let command = site
        .command("apt-get")?
        .env("INITRD", "No")
        .args(["install", recommends(with_recommends), "--"])
        .args(packages.iter().copied());
    again::with_wrong_bytes(site, || site.context.run(&command))?;
    site.left.requested.extend(packages.iter().map(|package| (*package).to_owned()));
    Ok(())
}

/// Whether apt has been asked for all `packages` by name, so that they are not taken for mere dependencies, and would do
/// the same again.
fn are_installed(site: &Site<'_>, packages: &[&str]) -> Result<bool, Failure> {
    if !packages.iter().all(|package| is_name(package) && site.left.requested.contains(*package)) {
        return Ok(false);
    }
    let status = site.tree()?.read_text(STATUS)?;
    let installed = |package: &&str| {
        let name = format!("Package: {package}\n");
        status
            .split("\n\n")
            .any(|stanza| stanza.starts_with(&name) && stanza.contains("\nStatus: install ok installed\n"))
    };
    Ok(packages.iter().all(installed))
}

/// Fetch the package lists, unless those in the tree belong to the sources as they are now.
fn update(site: &mut Site<'_>) -> Result<(), Failure> {
    if site.left.lists != Some(sources::state(site.tree()?)?) {
        let command = site.command("apt-get")?.arg("update");
        site.context.run(&command)?;
        suites::check(site)?;
        site.left.lists = Some(sources::state(site.tree()?)?);
    }
    Ok(())
}

fn recommends(with: bool) -> &'static str {
    if with { "--install-recommends" } else { "--no-install-recommends" }
}
