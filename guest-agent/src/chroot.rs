//! Preparing a tree for running things in it.

use crate::paths;
use crate::report;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where apt finds the options of the build, seen from inside of the tree. It lies on a tmpfs, so nothing stays.
const APT_CONF: &str = "run/particle-vm/apt.conf";

/// Tells invoke-rc.d(8) to start no service, seen from inside of the tree.
const POLICY: &str = "usr/sbin/policy-rc.d";

/// invoke-rc.d(8): 101 means "action forbidden by policy".
const POLICY_SCRIPT: &str = "#!/bin/sh\nexit 101\n";

/// The device nodes of a container, as the OCI runtime specification lists them: name, major and minor number.
const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The symbolic links of the same list.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// What is in the tree's `/dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// What every program may expect, and no disk.
    Minimal,
    /// All that the machine has, for installing a bootloader.
    All,
}

/// Why a tree cannot be prepared, or not be left.
#[derive(Debug, Error)]
#[error("cannot {what}")]
pub struct ChrootError {
    /// What was tried.
    pub what: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

fn cannot<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> ChrootError {
    |error| ChrootError { what: what.into(), source: error.into() }
}

/// A tree in which commands can run: with `/dev`, `/proc`, `/sys`, `/run` and `/tmp`, with apt's options of the build,
/// and with a policy that no service is started. All of it is undone when this is dropped.
#[derive(Debug)]
pub struct Chroot {
    root: PathBuf,
    /// Mount points, in the order of mounting.
    mounts: Vec<PathBuf>,
    policy: Policy,
}

/// What stood at [`POLICY`] before.
#[derive(Debug)]
enum Policy {
    /// It was not touched.
    Untouched,
    /// There was none.
    Absent,
    /// There was one.
    Present(Vec<u8>, Permissions),
}

impl Chroot {
    /// Prepare `root`. Folders for the mounts are made where they are missing, and stay: every system has them.
    ///
    /// # Errors
    /// When something cannot be mounted or written. Everything is undone then.
    pub fn enter(root: &Path, devices: Devices, apt_conf: &[String]) -> Result<Self, ChrootError> {
        let mut chroot = Self { root: root.to_owned(), mounts: Vec::new(), policy: Policy::Untouched };
        chroot.prepare(devices, apt_conf)?;
        Ok(chroot)
    }

    /// The tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a command in the tree needs in its environment.
    pub fn environment(&self) -> [(String, String); 1] {
        [("APT_CONFIG".into(), format!("/{APT_CONF}"))]
    }

    /// Undo everything.
    ///
    /// # Errors
    /// When something is in use and stays mounted.
    pub fn leave(mut self) -> Result<(), ChrootError> {
        self.undo()
    }

    fn prepare(&mut self, devices: Devices, apt_conf: &[String]) -> Result<(), ChrootError> {
        let nosuid = MsFlags::MS_NOSUID;
        let safe = nosuid | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        self.mount("proc", "proc", Some("proc"), safe, "")?;
        self.mount("sysfs", "sys", Some("sysfs"), safe | MsFlags::MS_RDONLY, "")?;
        self.mount_devices(devices)?;
        // The appliance's own terminals, so that one of them has a name in the tree too.
        self.mount("/dev/pts", "dev/pts", None, MsFlags::MS_BIND, "")?;
        self.mount("tmpfs", "dev/shm", Some("tmpfs"), nosuid | MsFlags::MS_NODEV, "mode=1777")?;
        self.mount("tmpfs", "run", Some("tmpfs"), nosuid | MsFlags::MS_NODEV, "mode=0755")?;
        self.make_folder("run/lock", 0o1777)?;
        let tmp = Path::new(paths::TREE_TMP);
        fs::create_dir_all(tmp)
            .and_then(|()| fs::set_permissions(tmp, Permissions::from_mode(0o1777)))
            .map_err(cannot(format!("make {}", tmp.display())))?;
        self.mount(paths::TREE_TMP, "tmp", None, MsFlags::MS_BIND, "")?;
        self.make_folder("run/particle-vm", 0o755)?;
        let conf = self.root.join(APT_CONF);
        fs::write(&conf, apt_conf.iter().map(|line| format!("{line}\n")).collect::<String>())
            .map_err(cannot(format!("write {}", conf.display())))?;
        self.forbid_services()
    }

