//! Landlock: what the helpers of a VM may touch in the file system if the guest takes them over.
//!
//! Landlock needs no privilege. Kernels that lack it, or parts of it, enforce what they have: the VM is the boundary,
//! this is a second one.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope, path_beneath_rules,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Newest version whose rules are understood here; older kernels enforce what they know of it.
const VERSION: ABI = ABI::V6;

/// What every program needs to be loaded, and QEMU its firmware and modules.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/qemu",
    "/etc/localtime",
    "/proc",
    "/sys/devices/system",
];

/// Devices that give nothing away.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// A ruleset without a rule: nothing may be opened, no TCP port be used, no other process be signalled.
fn nothing() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()
}

/// Let `command`, which runs `program`, read `readable` and write to the files `writable`, beside what every program
/// needs.
///
/// # Errors
/// When the kernel has Landlock, and refuses the rules.
pub fn confine(command: &mut Command, program: &Path, readable: &[&Path], writable: &[&Path]) -> io::Result<()> {
    let read = AccessFs::from_read(VERSION);
    let write: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let real = program.canonicalize()?;
    let home = std::env::var_os("HOME").and_then(|home| Path::new(&home).canonicalize().ok());
    let installed = installed(&real, home.as_deref());
    let rules = nothing()
        .and_then(|rules| rules.add_rules(path_beneath_rules(SYSTEM, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(installed, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, write)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable, write)))
        .map_err(io::Error::other)?;
    if let Some(ruleset) = rules.into() {
        restrict_at_exec(command, ruleset);
    }
    Ok(())
}

/// Where `program`, outside of what [`SYSTEM`] names, finds what belongs to it: beside itself, and where its prefix has
/// libraries and data. In the home folder or above it other things lie there too, and secrets among them; of that only
/// the program itself and QEMU's data are named.
fn installed(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let own = program.parent().unwrap_or(program);
    let prefix = own.parent().unwrap_or(own);
    if home.is_some_and(|home| own.starts_with(home) || home.starts_with(own)) {
        return vec![program.to_owned(), prefix.join("share/qemu")];
    }
    let folders = ["lib", "lib64", "libexec", "share/qemu"].map(|folder| prefix.join(folder));
    [own.to_owned()].into_iter().chain(folders).collect()
}

fn restrict_at_exec(command: &mut Command, ruleset: OwnedFd) {
    // SAFETY: between fork and exec only prctl(2) and landlock_restrict_self(2) are called; neither allocates.
    unsafe {
        command.pre_exec(move || {
            // Without it an ordinary user may not restrict itself.
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Restrict this thread, and those that it starts from now on, to the folder `share`.
///
/// # Errors
/// When the kernel has Landlock, and refuses the rules.
pub fn confine_to_share(share: &Path, read_only: bool) -> Result<(), RulesetError> {
    let access = if read_only { AccessFs::from_read(VERSION) } else { AccessFs::from_all(VERSION) };
    nothing()?.add_rules(path_beneath_rules([share], access))?.restrict_self()?;
    Ok(())
}

/// Whether this kernel enforces any of it.
#[cfg(test)]
pub(crate) fn is_enforced() -> bool {
    nothing().is_ok_and(|rules| Option::<OwnedFd>::from(rules).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child;
    use std::time::Duration;

    async fn cat(file: &Path, readable: &[&Path]) -> bool {
        let program = Path::new("/bin/cat");
        let mut command = child::command(program);
        command.arg(file);
        confine(&mut command, program, readable, &[]).unwrap();
        child::run(command, Duration::from_secs(10)).await.is_ok()
    }

    #[test]
    fn a_program_in_the_home_folder_does_not_open_it() {
        let installed = |program: &str| installed(Path::new(program), Some(Path::new("/home/me")));
        for program in ["/home/me/qemu", "/home/me/bin/qemu", "/home/me/a/bin/qemu", "/home/qemu", "/qemu"] {
            for opened in installed(program) {
                assert!(opened == Path::new(program) || opened.ends_with("share/qemu"), "{opened:?} for {program}");
            }
        }
        let outside = installed("/srv/qemu/bin/qemu");
        assert!(["/srv/qemu/bin", "/srv/qemu/lib"].iter().all(|folder| outside.contains(&folder.into())));
    }

    #[tokio::test]
    async fn a_confined_program_reads_what_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (dir.path().join("mine"), dir.path().join("other"));
        std::fs::write(&mine, "").unwrap();
        std::fs::write(&other, "").unwrap();
        assert!(cat(&mine, &[&mine]).await);
        // A kernel without Landlock lets it pass, which is not what is tested here.
        assert_eq!(cat(&other, &[&mine]).await, !is_enforced());
    }
}
