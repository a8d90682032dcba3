//! The partition table, written by sfdisk(8).

use crate::context::Context;
use crate::process::Command;
use crate::report::{self, Explain};
use particle_vm_protocol::{Disk, Failure, FailureKind, PartitionKind};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel may take to make the devices of the partitions.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The bit that keeps systemd-gpt-auto-generator(8) from mounting a partition by its type ("no-auto" of the Discoverable
/// Partitions Specification).
const NO_AUTO: &str = "GUID:63";

/// Write the table of `disk` to `device`. In a `deployment` the places of homes and the like are links, on which nothing
/// can be mounted; its fstab(5) names what they lead to.
///
/// # Errors
/// When the partitions do not fit, or a name cannot be written.
pub fn write(context: &Context, disk: &Disk, device: &Path, deployment: bool) -> Result<(), Failure> {
    let script = script(disk, deployment)?;
    let command = Command::new("sfdisk").args(["--quiet", "--wipe", "always", "--"]).arg(device).input(script);
    context.run(&command)
}

/// What sfdisk reads. Everything begins at a multiple of 1 MiB, which suits every sector size.
fn script(disk: &Disk, deployment: bool) -> Result<String, Failure> {
    let mut script = format!("label: gpt\nlabel-id: {}\nunit: sectors\n\n", disk.uuid);
    for partition in &disk.partitions {
        let name = &partition.label;
        if name.contains('"') || name.chars().any(char::is_control) {
            return Err(report::plain(FailureKind::Input, format!("`{name}` cannot be the name of a partition")));
        }
        if let Some(size) = partition.size {
            script += &format!("size={}, ", size / u64::from(disk.sector_size.bytes()));
        }
        if deployment && matches!(partition.kind, PartitionKind::Home | PartitionKind::Srv) {
            script += &format!("attrs=\"{NO_AUTO}\", ");
        }
        script += &format!("type={}, uuid={}, name=\"{name}\"\n", partition.kind.type_guid(), partition.uuid);
    }
    Ok(script)
}

/// The device of a partition, counted from 1, as the kernel names it.
pub fn partition(device: &Path, number: usize) -> PathBuf {
    let name = device.display().to_string();
    let separator = if name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{name}{separator}{number}"))
}

/// Wait until the kernel has made the devices of the partitions: there is no udev that would tell.
///
/// # Errors
/// When one does not appear.
pub fn wait_for_devices(context: &Context, disk: &Disk, device: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    for number in 1..=disk.partitions.len() {
        let path = partition(device, number);
        loop {
            context.check()?;
            let found = path.metadata().and_then(|metadata| match metadata.file_type().is_block_device() {
                true => Ok(()),
                false => Err(io::Error::other("it is no block device")),
            });
            match found {
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).explain(FailureKind::Agent, || format!("{} does not appear", path.display()));
                }
                Err(_) => thread::sleep(PAUSE),
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use particle_vm_protocol::{Partition, SectorSize};

    fn disk(label: &str) -> Disk {
        let partition = |kind, size| Partition {
            kind,
            label: label.into(),
            uuid: "11111111-2222-4333-8444-555555555555".into(),
            size,
            filesystem: None,
            mountpoint: None,
            options: Vec::new(),
        };
        Disk {
            size: 1 << 30,
            sector_size: SectorSize::B4096,
            uuid: "22222222-2222-4333-8444-555555555555".into(),
            partitions: vec![partition(PartitionKind::Esp, Some(512 << 20)), partition(PartitionKind::Root, None)],
        }
    }

    #[test]
    fn sizes_are_in_sectors_and_the_last_one_takes_the_rest() {
        let script = script(&disk("a b"), false).unwrap();
        let lines: Vec<_> = script.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "size=131072, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=11111111-2222-4333-8444-555555555555, \
                 name=\"a b\"",
                "type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, uuid=11111111-2222-4333-8444-555555555555, name=\"a b\"",
            ]
        );
    }

    #[test]
    fn a_deployment_mounts_its_homes_by_its_table() {
        let mut disk = disk("home");
        disk.partitions[0].kind = PartitionKind::Home;
        assert_eq!(script(&disk, true).unwrap().matches("attrs=\"GUID:63\", type=933ac7e1").count(), 1);
        assert!(!script(&disk, false).unwrap().contains("attrs"));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert!(script(&disk("a\", start=0"), false).is_err());
    }

    #[test]
    fn devices_that_end_in_a_digit_get_a_p() {
        assert_eq!(partition(Path::new("/dev/vdb"), 2), Path::new("/dev/vdb2"));
        assert_eq!(partition(Path::new("/dev/loop0"), 2), Path::new("/dev/loop0p2"));
    }
}
