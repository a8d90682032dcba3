//! Preparing a tree for running things in it.

use crate::paths;
use crate::report;
use crate::tree::{Tree, TreeError};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where apt finds the options of the build, seen from inside of the tree. It does not lie in the tree, so nothing stays.
const APT_CONF: &str = "run/particle-vm/apt.conf";

/// Tells invoke-rc.d(8) to start no service, seen from inside of the tree.
const POLICY: &str = "/usr/sbin/policy-rc.d";

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

impl From<TreeError> for ChrootError {
    fn from(TreeError { what, path, source }: TreeError) -> Self {
        Self { what: format!("{what} `{path}` in the tree"), source }
    }
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
    /// There was one, with these permissions.
    Present(Vec<u8>, u32),
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

    /// The same, but for what is in `/run` and `/tmp`: whoever enters the tree again finds it there.
    ///
    /// # Errors
    /// As [`Self::leave`].
    pub fn pause(mut self) -> Result<(), ChrootError> {
        self.unmount()
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
        for (path, mode, point) in [(paths::TREE_RUN, 0o755, "run"), (paths::TREE_TMP, 0o1777, "tmp")] {
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
                .map_err(cannot(format!("make {path}")))?;
            self.mount(path, point, None, MsFlags::MS_BIND, "")?;
        }
        self.make_folder("run/lock", 0o1777)?;
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

    fn tree(&self) -> Result<Tree, ChrootError> {
        Tree::open(&self.root).map_err(cannot(format!("open {}", self.root.display())))
    }

    /// Whether the tree itself is mounted read-only.
    fn is_read_only(&self) -> bool {
        statvfs(&self.root).is_ok_and(|state| state.flags().contains(FsFlags::ST_RDONLY))
    }

    fn forbid_services(&mut self) -> Result<(), ChrootError> {
        let tree = self.tree()?;
        // Without sysvinit's tools there is nothing that asks. A link is the alternative that a package provides; it is
        // that package's business.
        // In a deployment nothing is installed, and its /usr cannot be written to.
        if self.is_read_only() || !tree.is_folder("/usr/sbin") || tree.link_target(POLICY).is_some() {
            return Ok(());
        }
        self.policy = match tree.stat(POLICY) {
            Some(stat) => Policy::Present(tree.read(POLICY)?, stat.st_mode & 0o7777),
            None => Policy::Absent,
        };
        Ok(tree.write(POLICY, POLICY_SCRIPT, 0o755)?)
    }

    /// Put back what stood at [`POLICY`], unless something in the tree has put something else there since, or removed it.
    fn allow_services(&mut self) -> Result<(), ChrootError> {
        let before = std::mem::replace(&mut self.policy, Policy::Untouched);
        if let Policy::Untouched = before {
            return Ok(());
        }
        let tree = self.tree()?;
        let is_ours = tree.link_target(POLICY).is_none()
            && tree.is_file(POLICY)
            && tree.read(POLICY)? == POLICY_SCRIPT.as_bytes();
        match before {
            Policy::Absent if is_ours => tree.remove(POLICY)?,
            Policy::Present(content, mode) if is_ours => tree.write(POLICY, content, mode)?,
            _ => {}
        }
        Ok(())
    }

    fn undo(&mut self) -> Result<(), ChrootError> {
        let result = self.unmount();
        // The next tree begins with empty ones.
        for path in [paths::TREE_RUN, paths::TREE_TMP] {
            let _ = fs::remove_dir_all(path);
        }
        result
    }

    fn unmount(&mut self) -> Result<(), ChrootError> {
        let mut result = self.allow_services();
        for point in std::mem::take(&mut self.mounts).iter().rev() {
            if let Err(error) = unmount(point) {
                result = result.and(Err(error));
            }
        }
        result
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        // Nothing is mounted any more when it was left or paused.
        if self.mounts.is_empty() {
            return;
        }
        if let Err(error) = self.undo() {
            report::complain(&error);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree whose policy is forbidden, changed by `change`, and allowed again: what stands there then.
    fn policy_after(name: &str, before: Option<&str>, change: impl FnOnce(&Path)) -> Option<String> {
        let root = std::env::temp_dir().join(format!("particle-vm-policy-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        let policy = root.join(POLICY.trim_start_matches('/'));
        if let Some(before) = before {
            fs::write(&policy, before).unwrap();
        }
        let mut chroot = Chroot { root: root.clone(), mounts: Vec::new(), policy: Policy::Untouched };
        chroot.forbid_services().unwrap();
        assert_eq!(fs::read_to_string(&policy).unwrap(), POLICY_SCRIPT);
        change(&policy);
        chroot.allow_services().unwrap();
        let after = fs::read_to_string(&policy).ok();
        fs::remove_dir_all(&root).unwrap();
        after
    }

    #[test]
    fn what_a_recipe_does_with_the_policy_stays() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested: files in a tree belong to root");
            return;
        }
        assert_eq!(policy_after("none", None, |_| {}), None);
        assert_eq!(policy_after("one", Some("own"), |_| {}).unwrap(), "own");
        assert_eq!(policy_after("removed", None, |path| fs::remove_file(path).unwrap()), None);
        let written = policy_after("written", None, |path| fs::write(path, "the recipe's").unwrap());
        assert_eq!(written.unwrap(), "the recipe's");
    }
}
