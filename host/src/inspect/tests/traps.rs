//! Each trap is found where it is, and nowhere else.

use super::make::{Image, Item, KERNEL, initramfs, ostree_initramfs};
use super::*;

/// An image ready for OSTree, and what is found when `change` was done to it, beside what is found anyway.
#[track_caller]
fn trap(severity: Severity, code: &str, change: impl FnOnce(&mut Image)) -> Finding {
    trap_in(Image::ostree(), severity, code, change)
}

#[track_caller]
fn trap_in(image: Image, severity: Severity, code: &str, change: impl FnOnce(&mut Image)) -> Finding {
    let before = image.report().unwrap();
    assert!(!before.findings.iter().any(|finding| finding.code == code), "{code} is there without the trap");
    let after = report_of(image, change);
    let found = after.findings.iter().find(|finding| finding.code == code);
    let finding = found.unwrap_or_else(|| panic!("{code} is not among {:#?}", after.findings)).clone();
    assert_eq!(finding.severity, severity, "{code}");
    let is_none = severity == Severity::Error || before.engine.name == Engine::None;
    assert_eq!(is_none, after.engine.name == Engine::None, "{code}: {:#?}", after.findings);
    assert_eq!(after.engine.missing.contains(&finding.code), severity == Severity::Error, "{code}");
    assert!(finding.message.len() > 20 && finding.remedy.len() > 5, "{finding:?}");
    finding
}

use Severity::{Error, Note, Warning};

/// An initramfs for OSTree, but for what `change` does.
fn initramfs_with(image: &mut Image, change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) {
    let mut files = ostree_initramfs();
    change(&mut files);
    image.kernel(&initramfs(&files));
}

fn folder() -> String {
    format!("usr/lib/modules/{KERNEL}")
}

#[test]
fn kernels() {
    trap(Error, "no-kernel", |image| image.remove(&format!("{}/vmlinuz", folder())));
    let finding = trap(Error, "several-kernels", |image| image.file("usr/lib/modules/6.13.0-amd64/vmlinuz", "other"));
    assert!(finding.message.contains("6.12.1-amd64, 6.13.0-amd64"), "{}", finding.message);
    trap(Error, "kernel-in-boot", |image| {
        image.remove(&format!("{}/vmlinuz", folder()));
        image.file(&format!("boot/vmlinuz-{KERNEL}"), "kernel");
    });
    trap(Error, "no-initramfs", |image| image.remove(&format!("{}/initramfs.img", folder())));
    trap(Warning, "boot-content", |image| image.file("boot/vmlinuz-6.1", "old"));
    trap_in(Image::plain(), Warning, "no-initramfs", |image| image.file("boot/vmlinuz-6.12.1-amd64", "kernel"));
    trap_in(Image::plain(), Note, "several-kernels", |image| {
        image.file("boot/vmlinuz-6.12.1-amd64", "kernel");
        image.file("boot/vmlinuz-6.13.1-amd64", "kernel");
    });
}

#[test]
fn initramfs_content() {
    trap(Error, "initramfs-without-ostree", |image| {
        initramfs_with(image, |files| files.retain(|(name, _)| !name.contains("ostree-prepare-root")));
    });
    trap(Error, "initramfs-unit-not-enabled", |image| {
        initramfs_with(image, |files| {
            files.retain(|(name, _)| !name.ends_with("ostree-prepare-root.service"));
            // Where dracut puts it when it does not know systemd's folders.
            files.push(("initrd-root-fs.target.wants/ostree-prepare-root.service".into(), vec![]));
        });
    });
    let finding = trap(Error, "initramfs-of-another-kernel", |image| {
        initramfs_with(image, |files| {
            for (name, _) in files {
                *name = name.replace(KERNEL, "6.1.0-1-amd64");
            }
        });
    });
    assert!(finding.message.contains("6.1.0-1-amd64"), "{}", finding.message);
    trap(Warning, "no-virtio", |image| {
        initramfs_with(image, |files| files.retain(|(name, _)| !name.contains("virtio_blk")));
    });
    trap(Warning, "initramfs-unreadable", |image| {
        let mut bytes = initramfs(&ostree_initramfs());
        bytes.extend_from_slice(b"neither this nor that");
        image.kernel(&bytes);
    });
    let finding = trap_in(Image::composefs(), Error, "initramfs-unit-not-enabled", |image| {
        let mut files = super::make::bootc_initramfs();
        files.retain(|(name, _)| !name.ends_with(".service"));
        image.kernel(&initramfs(&files));
    });
    assert!(finding.message.contains("bootc-root-setup.service"), "{}", finding.message);
}

