//! What several modules' tests need.
#![allow(clippy::unwrap_used, reason = "a fixture that is wrong ends the test")]

use crate::process::reaper;
use particle_vm_protocol::{
    Disk, Filesystem, FormattedFilesystem, Partition, PartitionKind, Plan, PlannedStage, SectorSize, Stage,
};

/// A temporary folder, which goes with this.
pub struct Folder(std::path::PathBuf);

impl Folder {
    /// A new one; `name` tells it from those of other tests.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("particle-vm-agent-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Run a program that has to end well; gives what it has written to its standard output.
pub fn run(command: &mut std::process::Command) -> Vec<u8> {
    let (well, output, errors) = finished(command);
    assert!(well, "{command:?}: {}", String::from_utf8_lossy(&errors));
    output
}

/// Run a program, started and reaped as the agent's own are: the thread that reaps takes every process, and the standard
/// library would wait for one that is gone. Gives whether it has ended well, and what it has written to its standard output
/// and error.
pub fn finished(command: &mut std::process::Command) -> (bool, Vec<u8>, Vec<u8>) {
    let folder = Folder::new(&format!("output-{:?}", std::thread::current().id()));
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
    command.stdin(std::process::Stdio::null()).stdout(file("output")).stderr(file("errors"));
    let (pid, _) = reaper::spawn(command).unwrap();
    let status = reaper::wait(pid).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    (status.success(), read("output"), read("errors"))
}

/// A partition with a file system whose UUID is `uuid`.
pub fn partition(kind: PartitionKind, filesystem: Filesystem, uuid: &str, mountpoint: Option<&str>) -> Partition {
    Partition {
        kind,
        label: String::new(),
        uuid: String::new(),
        size: None,
        filesystem: Some(FormattedFilesystem { kind: filesystem, label: String::new(), uuid: uuid.into() }),
        mountpoint: mountpoint.map(str::to_owned),
        options: Vec::new(),
    }
}

/// A plan with the stages of a JSON list, each of which may take a minute, for a disk with a `/boot`, an ESP and an ext4
/// root whose UUID is `root`.
pub fn plan(stages: &str) -> Plan {
    let stages: Vec<Stage> = serde_json::from_str(stages).unwrap();
    let planned = |(index, stage): (usize, Stage)| PlannedStage {
        title: format!("{} {}", index + 1, stage.name()),
        deadline: 60,
        keep: false,
        stage,
    };
    Plan {
        name: "test".into(),
        architecture: "amd64".into(),
        base: None,
        bootloader: particle_vm_protocol::stage::Bootloader::default(),
        root_argument: None,
        stages: stages.into_iter().enumerate().map(planned).collect(),
        done: 0,
        disk: Some(Disk {
            size: 1 << 30,
            sector_size: SectorSize::B512,
            uuid: String::new(),
            partitions: vec![
                partition(PartitionKind::Boot, Filesystem::Ext4, "boot", Some("/boot")),
                partition(PartitionKind::Esp, Filesystem::Vfat, "AB12-34CD", Some("/boot/efi")),
                partition(PartitionKind::Root, Filesystem::Ext4, "root", Some("/")),
            ],
        }),
        archives: Vec::new(),
        source_date: None,
        apt_conf: Vec::new(),
    }
}