    fn mount_devices(&mut self, devices: Devices) -> Result<(), ChrootError> {
        if devices == Devices::All {
            return self.mount("devtmpfs", "dev", Some("devtmpfs"), MsFlags::MS_NOSUID, "");
        }
        self.mount("tmpfs", "dev", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=0755,size=1m")?;
        let dev = self.root.join("dev");
        for (name, major, minor) in NODES {
            let path = dev.join(name);
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
                .map_err(io::Error::from)
                // mknod(2) has taken the umask off.
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o666)))
                .map_err(cannot(format!("make {}", path.display())))?;
        }
        for (to, name) in LINKS {
            symlink(to, dev.join(name)).map_err(cannot(format!("make {}", dev.join(name).display())))?;
        }
        Ok(())
    }

    /// Mount something at `point`, a path relative to the tree.
    fn mount(
        &mut self,
        source: &str,
        point: &str,
        kind: Option<&str>,
        flags: MsFlags,
        data: &str,
    ) -> Result<(), ChrootError> {
        self.make_folder(point, 0o755)?;
        let path = self.root.join(point);
        mount(Some(source), &path, kind, flags, (!data.is_empty()).then_some(data))
            .map_err(cannot(format!("mount {source} at {}", path.display())))?;
        self.mounts.push(path);
        Ok(())
    }

    /// Make a folder in the tree unless it is there. A link in its place is refused: it would lead out of the tree.
    fn make_folder(&self, relative: &str, mode: u32) -> Result<(), ChrootError> {
        let path = self.root.join(relative);
        let made = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            }
            Err(error) => Err(error),
        };
        made.map_err(cannot(format!("use {}", path.display())))
    }

    fn forbid_services(&mut self) -> Result<(), ChrootError> {
        let path = self.root.join(POLICY);
        let failed = || cannot(format!("write {}", path.display()));
        if !path.parent().is_some_and(Path::is_dir) {
            // Without sysvinit's tools there is nothing that asks.
            return Ok(());
        }
        let before = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                Policy::Present(fs::read(&path).map_err(failed())?, metadata.permissions())
            }
            // The alternative that a package provides; it is that package's business.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Policy::Absent,
            Err(error) => return Err(failed()(error)),
        };
        self.policy = before;
        write_script(&path, POLICY_SCRIPT.as_bytes(), Permissions::from_mode(0o755)).map_err(failed())
    }

    fn undo(&mut self) -> Result<(), ChrootError> {
        let policy = self.root.join(POLICY);
        let restored = match std::mem::replace(&mut self.policy, Policy::Untouched) {
            Policy::Untouched => Ok(()),
            Policy::Absent => fs::remove_file(&policy),
            Policy::Present(content, permissions) => write_script(&policy, &content, permissions),
        };
        let mut result = restored.map_err(cannot(format!("restore {}", policy.display())));
        for point in std::mem::take(&mut self.mounts).iter().rev() {
            if let Err(error) = unmount(point) {
                result = result.and(Err(error));
            }
        }
        // The next tree, or the next stage, begins with an empty /tmp.
        let _ = fs::remove_dir_all(paths::TREE_TMP);
        result
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            report::complain(&error);
        }
    }
}

fn write_script(path: &Path, content: &[u8], permissions: Permissions) -> io::Result<()> {
    // A file that is being executed cannot be written to, and a new one has no links that lead elsewhere.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(content)?;
    file.set_permissions(permissions)
}

fn unmount(point: &Path) -> Result<(), ChrootError> {
    match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        // Something is mounted beneath it or uses it. Out of the tree it goes in any case.
        Err(Errno::EBUSY) => umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(cannot(format!("unmount {}", point.display()))),
        Err(error) => Err(cannot(format!("unmount {}", point.display()))(error)),
    }
}
