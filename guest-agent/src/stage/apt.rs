//! `apt`: install packages.

use super::{Site, sources};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Apt;

/// Install, and upgrade if wanted.
pub(super) fn perform(site: &mut Site<'_>, options: &Apt) -> Result<(), Failure> {
    if options.upgrade {
        update(site)?;
        let command = site.command("apt-get")?.arg("dist-upgrade").arg(recommends(options.recommends));
        site.context.run(&command)?;
    }
    let packages: Vec<_> = options.packages.iter().map(String::as_str).collect();
    install(site, &packages, options.recommends)
}

/// Install `packages` with what they depend on.
pub(super) fn install(site: &mut Site<'_>, packages: &[&str], with_recommends: bool) -> Result<(), Failure> {
    if packages.is_empty() {
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
    site.context.run(&command)
}

/// Fetch the package lists, unless those in the tree belong to the sources as they are now.
fn update(site: &mut Site<'_>) -> Result<(), Failure> {
    let sources = sources::text(site.tree()?)?;
    if site.lists.as_ref() != Some(&sources) {
        let command = site.command("apt-get")?.arg("update");
        site.context.run(&command)?;
        site.lists = Some(sources);
    }
    Ok(())
}

fn recommends(with: bool) -> &'static str {
    if with { "--install-recommends" } else { "--no-install-recommends" }
}
