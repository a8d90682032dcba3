//! The root file system: read-only layers, and above them a writable one on the scratch disk.

use super::disks::Disks;
use super::mounts::{MountError, make_and_mount};
use crate::cancel::Cancel;
use crate::paths;
use crate::process::lines::Lines;
use crate::process::{Command, Limits, ProcessError, run};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Where the layers are mounted in the initramfs.
const LAYERS: &str = "/layers";

/// Where the scratch disk is mounted until the root file system is complete.
const SCRATCH: &str = "/scratch";

/// Where the root file system is put together.
const NEW_ROOT: &str = "/root";

/// Where ext4 has its magic number, and what that is (linux/fs/ext4/ext4.h, `s_magic`).
const MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);

/// How long mke2fs may take.
const FORMAT_TIME: Duration = Duration::from_secs(120);

/// Why there is no root file system.
#[derive(Debug, Error)]
pub enum RootError {
    /// A part cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The scratch disk cannot be formatted.
    #[error("cannot format the scratch disk: {output}")]
    Format {
        /// What mke2fs wrote.
        output: String,
        /// How it ended.
        #[source]
        source: ProcessError,
    },
    /// Something else cannot be done.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn cannot(what: impl Into<String>) -> impl FnOnce(io::Error) -> RootError {
    |source| RootError::Io { what: what.into(), source }
}

/// Put the root file system together and make it the root of the agent.
pub(super) fn enter(disks: &Disks) -> Result<(), RootError> {
    let layers = mount_layers(&disks.root_layers)?;
    let scratch = Path::new(SCRATCH);
    match &disks.scratch {
        Some(disk) => mount_scratch(disk, &layers[0])?,
        None => make_and_mount("tmpfs", scratch, Some("tmpfs"), MsFlags::empty(), "mode=0755")?,
    }
    mount_overlay(&layers, scratch)?;
    move_into(Path::new(NEW_ROOT))?;
    for folder in [paths::TREE_TMP, paths::TARGET] {
        fs::create_dir_all(folder).map_err(cannot(format!("make {folder}")))?;
    }
    Ok(())
}

/// Mount the layers; gives their mount points, lowest first.
fn mount_layers(disks: &[PathBuf]) -> Result<Vec<PathBuf>, RootError> {
    let mounted = disks.iter().enumerate().map(|(number, disk)| {
        let point = Path::new(LAYERS).join(number.to_string());
        make_and_mount(&disk.to_string_lossy(), &point, Some("squashfs"), MsFlags::MS_RDONLY, "")?;
        Ok(point)
    });
    mounted.collect()
}

/// Mount the scratch disk. An empty one gets a file system; another has what an earlier build has made, beside what has
/// changed in the root file system of its machine, which is of no use to this one.
fn mount_scratch(disk: &Path, layer: &Path) -> Result<(), RootError> {
    let is_empty = is_empty(disk).map_err(cannot(format!("read {}", disk.display())))?;
    if is_empty {
        format_scratch(disk, layer)?;
    }
    let flags = MsFlags::MS_NOATIME;
    make_and_mount(&disk.to_string_lossy(), Path::new(SCRATCH), Some("ext4"), flags, "noinit_itable,nobarrier")?;
    if !is_empty {
        let root = Path::new(SCRATCH).join(".root");
        fs::remove_dir_all(&root).map_err(cannot(format!("remove {}", root.display())))?;
    }
    Ok(())
}

fn is_empty(disk: &Path) -> io::Result<bool> {
    let (place, magic) = MAGIC;
    let mut found = [0; 2];
    File::open(disk)?.read_exact_at(&mut found, place)?;
    Ok(found != magic)
}

/// Make a file system on the scratch disk with the mke2fs of the lowest layer.
///
/// It needs no journal, no checksums and no initialised inode tables: nothing of it has to survive a crash.
fn format_scratch(disk: &Path, layer: &Path) -> Result<(), RootError> {
    let devices = layer.join("dev");
    make_and_mount("devtmpfs", &devices, Some("devtmpfs"), MsFlags::MS_NOSUID, "")?;
    let command = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"])
        .args(["-O", "^has_journal,^metadata_csum,^resize_inode,uninit_bg"])
        .args(["-E", "lazy_itable_init=1,nodiscard,packed_meta_blocks=1"])
        .arg(disk)
        .root(layer);
    let cancel = Cancel::new().map_err(cannot("make an event"))?;
    let limits = Limits { cancel: &cancel, deadline: Some(Instant::now() + FORMAT_TIME) };
    let (mut lines, mut output) = (Lines::default(), Vec::new());
    let made = run(&command, limits, None, &mut |bytes| lines.push(bytes, |line| output.push(line)));
    lines.finish(|line| output.push(line));
    made.map_err(|source| RootError::Format { output: output.join("; "), source })?;
    umount2(&devices, MntFlags::empty()).map_err(|error| cannot("unmount /dev of the layer")(error.into()))
}

fn mount_overlay(layers: &[PathBuf], scratch: &Path) -> Result<(), RootError> {
    let (upper, work) = (scratch.join(paths::UPPER), scratch.join(".root/work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).map_err(cannot(format!("make {}", folder.display())))?;
    }
    let lower = layers.iter().rev().map(|layer| layer.to_string_lossy()).collect::<Vec<_>>().join(":");
    // Volatile: nothing of it has to outlive the machine, so nothing has to be synced.
    let data = format!("lowerdir={lower},upperdir={},workdir={},volatile", upper.display(), work.display());
    Ok(make_and_mount("overlay", Path::new(NEW_ROOT), Some("overlay"), MsFlags::MS_NOATIME, &data)?)
}

/// Make `root` the root of this process, and thereby of the kernel's helpers (modprobe): PID 1 shares its root with
/// them.
fn move_into(root: &Path) -> Result<(), RootError> {
    let moved = |from: &str| -> Result<(), RootError> {
        let to = root.join(from.trim_start_matches('/'));
        Ok(make_and_mount(from, &to, None, MsFlags::MS_MOVE, "")?)
    };
    ["/proc", "/sys", "/dev", SCRATCH].into_iter().try_for_each(moved)?;
    let enter = || {
        nix::unistd::chdir(root)?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        nix::unistd::chroot(".")?;
        nix::unistd::chdir("/")
    };
    enter().map_err(Errno::into).map_err(cannot("move into the root file system"))
}