#[test]
fn composefs() {
    let finding = trap(Error, "composefs-without-driver", |image| {
        initramfs_with(image, |files| files.retain(|(name, _)| !name.contains("erofs")));
    });
    assert!(finding.message.ends_with("for erofs"), "{}", finding.message);
    // Built into the kernel is as good.
    let report = report_of(Image::ostree(), |image| {
        initramfs_with(image, |files| files.retain(|(name, _)| !name.contains("erofs")));
        image.file(&format!("{}/modules.builtin", folder()), "kernel/fs/erofs/erofs.ko\n");
    });
    assert_eq!(codes(&report, Warning), [""; 0]);
    trap(Error, "ostree-without-composefs", |image| {
        initramfs_with(image, |files| {
            let program = files.iter_mut().find(|(name, _)| name.ends_with("/ostree-prepare-root")).unwrap();
            program.1 = [&[0; 100_000][..], keep::NO_COMPOSEFS, b"\0"].concat();
        });
    });
    trap(Warning, "ostree-without-composefs", |image| {
        image.file(
            "usr/lib/sysimage/dpkg/status",
            "Package: libostree-1-1\nStatus: install ok installed\nVersion: 2025.2-1\n",
        );
    });
    trap(Warning, "prepare-root-differs", |image| {
        initramfs_with(image, |files| files.retain(|(name, _)| !name.ends_with("prepare-root.conf")));
    });
    trap(Error, "prepare-root-differs", |image| {
        image.file("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = no\n");
    });
    trap(Warning, "no-prepare-root-conf", |image| image.remove("usr/lib/ostree/prepare-root.conf"));
    trap(Error, "prepare-root-invalid", |image| {
        image.file("usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = perhaps\n");
    });
    let transient = |image: &mut Image| {
        let path = "usr/lib/ostree/prepare-root.conf";
        image.file(path, "[composefs]\nenabled = yes\n[sysroot]\nreadonly = true\n[etc]\ntransient = true\n");
    };
    trap(Error, "etc-transient", transient);
    trap_in(Image::composefs(), Warning, "etc-transient", transient);
    // Nothing is asked for, nothing is lacking.
    let report = report_of(Image::ostree(), |image| {
        let conf = "[composefs]\nenabled = no\n";
        image.file("usr/lib/ostree/prepare-root.conf", conf);
        initramfs_with(image, |files| {
            files.retain(|(name, _)| !name.contains("erofs") && !name.ends_with("prepare-root.conf"));
            files.push(("usr/lib/ostree/prepare-root.conf".into(), conf.into()));
        });
    });
    assert_eq!(codes(&report, Warning), [""; 0]);
}

#[test]
fn layout() {
    trap(Error, "etc-and-usr-etc", |image| image.file("usr/etc/fstab", ""));
    // What buildah leaves behind is no /etc.
    let report = report_of(Image::ostree(), |image| {
        for name in ["os-release", "passwd", "shadow", "machine-id"] {
            let item = image.items.remove(&format!("etc/{name}")).unwrap();
            let item = if name == "os-release" { Item::Link("../lib/os-release") } else { item };
            image.add(&format!("usr/etc/{name}"), item);
        }
        image.file("etc/hostname", "");
        image.file("etc/resolv.conf", "");
    });
    assert_eq!(report.facts.ostree.etc, Some("usr/etc"));
    assert_eq!(report.facts.users.len(), 1);
    assert_eq!(codes(&report, Warning), [""; 0]);
    assert!(codes(&report, Note).contains(&"injected-files"));
    trap(Error, "no-sysroot", |image| image.remove("sysroot"));
    trap(Warning, "no-ostree-link", |image| image.remove("ostree"));
    trap(Warning, "no-bootc-label", |image| image.labels.clear());
    trap(Error, "device-nodes", |image| image.add("usr/lib/null", Item::Device));
    let report = report_of(Image::ostree(), |image| image.add("dev/null", Item::Device));
    assert_eq!(codes(&report, Warning), [""; 0]);
    trap(Error, "no-init", |image| image.remove("usr/sbin/init"));
    trap_in(Image::plain(), Warning, "no-init", |image| image.remove("usr/sbin/init"));
    trap(Error, "no-os-release", |image| image.remove("usr/lib/os-release"));
    trap(Error, "os-release-without-name", |image| image.file("usr/lib/os-release", "NAME=x\nVERSION_ID=1\n"));
    trap(Note, "no-version-id", |image| {
        image.file("usr/lib/os-release", "ID=debian\nPRETTY_NAME='Debian forky/sid'\n")
    });
    trap(Warning, "usr-not-merged", |image| image.add("lib", Item::Folder));
    trap_in(Image::plain(), Error, "not-an-os", |image| {
        image.remove("usr/lib/os-release");
        image.remove("usr/sbin/init");
    });
}

