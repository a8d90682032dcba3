//! What is on a disk, as others find it from outside: the partition table, the file systems, their names.

use particle_vm_tests::{Fault, Mirror, Place, leftovers, measured, mirror};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longer than such a build takes under emulation on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

const SECTOR: u64 = 4096;

/// The tree is an output too: what its fstab(5) names has to be what is on the disk.
const OUTPUT: &str = "disk:
  size: 1GiB
  sector_size: 4096
  partitions:
    - { kind: boot, label: kernels, size: 128MiB }
    - { kind: swap, label: spare, size: 64MiB }
    - { kind: linux, label: services, filesystem: btrfs, mountpoint: /srv, size: 192MiB }
    - { kind: root, label: system, filesystem: xfs, grow: true }
output: { formats: [raw, tar] }
";

/// File system, label and mount point of each partition of that, in their order.
const EXPECTED: [(&str, &str, &str); 4] =
    [("ext4", "kernels", "/boot"), ("swap", "spare", "none"), ("btrfs", "services", "/srv"), ("xfs", "system", "/")];

/// A partition as the table has it.
#[derive(Debug)]
struct Partition {
    name: String,
    offset: u64,
    size: u64,
}

/// The partitions of a table with sectors of [`SECTOR`] bytes (UEFI specification, 5.3).
fn partitions(disk: &[u8]) -> Vec<Partition> {
    let number = |at: usize| u64::from_le_bytes(disk[at..at + 8].try_into().unwrap());
    let header = SECTOR as usize;
    assert_eq!(&disk[header..header + 8], b"EFI PART", "the header is in the second sector");
    assert_ne!(&disk[512..520], b"EFI PART", "sectors have 512 bytes");
    let entries = (number(header + 72) * SECTOR) as usize;
    let length = (number(header + 84) & 0xffff_ffff) as usize;
    let starts = (0..16).map(|index| entries + index * length).filter(|start| number(*start) != 0);
    let partition = |start: usize| {
        let (first, last) = (number(start + 32), number(start + 40));
        let units = disk[start + 56..start + 128].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let name = char::decode_utf16(units.take_while(|unit| *unit != 0)).map(Result::unwrap).collect();
        Partition { name, offset: first * SECTOR, size: (last + 1 - first) * SECTOR }
    };
    starts.map(partition).collect()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Kind, UUID and label of what is in a partition.
fn probed(disk: &Path, partition: &Partition) -> [String; 3] {
    let (offset, size) = (partition.offset.to_string(), partition.size.to_string());
    let place = ["--probe", "--offset", &offset, "--size", &size, "--output", "export", disk.to_str().unwrap()];
    let found = output("/usr/sbin/blkid", &place);
    ["TYPE=", "UUID=", "LABEL="].map(|key| {
        let value = found.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_else(|| panic!("no {key} in {found}")).to_owned()
    })
}

#[test]
fn a_disk_of_large_sectors_has_each_file_system_with_its_label_and_the_uuid_of_fstab() {
    let place = Place::new();
    let mirror = Mirror::start(Fault::None);
    place.write("tiny.gpg", mirror::keyring());
    let stage = "  - type: run\n    options: { script: \"mkdir /srv; echo kept > /srv/file\" }\n";
    let recipe = mirror.recipe(stage);
    let recipe = place.write("tiny.yml", recipe.split("disk:").next().unwrap().to_owned() + OUTPUT);
    let outcome = place.start_build(&recipe, &[]).finish(DEADLINE).exits(0);
    measured("a disk of large sectors", "seconds", outcome.took.as_secs_f64());
    leftovers::no_processes(&place);
    leftovers::no_files(&place, &["SHA256SUMS", "build.log", "manifest.json", "tiny.raw", "tiny.tar"]);

    let disk = place.out().join("tiny.raw");
    let mut start = vec![0; 1 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open(&disk).unwrap(), &mut start).unwrap();
    let partitions = partitions(&start);
    assert_eq!(partitions.len(), EXPECTED.len(), "{partitions:?}");
    let tar = place.out().join("tiny.tar");
    let fstab = output("tar", &["--extract", "--to-stdout", "--file", tar.to_str().unwrap(), "etc/fstab"]);
    let lines = fstab.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect::<Vec<_>>());
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), EXPECTED.len(), "{fstab}");
    for (partition, (kind, label, point)) in partitions.iter().zip(EXPECTED) {
        let [found, uuid, name] = probed(&disk, partition);
        measured("a disk of large sectors", label, format!("{found} {uuid} of {} bytes", partition.size));
        assert_eq!((found.as_str(), name.as_str(), partition.name.as_str()), (kind, label, label));
        let own = lines.iter().find(|line| line[0] == format!("UUID={uuid}"));
        assert_eq!(own.map(|line| (line[1], line[2])), Some((point, kind)), "{uuid} in {fstab}");
    }
    // What fixed sizes and both edges leave.
    assert_eq!(partitions.iter().map(|partition| partition.size >> 20).collect::<Vec<_>>(), [128, 64, 192, 638]);
}
