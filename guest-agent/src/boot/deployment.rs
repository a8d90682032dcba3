//! Boot loaders for OSTree deployments. Where the image has bootupd with what it installs, that does it, so that it can
//! update it; otherwise they come from the appliance: most images have nothing of the kind.
//!
//! OSTree writes Boot Loader Specification entries to `/boot/loader/entries` at each update. GRUB reads them itself, so
//! that an update needs nothing of it. systemd-boot reads the EFI system partition only, so that they are copied there.

use super::{arguments, bootupd, devices, grub};
use crate::context::Context;
use crate::disk::{ESP, Filled};
use crate::paths;
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::Tree;
use particle_vm_protocol::stage::{BootloaderType, Firmware};
use particle_vm_protocol::{Failure, FailureKind, Filesystem, PartitionKind, Plan};
use std::fs;
use std::io;
use std::path::Path;

/// systemd-boot, in images that have it and in the appliance.
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Where it goes on the EFI system partition: where firmware looks on a disk that it does not know, and where `bootctl`
/// would update it.
const PLACES: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"];

/// Copies entries to the EFI system partition, now and after each update.
const SYNC: &str = include_str!("esp-sync/esp-sync.sh");

/// Where it lies in a deployment.
const SYNC_PATH: &str = "/etc/particle-vm/esp-sync";

/// Runs it; `@PARTUUID@` stands for the partition.
const UNIT: &str = include_str!("esp-sync/particle-vm-esp-sync.service");

/// Its name.
const UNIT_NAME: &str = "particle-vm-esp-sync.service";

/// Make the deployment in `tree`, whose disk is mounted at [`paths::TARGET`], bootable.
///
/// # Errors
/// When a tool fails, or the disk lacks a partition.
pub fn install(
    context: &Context,
    plan: &Plan,
    tree: &Tree,
    device: &Path,
    partitions: &[Filled<'_>],
) -> Result<(), Failure> {
    let _links = devices::Links::new(partitions)?;
    match plan.bootloader.kind {
        BootloaderType::Grub => {
            let own = with_bootupd(context, plan, tree, device)?;
            if own.is_empty() { Ok(()) } else { with_grub(context, plan, &own, device) }
        }
        BootloaderType::SystemdBoot => with_systemd_boot(context, plan, tree),
    }
}

/// Have bootupd install what it can. Gives the firmwares that it has nothing for.
fn with_bootupd(context: &Context, plan: &Plan, tree: &Tree, device: &Path) -> Result<Vec<Firmware>, Failure> {
    let wanted = &plan.bootloader.firmware;
    if !bootupd::is_there(tree) {
        return Ok(wanted.clone());
    }
    let (mut known, mut own) = (Vec::new(), Vec::new());
    for firmware in wanted {
        match bootupd::lacks(tree, *firmware)? {
            None => known.push(*firmware),
            Some(what) => {
                context.output(format!("{firmware}: GRUB comes without bootupd, because the image lacks {what}"));
                own.push(*firmware);
            }
        }
    }
    if !known.is_empty() {
        let settings = format!("set timeout={}\n{}", plan.bootloader.timeout, terminal(plan));
        bootupd::install(context, &known, device, &settings)?;
    }
    Ok(own)
}

/// Set how long the menu of a systemd-boot waits that somebody else has installed.
///
/// # Errors
/// When its settings cannot be read or written.
pub fn set_timeout(timeout: u32) -> Result<(), Failure> {
    let path = Path::new(paths::TARGET).join(ESP.trim_start_matches('/')).join("loader/loader.conf");
    let explain = || format!("cannot change {}", path.display());
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.explain(FailureKind::Agent, explain)?,
    };
    let others = before.lines().filter(|line| line.split_ascii_whitespace().next() != Some("timeout"));
    let text = others.fold(format!("timeout {timeout}\n"), |text, line| format!("{text}{line}\n"));
    fs::write(&path, text).explain(FailureKind::Agent, explain)
}