#[test]
fn what_lies_in_var_or_should() {
    let finding = trap(Warning, "var-content", |image| image.file("var/lib/app/data", "x"));
    assert!(
        finding.message.contains("there is 1 file") && finding.message.contains("/var/lib/app/data"),
        "{finding:?}"
    );
    trap(Warning, "dpkg-database-in-var", |image| image.file("var/lib/dpkg/status", "Package: a\n"));
    trap(Warning, "dpkg-database-lost", |image| image.remove("usr/lib/sysimage/dpkg/status"));
    trap(Warning, "dpkg-database-not-linked", |image| {
        let lines = image.items["usr/lib/tmpfiles.d/var.conf"].clone();
        let Item::File(lines) = lines else { unreachable!() };
        let lines = String::from_utf8(lines).unwrap().replace("/var/lib/dpkg", "/var/lib/other");
        image.file("usr/lib/tmpfiles.d/var.conf", &lines);
    });
    trap(Warning, "root-folders", |image| image.add("home", Item::Folder));
    let finding = trap(Warning, "root-folders-with-content", |image| {
        image.remove("opt");
        image.file("opt/app/run", "x");
    });
    assert!(finding.remedy.contains("rm -rf /opt && ln -s var/opt /opt"), "{}", finding.remedy);
    let report = report_of(Image::ostree(), |image| {
        image.add("home", Item::Folder);
        image.file("usr/lib/systemd/system/home.mount", "[Mount]\n");
    });
    assert_eq!(codes(&report, Warning), [""; 0]);
    let finding = trap(Warning, "dangling-root-links", |image| image.add("srv", Item::Link("var/elsewhere")));
    assert!(finding.message.contains("/srv -> var/elsewhere"), "{}", finding.message);
    trap(Note, "usr-local", |image| image.add("usr/local", Item::Folder));
    trap(Note, "run-content", |image| image.file("run/x", ""));
    trap(Warning, "locale-in-var", |image| image.add("usr/lib/locale", Item::Link("../../var/lib/locale")));
}

#[test]
fn what_must_differ_between_machines() {
    for image in [Image::plain, Image::ostree] {
        trap_in(image(), Warning, "machine-id", |image| image.file("etc/machine-id", &"0123456789abcdef".repeat(2)));
        trap_in(image(), Warning, "machine-id", |image| image.file("var/lib/dbus/machine-id", &"ab".repeat(16)));
        trap_in(image(), Warning, "ssh-host-keys", |image| image.file("etc/ssh/ssh_host_ed25519_key", "secret"));
        trap_in(image(), Warning, "empty-password", |image| image.file("etc/shadow", "root::1::::::\n"));
        trap_in(image(), Note, "nobody-can-log-in", |image| image.file("etc/shadow", "root:*:1::::::\n"));
        trap_in(image(), Warning, "machine-id-empty", |image| {
            image.file("etc/machine-id", "");
            image.file("usr/lib/systemd/system/sshd-keygen.service", "[Unit]\nConditionFirstBoot=yes\n");
        });
    }
    let report = report_of(Image::ostree(), |image| {
        image.file("etc/machine-id", "");
        image.file("usr/lib/systemd/system/sshd-keygen.service", "[Unit]\nConditionFirstBoot=yes\n");
        image.file("usr/lib/systemd/system/sshd-keygen.service.d/x.conf", "[Unit]\nConditionFirstBoot=\n");
    });
    assert_eq!(codes(&report, Warning), [""; 0]);
}

