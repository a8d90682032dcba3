//! Acceleration: what was asked for, what there is, and what is known about it.

use crate::error::{Class, Classify};
use crate::facts;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The device of KVM: what `PARTICLE_VM_KVM` names, for containers that have it elsewhere, or `/dev/kvm`.
pub(crate) fn device() -> PathBuf {
    std::env::var_os("PARTICLE_VM_KVM").map_or_else(|| PathBuf::from("/dev/kvm"), PathBuf::from)
}

/// Seconds for which an uncertain verdict holds.
const DOUBT: i64 = 3600;

/// What the user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where a guest runs with it, emulation elsewhere
    #[default]
    Auto,
    /// KVM; without it nothing is done
    Kvm,
    /// Emulation: slow, and no security boundary
    Tcg,
}

/// What a VM runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accelerator {
    /// The value of QEMU's option `-accel`.
    pub(crate) fn option(self) -> String {
        let device = device();
        match self {
            // Only newer versions of QEMU know the property.
            Self::Kvm if device != Path::new("/dev/kvm") => {
                format!("kvm,device={}", device.display().to_string().replace(',', ",,"))
            }
            Self::Kvm => "kvm".into(),
            Self::Tcg => "tcg,thread=multi".into(),
        }
    }

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Why there is no KVM. The three have different mends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoKvm {
    /// The device does not exist.
    #[error("there is no {}", device().display())]
    Missing,
    /// This user may not open it.
    #[error("this user may not open {}", device().display())]
    Forbidden,
    /// It exists, but no guest runs with it.
    #[error("{device} is there, but no guest runs with it: {0}", device = device().display())]
    Unusable(String),
}

impl Classify for NoKvm {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Missing => {
                "turn on virtualisation in the machine's firmware or in the hypervisor it runs on; give a container the \
                 device with `--device /dev/kvm`"
            }
            Self::Forbidden => {
                "add the user to the device's group with `sudo adduser \"$USER\" kvm` and log in again; give a container \
                 the group with `--group-add`"
            }
            Self::Unusable(_) => "nested virtualisation does not work here; do without KVM with `--accel tcg`",
        }
        .into())
    }
}

/// Find out whether KVM can be opened. Whether a guest runs with it is another question.
///
/// # Errors
/// Why it cannot.
pub fn open_kvm() -> Result<(), NoKvm> {
    match OpenOptions::new().read(true).write(true).open(device()) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => NoKvm::Missing,
            io::ErrorKind::PermissionDenied => NoKvm::Forbidden,
            _ => NoKvm::Unusable(error.to_string()),
        }),
    }
}

/// What was found out about KVM with one kernel, kept until the next boot of the host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    kernel: String,
    qemu: String,
    boot: String,
    /// Unix time until which it holds, if that is not the next boot.
    until: Option<i64>,
    /// Why no guest runs with KVM; None when one did.
    pub unusable: Option<String>,
}

impl Verdict {
    /// What is known in `facts` about `kernel` and a QEMU of version `qemu`.
    pub fn load(facts: &Path, kernel: &Path, qemu: &str) -> Option<Self> {
        let verdict: Self = serde_json::from_slice(&fs::read(file(facts)).ok()?).ok()?;
        let same = verdict.kernel == identity(kernel)? && verdict.qemu == qemu && verdict.boot == boot_id()?;
        let holds = verdict.until.is_none_or(|until| now() < until);
        (same && holds).then_some(verdict)
    }

    /// Whether it holds until the next boot.
    pub fn is_certain(&self) -> bool {
        self.until.is_none()
    }

    /// Keep what was found out, for good or, when it is not `certain`, for an hour.
    ///
    /// # Errors
    /// When `folder` cannot be written to.
    pub fn store(folder: &Path, kernel: &Path, qemu: &str, unusable: Option<String>, certain: bool) -> io::Result<()> {
        let (Some(kernel), Some(boot)) = (identity(kernel), boot_id()) else { return Ok(()) };
        let until = (!certain).then(|| now() + DOUBT);
        let verdict = Self { kernel, qemu: qemu.into(), boot, until, unusable };
        facts::keep(&file(folder), &verdict)
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn file(facts: &Path) -> PathBuf {
    facts.join("kvm.json")
}

/// Tells one kernel, and the device it is to run with, from another. The kernel's folder is named by a digest of its
/// content and verified when it is opened, so the content need not be read again here.
fn identity(kernel: &Path) -> Option<String> {
    let path = kernel.canonicalize().ok()?;
    let data = path.metadata().ok()?;
    let (length, seconds, nanoseconds) = (data.len(), data.mtime(), data.mtime_nsec());
    Some(format!("{} {length} {seconds}.{nanoseconds:09} {}", path.display(), device().display()))
}

fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_kernel_and_qemu_only() {
        let dir = tempfile::tempdir().unwrap();
        let (kernel, other) = (dir.path().join("vmlinux"), dir.path().join("other"));
        fs::write(&kernel, "a kernel").unwrap();
        fs::write(&other, "another kernel").unwrap();
        assert!(Verdict::load(dir.path(), &kernel, "10.0.2").is_none());
        Verdict::store(dir.path(), &kernel, "10.0.2", Some("emulation failure".into()), true).unwrap();
        let verdict = Verdict::load(dir.path(), &kernel, "10.0.2").unwrap();
        assert_eq!(verdict.unusable.as_deref(), Some("emulation failure"));
        assert!(Verdict::load(dir.path(), &kernel, "10.0.3").is_none());
        assert!(Verdict::load(dir.path(), &other, "10.0.2").is_none());
        fs::write(&kernel, "a kernel that was updated").unwrap();
        assert!(Verdict::load(dir.path(), &kernel, "10.0.2").is_none());
    }

    #[test]
    fn an_uncertain_verdict_does_not_hold_long() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("vmlinux");
        fs::write(&kernel, "a kernel").unwrap();
        Verdict::store(dir.path(), &kernel, "10.0.2", Some("too slow".into()), false).unwrap();
        let mut verdict = Verdict::load(dir.path(), &kernel, "10.0.2").unwrap();
        verdict.until = Some(now() - 1);
        fs::write(file(dir.path()), serde_json::to_vec(&verdict).unwrap()).unwrap();
        assert!(Verdict::load(dir.path(), &kernel, "10.0.2").is_none());
    }

    #[test]
    fn a_broken_verdict_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), "{").unwrap();
        assert!(Verdict::load(dir.path(), Path::new("/proc/version"), "10.0.2").is_none());
    }
}
