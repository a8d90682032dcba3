//! Findings about kernels and their initramfs.

use super::super::engine::Backend;
use super::super::initramfs::Initramfs;
use super::super::kernels::Kernel;
use super::Look;

/// How an initramfs with a module of dracut is made, in a Containerfile.
fn dracut(kernel: &str, module: &str) -> String {
    format!(
        "RUN apt-get install -y dracut{} && dracut --force --no-hostonly --kver {kernel} --add {module} \
         /usr/lib/modules/{kernel}/initramfs.img",
        if module == "ostree" { " ostree-boot" } else { "" }
    )
}

/// The module of dracut that makes the deployment the root.
fn module(look: &Look<'_>) -> &'static str {
    if look.backend == Some(Backend::Composefs) { "bootc" } else { "ostree" }
}

pub(super) fn all(look: &mut Look<'_>) {
    let facts = look.facts;
    let bootable: Vec<_> = facts.bootable().collect();
    if bootable.is_empty() {
        return none(look);
    }
    // What lies in /boot is no kernel to OSTree.
    let deployable = |kernel: &&Kernel| kernel.is_in_modules() || kernel.uki_path.is_some();
    let counted = bootable.iter().copied().filter(|kernel| !look.is_deployed() || deployable(kernel));
    let counted: Vec<_> = counted.collect();
    if counted.len() > 1 {
        several(look, &counted);
    }
    let Some(kernel) = facts.kernel() else { return };
    if look.is_deployed() && !kernel.is_in_modules() && kernel.uki_path.is_none() {
        let version = &kernel.version;
        look.error(
            "kernel-in-boot",
            format!("the kernel {version} lies in /boot, where it is hidden once the image is deployed"),
            format!("RUN mv /boot/vmlinuz-{version} /usr/lib/modules/{version}/vmlinuz && rm -rf /boot/*"),
        );
    }
    match &kernel.initramfs {
        Some(initramfs) => of_initramfs(look, kernel, initramfs),
        None if look.is_deployed() => {
            let message =
                format!("the kernel {} has no initramfs, so nothing makes the deployment the root", kernel.version);
            look.error("no-initramfs", message, dracut(&kernel.version, module(look)));
        }
        None => look.warning(
            "no-initramfs",
            format!("the kernel {} has no initramfs; Debian's kernels need one to find their root", kernel.version),
            "add the stage `apt` with initramfs-tools to the recipe, or RUN apt-get install -y initramfs-tools && \
             update-initramfs -c -k all",
        ),
    }
}

fn none(look: &mut Look<'_>) {
    let leftover = look.facts.kernels.first().map(|kernel| kernel.version.clone());
    let message = match leftover {
        Some(version) => format!("there are modules of the kernel {version}, but no kernel"),
        None => "there is no kernel".into(),
    };
    if look.is_deployed() {
        look.error(
            "no-kernel",
            message,
            "RUN apt-get install -y linux-image-cloud-amd64, then move /boot/vmlinuz-VERSION to \
             /usr/lib/modules/VERSION/vmlinuz and make its initramfs.img with dracut",
        );
    } else {
        look.warning("no-kernel", message, "add the stage `kernel` to the recipe");
    }
}

fn several(look: &mut Look<'_>, bootable: &[&Kernel]) {
    let versions: Vec<_> = bootable.iter().map(|kernel| kernel.version.as_str()).collect();
    let versions = versions.join(", ");
    let count = bootable.len();
    if look.is_deployed() {
        look.error(
            "several-kernels",
            format!("there are {count} kernels ({versions}); a deployment boots exactly one"),
            "leave one: RUN apt-get purge -y linux-image-VERSION && rm -rf /usr/lib/modules/VERSION",
        );
    } else {
        look.note(
            "several-kernels",
            format!("there are {count} kernels ({versions}); the bootloader starts the newest"),
            "if that is not wanted, leave one: RUN apt-get purge -y linux-image-VERSION",
        );
    }
}

fn of_initramfs(look: &mut Look<'_>, kernel: &Kernel, initramfs: &Initramfs) {
    let version = kernel.version.as_str();
    if let Some(problem) = &initramfs.problem {
        let message = format!("not all of the initramfs of {version} can be read: {problem}");
        let remedy = format!(
            "make it again with a compression that Debian's kernels have, for instance: {}",
            dracut(version, "ostree")
        );
        look.warning("initramfs-unreadable", message, remedy);
    }
    if !initramfs.kernels.is_empty() && !initramfs.kernels.contains(version) && !version.is_empty() {
        let others: Vec<_> = initramfs.kernels.iter().map(String::as_str).collect();
        look.error(
            "initramfs-of-another-kernel",
            format!(
                "the initramfs of the kernel {version} has modules of {} only, which it cannot load",
                others.join(", ")
            ),
            dracut(version, module(look)),
        );
    }
    match look.backend {
        Some(Backend::Ostree) => for_ostree(look, version, initramfs),
        Some(Backend::Composefs) => for_bootc(look, version, initramfs),
        None => {}
    }
    // Whatever the root is, the disk that it lies on has to be seen: the VMs that images run in have virtio.
    let disks = ["virtio_blk", "virtio_scsi", "nvme"];
    if disks.iter().all(|driver| kernel.has_driver(driver) == Some(false)) {
        look.warning(
            "no-virtio",
            format!("neither the kernel {version} nor its initramfs has a driver for virtio or NVMe disks"),
            "RUN echo 'add_drivers+=\" virtio_blk virtio_scsi virtio_pci nvme \"' > \
             /usr/lib/dracut/dracut.conf.d/30-disks.conf, before the initramfs is made",
        );
    }
}

fn for_ostree(look: &mut Look<'_>, version: &str, initramfs: &Initramfs) {
    if !initramfs.ostree_prepare_root {
        let made = match initramfs.generator {
            Some("initramfs-tools") => "; it was made by initramfs-tools, which knows nothing of OSTree",
            _ => "",
        };
        look.error(
            "initramfs-without-ostree",
            format!(
                "the initramfs of {version} has neither ostree-prepare-root (dracut module `ostree`) nor bootc's \
                 initramfs-setup (dracut module `bootc`): the deployment would not become the root{made}"
            ),
            dracut(version, "ostree"),
        );
        return;
    }
    if initramfs.problem.is_none() && initramfs.systemd && !initramfs.ostree_unit {
        look.error(
            "initramfs-unit-not-enabled",
            format!("the initramfs of {version} has ostree-prepare-root, but no unit in it starts that"),
            "RUN printf 'systemdsystemconfdir=/etc/systemd/system\\nsystemdsystemunitdir=/usr/lib/systemd/system\\n' > \
             /usr/lib/dracut/dracut.conf.d/30-systemd.conf, then make the initramfs again",
        );
    }
}

fn for_bootc(look: &mut Look<'_>, version: &str, initramfs: &Initramfs) {
    if !initramfs.bootc_setup {
        look.error(
            "initramfs-without-bootc",
            format!("the initramfs of {version} lacks bootc's initramfs-setup, so composefs= on its command line means nothing"),
            dracut(version, "bootc"),
        );
    } else if initramfs.problem.is_none() && initramfs.systemd && !initramfs.bootc_unit {
        look.error(
            "initramfs-unit-not-enabled",
            format!("the initramfs of {version} has bootc's initramfs-setup, but bootc-root-setup.service is not enabled in it"),
            "RUN printf 'systemdsystemconfdir=/etc/systemd/system\\nsystemdsystemunitdir=/usr/lib/systemd/system\\n' > \
             /usr/lib/dracut/dracut.conf.d/30-systemd.conf, then make the initramfs again",
        );
    }
}