#[test]
fn users() {
    let finding = trap(Note, "users-in-image", |image| {
        let people =
            "root:x:0:0::/root:/bin/sh\ndeb:x:1000:1000:Deb:/home/deb:/bin/bash\nnobody:x:65534:1::/:/bin/false\n";
        image.file("etc/passwd", people);
    });
    assert!(finding.message.ends_with(": deb"), "{}", finding.message);
    let report = Image::ostree().report().unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""password":"set""#) && !text.contains("$y$"), "{text}");
}

#[test]
fn bootc() {
    trap(Error, "bootc-config-invalid", |image| {
        image.file("usr/lib/bootc/kargs.d/10.toml", "kargs = ['a']\nother = 1\n")
    });
    trap(Error, "bootc-config-invalid", |image| image.file("usr/lib/bootc/install/10.toml", "[install\n"));
    trap(Warning, "bootc-config-unknown", |image| {
        image.file("usr/lib/bootc/install/10.toml", "[install]\nrootfs = 1\n")
    });
    trap(Error, "root-file-system", |image| {
        image.file("usr/lib/bootc/install/10.toml", "[install.filesystem.root]\ntype = 'zfs'\n");
    });
    trap(Note, "serial-console", |image| image.file("usr/lib/bootc/kargs.d/10.toml", "kargs = ['console=ttyS0']\n"));
    trap_in(Image::composefs(), Error, "bootc-lacks-tools", |image| image.remove("usr/bin/skopeo"));
    trap_in(Image::composefs(), Error, "no-systemd-boot", |image| {
        image.remove("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    });
    trap_in(Image::composefs(), Error, "no-prepare-root-conf", |image| {
        image.remove("usr/lib/ostree/prepare-root.conf")
    });
    trap_in(Image::composefs(), Warning, "bootc-needs-newer-ostree", |image| {
        let status = "Package: libostree-1-1\nStatus: install ok installed\nVersion: 2025.2-1\n";
        image.file("usr/lib/sysimage/dpkg/status", status);
    });
}

#[test]
fn loaders() {
    let update = r#"{"timestamp":"2026-01-01T00:00:00Z","version":"grub2-2.14","other":1}"#;
    let bootupd = |image: &mut Image| {
        image.add("usr/bin/bootupctl", Item::Program(vec![]));
        image.file("usr/lib/bootupd/updates/BIOS.json", update);
        image.file("usr/sbin/grub2-install", "");
    };
    let report = report_of(Image::ostree(), bootupd);
    assert_eq!(report.facts.bootupd.components["BIOS"].version, "grub2-2.14");
    assert_eq!(codes(&report, Warning), [""; 0]);
    trap(Warning, "bootupd-grub2-install", |image| {
        bootupd(image);
        image.remove("usr/sbin/grub2-install");
    });
    trap(Warning, "bootupd-without-metadata", |image| image.add("usr/bin/bootupctl", Item::Program(vec![])));
    trap(Warning, "bootupd-metadata", |image| image.file("usr/lib/bootupd/updates/EFI.json", "{}"));
    trap(Warning, "bootupd-several-shims", |image| {
        bootupd(image);
        for version in [1, 2] {
            image.file(&format!("usr/lib/efi/shim/{version}/EFI/debian/shimx64.efi"), "");
        }
    });
    trap(Warning, "shim-fallback-without-list", |image| image.file("usr/lib/efi/shim/1/EFI/BOOT/fbx64.efi", ""));
    trap(Note, "grub-without-bls", |image| image.file("usr/lib/grub/i386-pc/normal.mod", ""));
    let report = report_of(Image::ostree(), |image| {
        image.file("usr/lib/grub/i386-pc/normal.mod", "");
        image.file("usr/lib/grub/i386-pc/blsuki.mod", "");
    });
    assert!(report.facts.bootloaders.grub_bls && !codes(&report, Note).contains(&"grub-without-bls"));
    trap(Note, "disk-config", |image| image.file("usr/lib/bootc-image-builder/disk.yaml", "x: 1\n"));
    trap(Warning, "builder-config", |image| image.file("usr/lib/bootc-image-builder/config.toml", "x = 1\n"));
    trap(Warning, "boot-content", |image| image.file("boot/grub/grub.cfg", ""));
}