fn with_grub(context: &Context, plan: &Plan, firmware: &[Firmware], device: &Path) -> Result<(), Failure> {
    let boot = format!("--boot-directory={}/boot", paths::TARGET);
    for firmware in firmware {
        let command = Command::new("grub-install").arg(&boot);
        context.run(&match firmware {
            Firmware::Bios => command.args(["--target=i386-pc", "--modules=part_gpt biosdisk"]).arg(device),
            Firmware::Uefi => command
                .args(["--target=x86_64-efi", "--removable", "--no-nvram", "--no-uefi-secure-boot"])
                .arg(format!("--efi-directory={}{ESP}", paths::TARGET)),
        })?;
    }
    let path = Path::new(paths::TARGET).join("boot/grub/grub.cfg");
    fs::write(&path, grub_cfg(plan)?).explain(FailureKind::Agent, || format!("cannot write {}", path.display()))
}

/// GRUB's configuration, which stays as it is whatever is deployed later.
fn grub_cfg(plan: &Plan) -> Result<String, Failure> {
    let boot = plan.disk.as_ref().and_then(|disk| disk.mounted_at("/boot").or_else(|| disk.mounted_at("/")));
    let filesystem = boot.and_then(|partition| partition.filesystem.as_ref());
    let filesystem = filesystem.ok_or_else(|| report::plain(FailureKind::Input, "no partition is mounted at `/`"))?;
    let module = match filesystem.kind {
        Filesystem::Xfs => "xfs",
        Filesystem::Btrfs => "btrfs",
        _ => "ext2",
    };
    Ok(format!(
        "# Written by particle-vm. The menu is made of the entries that OSTree keeps in /boot/loader/entries.\n\
         search --no-floppy --fs-uuid --set=root {uuid}\n\
         {terminal}\
         set timeout={timeout}\n\
         insmod part_gpt\n\
         insmod {module}\n\
         if [ \"$grub_platform\" = efi ]; then insmod bli; fi\n\
         insmod blsuki\n\
         insmod regexp\n\
         blscfg --path /boot/loader/entries --enable-fallback\n\
         # Without entries blscfg says nothing and there would be no more than a prompt.\n\
         set found=no\n\
         for entry in ($root)/boot/loader/entries/*.conf; do\n\
         \x20 if [ -f \"$entry\" ]; then set found=yes; fi\n\
         done\n\
         if [ \"$found\" = no ]; then\n\
         \x20 menuentry \"There is no system to boot\" {{\n\
         \x20   echo \"There is no boot entry in /boot/loader/entries on the file system {uuid}.\"\n\
         \x20   echo \"Press a key for the menu; c opens a command line.\"\n\
         \x20   sleep --interruptible 3600\n\
         \x20 }}\n\
         fi\n",
        uuid = filesystem.uuid,
        terminal = terminal(plan),
        timeout = plan.bootloader.timeout
    ))
}

/// GRUB's menu on the serial port that the kernel writes to, if the recipe says so.
fn terminal(plan: &Plan) -> String {
    match arguments(plan).iter().rev().find_map(|argument| grub::serial(argument)) {
        Some((unit, speed)) => format!(
            "serial --unit={unit} --speed={speed}\nterminal_input console serial\nterminal_output console serial\n"
        ),
        None => String::new(),
    }
}

fn with_systemd_boot(context: &Context, plan: &Plan, tree: &Tree) -> Result<(), Failure> {
    let missing = || report::plain(FailureKind::Input, "systemd-boot needs an EFI system partition");
    let mut partitions = plan.disk.iter().flat_map(|disk| &disk.partitions);
    let esp = partitions.find(|partition| partition.kind == PartitionKind::Esp).ok_or_else(missing)?;
    // Its own, where the image has one, so that it is what its release is tested with.
    let loader = if tree.is_file(SYSTEMD_BOOT) {
        tree.read(SYSTEMD_BOOT)?
    } else {
        fs::read(SYSTEMD_BOOT).explain(FailureKind::Agent, || format!("cannot read {SYSTEMD_BOOT}"))?
    };
    let root = Path::new(paths::TARGET).join(ESP.trim_start_matches('/'));
    let settings = format!("timeout {}\n", plan.bootloader.timeout);
    let files = PLACES.map(|place| (place, loader.as_slice()));
    for (place, content) in
        files.into_iter().chain([("loader/loader.conf", settings.as_bytes()), ("loader/entries.srel", b"type1\n")])
    {
        let path = root.join(place);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.explain(FailureKind::Agent, || format!("cannot write {}", path.display()))?;
    }
    tree.write(SYNC_PATH, SYNC, 0o755)?;
    let unit = format!("/etc/systemd/system/{UNIT_NAME}");
    tree.write(&unit, UNIT.replace("@PARTUUID@", &esp.uuid), 0o644)?;
    tree.symlink(&format!("../{UNIT_NAME}"), &format!("/etc/systemd/system/multi-user.target.wants/{UNIT_NAME}"))?;
    // What the unit does later; the script is ours, and so is the shell.
    let boot = format!("{}/boot", paths::TARGET);
    let script = Command::new("/bin/sh").args(["-s", "--", paths::TARGET, &boot]).arg(&root).input(SYNC);
    context.run(&script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{self, Folder, plan};
    use std::os::unix::fs::symlink;

    #[test]
    fn grub_looks_for_its_entries_where_ostree_writes_them() {
        let mut plan = plan(r#"[{"type": "kernel", "options": {"cmdline": ["console=ttyS0"]}}]"#);
        plan.bootloader.timeout = 3;
        let text = grub_cfg(&plan).unwrap();
        assert!(
            text.contains("search --no-floppy --fs-uuid --set=root boot\nserial --unit=0 --speed=115200\n"),
            "{text}"
        );
        assert!(text.contains("set timeout=3\n") && text.contains("\nfi\n"), "{text}");
        assert!(text.contains("blscfg --path /boot/loader/entries"), "{text}");
    }

    #[test]
    fn the_unit_has_a_place_for_the_partition() {
        assert_eq!(UNIT.matches("@PARTUUID@").count(), 1);
        assert!(UNIT.contains(SYNC_PATH) && SYNC.starts_with("#!/bin/sh\n"));
    }

    /// A disk with deployments, as OSTree leaves it, and an EFI system partition.
    struct Disk<'a> {
        folder: &'a Folder,
        /// Where `/boot` is.
        boot: &'a str,
    }

    impl Disk<'_> {
        fn at(&self, path: &str) -> std::path::PathBuf {
            self.folder.path().join(path)
        }

        /// Deploy the commit `commit` with the kernel `kernel`, beneath the links of `/ostree/boot.NUMBER`.
        fn deploy(&self, commit: &str, kernel: &str, number: u8) {
            let folder = self.at(self.boot).join(format!("ostree/debian-{kernel}"));
            let links = self.at(&format!("sys/ostree/boot.{number}/os/{kernel}"));
            let deployment = self.at(&format!("sys/ostree/deploy/os/deploy/{commit}.0"));
            for path in [&folder, &links, &deployment, &self.at(self.boot).join("loader/entries"), &self.at("esp")] {
                fs::create_dir_all(path).unwrap();
            }
            // Deployments with the same kernel are numbered.
            let index = fs::read_dir(&links).unwrap().count();
            symlink(format!("../../../deploy/os/deploy/{commit}.0"), links.join(index.to_string())).unwrap();
            fs::write(folder.join("vmlinuz"), kernel).unwrap();
            let entry = format!(
                "linux /boot/ostree/debian-{kernel}/vmlinuz\noptions ostree=/ostree/boot.{number}/os/{kernel}/{index} rw\n"
            );
            fs::write(self.entry(commit), entry).unwrap();
        }

        /// The entry of a commit in `/boot`.
        fn entry(&self, commit: &str) -> std::path::PathBuf {
            self.at(self.boot).join(format!("loader/entries/ostree-{commit}.conf"))
        }

        /// Run the script; gives whether it ended well.
        fn sync(&self) -> bool {
            fs::write(self.at("script"), SYNC).unwrap();
            let mut script = std::process::Command::new("sh");
            script.arg(self.at("script")).args([self.at("sys"), self.at(self.boot), self.at("esp")]);
            fixtures::finished(&mut script).0
        }

        /// Whether the partition has the entry of a commit, which names its kernel and a link that leads to its deployment,
        /// and has the kernel.
        fn boots(&self, commit: &str, kernel: &str) -> bool {
            let entry =
                format!("linux /ostree/debian-{kernel}/vmlinuz\noptions ostree=/ostree/boot-1/os/{commit}/0 rw\n");
            let found = fs::read_to_string(self.at(&format!("esp/loader/entries/ostree-{commit}.conf")));
            let copy = fs::read_to_string(self.at(&format!("esp/ostree/debian-{kernel}/vmlinuz")));
            let deployment = self.at(&format!("sys/ostree/boot-1/os/{commit}/0")).canonicalize();
            found.is_ok_and(|found| found == entry)
                && copy.is_ok_and(|copy| copy == kernel)
                && deployment.is_ok_and(|path| path.ends_with(format!("deploy/os/deploy/{commit}.0")))
        }

        /// What is on the partition, and which deployments have links that stay.
        fn kept(&self) -> [Vec<String>; 3] {
            ["esp/loader/entries", "esp/ostree", "sys/ostree/boot-1/os"].map(|path| {
                let entries = fs::read_dir(self.at(path)).unwrap();
                let mut names: Vec<_> =
                    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
                names.sort();
                names
            })
        }
    }

    #[test]
    fn entries_and_kernels_reach_the_partition_wherever_boot_is() {
        for boot in ["sys/boot", "another"] {
            let folder = Folder::new(&format!("esp-sync-{}", boot.len()));
            let disk = Disk { folder: &folder, boot };
            disk.deploy("a", "1", 1);
            assert!(disk.sync() && disk.boots("a", "1"), "{boot}: {:?}", disk.kept());
        }
    }

    #[test]
    fn updates_reach_the_partition_and_what_they_replace_goes() {
        let folder = Folder::new("esp-sync-updates");
        let disk = Disk { folder: &folder, boot: "sys/boot" };
        disk.deploy("a", "1", 1);
        assert!(disk.sync());
        // OSTree names the links of all deployments anew at an update.
        fs::remove_dir_all(disk.at("sys/ostree/boot.1")).unwrap();
        disk.deploy("a", "1", 0);
        disk.deploy("b", "2", 0);
        assert!(disk.sync() && disk.boots("a", "1") && disk.boots("b", "2"), "{:?}", disk.kept());
        // The next one needs the kernel of the second, and the first goes.
        fs::remove_dir_all(disk.at("sys/ostree/boot.0")).unwrap();
        fs::remove_file(disk.entry("a")).unwrap();
        disk.deploy("b", "2", 1);
        disk.deploy("c", "2", 1);
        assert!(disk.sync() && disk.boots("b", "2") && disk.boots("c", "2"), "{:?}", disk.kept());
        let [entries, kernels, links] = disk.kept();
        assert_eq!(entries, ["ostree-b.conf", "ostree-c.conf"]);
        assert_eq!(kernels, ["debian-2"]);
        assert_eq!(links, ["b", "c"]);
    }

    #[test]
    fn an_update_that_does_not_fit_leaves_the_partition_as_it_was() {
        let folder = Folder::new("esp-sync-full");
        let disk = Disk { folder: &folder, boot: "sys/boot" };
        disk.deploy("a", "1", 1);
        assert!(disk.sync());
        disk.deploy("b", "2", 1);
        // As when the partition is full: the copy fails.
        fs::remove_file(disk.at("sys/boot/ostree/debian-2/vmlinuz")).unwrap();
        assert!(!disk.sync() && disk.boots("a", "1"), "{:?}", disk.kept());
        assert_eq!(disk.kept()[0], ["ostree-a.conf"]);
    }
}
