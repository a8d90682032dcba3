//! QEMU on this host: where it is, how old it is, and what it runs guests with.

use super::accel::{self, Accel, Accelerator, NoKvm, Verdict};
use crate::child::{self, ChildError};
use crate::dirs::Dirs;
use crate::error::{Class, Classify};
use crate::event::Events;
use nix::unistd::{AccessFlags, access};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";

/// Name of Debian's package with it.
const PACKAGE: &str = "qemu-system-x86";

/// Oldest version for emulation. 7.2 crashes the guest's kernel in one of four boots, whatever the processor model.
const OLDEST_TCG: Version = Version { major: 10, minor: 0, micro: 0 };

/// Oldest version for KVM, that of Debian 12.
const OLDEST_KVM: Version = Version { major: 7, minor: 2, micro: 0 };

/// How long QEMU may take to tell its version; its libraries may have to come from a slow disk.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// Why no VM can be run here.
#[derive(Debug, Error)]
pub enum HypervisorError {
    /// QEMU is not installed.
    #[error("{PROGRAM} is not installed")]
    Missing,
    /// It does not tell its version.
    #[error("cannot find out the version of QEMU")]
    Version(#[source] ChildError),
    /// What it tells is not understood.
    #[error("cannot find out the version of QEMU from `{0}`")]
    StrangeVersion(String),
    /// It is too old whatever the acceleration.
    #[error("QEMU {0} is too old: {OLDEST_KVM} is needed, and {OLDEST_TCG} without KVM")]
    TooOld(Version),
    /// It is too old for emulation, and there is no KVM.
    #[error(
        "QEMU {version} is too old to run the VM without KVM: it crashes the guest's kernel; {OLDEST_TCG} is needed"
    )]
    TooOldForTcg {
        /// Its version.
        version: Version,
        /// Why KVM is not used, unless emulation was asked for.
        #[source]
        kvm: Option<NoKvm>,
    },
    /// KVM was asked for, and there is none.
    #[error("KVM was asked for, but cannot be used")]
    NoKvm(#[source] NoKvm),
}

impl Classify for HypervisorError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        let backport = format!(
            "install a newer one: `sudo apt-get install {PACKAGE}` on Debian 13, on Debian 12 the one of \
             bookworm-backports with `sudo apt-get install -t bookworm-backports {PACKAGE}`"
        );
        match self {
            Self::Missing => Some(format!(
                "install it with `sudo apt-get install {PACKAGE}` (on Debian 12 with `-t bookworm-backports`)"
            )),
            Self::TooOld(_) => Some(backport),
            Self::TooOldForTcg { kvm: None, .. } => Some(backport),
            Self::TooOldForTcg { kvm: Some(reason), .. } => {
                Some(format!("{backport}; or for KVM: {}", reason.advice().unwrap_or_default()))
            }
            Self::NoKvm(reason) => reason.advice(),
            Self::Version(_) | Self::StrangeVersion(_) => None,
        }
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Version(error) => error.details(),
            _ => None,
        }
    }
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Grows by one each year.
    pub major: u32,
    /// Grows with each release of the year.
    pub minor: u32,
    /// Grows with each correction.
    pub micro: u32,
}

impl Version {
    /// The version in the output of `qemu-system-x86_64 --version`.
    fn parse(text: &str) -> Option<Self> {
        let number = text.split_once(" version ")?.1;
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
        let mut parts = number[..end].split('.').map(str::parse);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        Some(Self { major, minor, micro: parts.next().and_then(Result::ok).unwrap_or(0) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { major, minor, micro: 0 } => write!(f, "{major}.{minor}"),
            Self { major, minor, micro } => write!(f, "{major}.{minor}.{micro}"),
        }
    }
}

/// QEMU, and what the user wants it to run with. Cheap to clone; one is enough for a command.
#[derive(Debug, Clone)]
pub struct Hypervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    version: Version,
    /// Whether to run without KVM, and if so why.
    wish: Wish,
    facts: PathBuf,
    events: Events,
    warned: AtomicBool,
}

#[derive(Debug)]
enum Wish {
    Tcg,
    /// Emulation because there is no KVM.
    TcgInstead(NoKvm),
    /// KVM, and nothing else if so `required`.
    Kvm {
        required: bool,
    },
}

/// What to start the next VM with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// This.
    Settled(Accelerator),
    /// KVM, of which nobody knows yet whether it works here.
    Prove,
}

impl Hypervisor {
    /// Look for QEMU and KVM.
    ///
    /// Whether a guest really runs with KVM shows when the first one is started; the verdict is kept in the cache until
    /// the next boot. That VMs are emulated is told to `events` once, unless it was asked for.
    ///
    /// # Errors
    /// When QEMU is missing or too old, or KVM is asked for and is not there.
    pub async fn detect(accel: Accel, dirs: &Dirs, events: &Events) -> Result<Self, HypervisorError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(&path).ok_or(HypervisorError::Missing)?;
        let version = ask_version(&program).await?;
        if version < OLDEST_KVM {
            return Err(HypervisorError::TooOld(version));
        }
        let wish = match (accel, accel::open_kvm()) {
            (Accel::Tcg, _) => Wish::Tcg,
            (Accel::Auto, Ok(())) => Wish::Kvm { required: false },
            (Accel::Kvm, Ok(())) => Wish::Kvm { required: true },
            (Accel::Auto, Err(reason)) => Wish::TcgInstead(reason),
            (Accel::Kvm, Err(reason)) => return Err(HypervisorError::NoKvm(reason)),
        };
        let kvm = match &wish {
            Wish::TcgInstead(reason) => Some(reason.clone()),
            Wish::Tcg | Wish::Kvm { .. } => None,
        };
        if !matches!(wish, Wish::Kvm { .. }) && version < OLDEST_TCG {
            return Err(HypervisorError::TooOldForTcg { version, kvm });
        }
        let (facts, events, warned) = (dirs.facts(), events.clone(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { program, version, wish, facts, events, warned })))
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.0.program
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Whether it is too old to run guests without KVM.
    pub fn needs_kvm(&self) -> bool {
        self.version() < OLDEST_TCG
    }

    /// Why guests that boot `kernel` run without KVM, as far as it is known.
    pub fn no_kvm(&self, kernel: &Path) -> Option<NoKvm> {
        match &self.0.wish {
            Wish::Tcg => None,
            Wish::TcgInstead(reason) => Some(reason.clone()),
            Wish::Kvm { .. } => {
                let verdict = Verdict::load(&self.0.facts, kernel, &self.version().to_string());
                verdict.and_then(|verdict| verdict.unusable).map(NoKvm::Unusable)
            }
        }
    }

    /// What VMs run with here, if it is known without starting one that boots `kernel`.
    ///
    /// # Errors
    /// When KVM is asked for and no guest runs with it.
    pub fn known(&self, kernel: &Path) -> Result<Option<Accelerator>, HypervisorError> {
        Ok(match self.choose(kernel)? {
            Choice::Settled(accelerator) => Some(accelerator),
            Choice::Prove => None,
        })
    }

    /// What to start a VM with that boots `kernel`.
    pub(super) fn choose(&self, kernel: &Path) -> Result<Choice, HypervisorError> {
        match &self.0.wish {
            Wish::Tcg => Ok(Choice::Settled(Accelerator::Tcg)),
            Wish::TcgInstead(reason) => {
                self.warn(reason);
                Ok(Choice::Settled(Accelerator::Tcg))
            }
            Wish::Kvm { required } => match Verdict::load(&self.0.facts, kernel, &self.version().to_string()) {
                None => Ok(Choice::Prove),
                Some(verdict) if *required && !verdict.is_certain() => Ok(Choice::Prove),
                Some(Verdict { unusable: None, .. }) => Ok(Choice::Settled(Accelerator::Kvm)),
                Some(Verdict { unusable: Some(reason), .. }) => self.without_kvm(reason).map(Choice::Settled),
            },
        }
    }

    /// A guest with `kernel` ran with KVM.
    pub(super) fn proved(&self, kernel: &Path) {
        self.remember(kernel, None, true);
    }

    /// No guest with `kernel` runs with KVM; says what to take instead.
    pub(super) fn disproved(&self, kernel: &Path, reason: String) -> Result<Accelerator, HypervisorError> {
        self.remember(kernel, Some(reason.clone()), true);
        self.without_kvm(reason)
    }

    /// A guest with `kernel` did not come up with KVM and did without, which may have been chance.
    pub(super) fn doubted(&self, kernel: &Path, reason: String) {
        self.remember(kernel, Some(reason), false);
    }

    /// Whether nothing else than KVM is wished for.
    pub(super) fn requires_kvm(&self) -> bool {
        matches!(self.0.wish, Wish::Kvm { required: true })
    }

    /// What to take instead of KVM, which is of no use because of `reason`.
    pub(super) fn without_kvm(&self, reason: String) -> Result<Accelerator, HypervisorError> {
        let (reason, version) = (NoKvm::Unusable(reason), self.version());
        if self.requires_kvm() {
            return Err(HypervisorError::NoKvm(reason));
        }
        if version < OLDEST_TCG {
            return Err(HypervisorError::TooOldForTcg { version, kvm: Some(reason) });
        }
        self.warn(&reason);
        Ok(Accelerator::Tcg)
    }

    fn warn(&self, reason: &NoKvm) {
        if !self.0.warned.swap(true, Ordering::Relaxed) {
            self.0.events.warn(format!(
                "no KVM: {reason}; the VM is emulated (TCG), which is many times slower and no security boundary \
                 against what runs in it"
            ));
        }
    }

    fn remember(&self, kernel: &Path, unusable: Option<String>, certain: bool) {
        if let Err(error) = Verdict::store(&self.0.facts, kernel, &self.version().to_string(), unusable, certain) {
            self.0.events.detail(format!("cannot remember what was found out about KVM: {error}"));
        }
    }
}

/// The first program of that name on `path`.
fn find(path: &OsStr) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).map(|folder| folder.join(PROGRAM));
    candidates.into_iter().find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

async fn ask_version(program: &Path) -> Result<Version, HypervisorError> {
    let mut command = child::command(program);
    command.arg("--version");
    let output = child::run(command, VERSION_DEADLINE).await.map_err(HypervisorError::Version)?;
    let text = String::from_utf8_lossy(&output);
    let line = text.lines().next().unwrap_or_default();
    Version::parse(line).ok_or_else(|| HypervisorError::StrangeVersion(line.chars().take(200).collect()))
}

#[cfg(test)]
impl Hypervisor {
    /// A hypervisor that is not there, for tests of what is done with one.
    pub(super) fn imagined() -> Self {
        Self::played_by(PROGRAM.into())
    }

    /// One whose QEMU is another program.
    pub(super) fn played_by(program: PathBuf) -> Self {
        let version = Version { major: 10, minor: 0, micro: 0 };
        let facts = PathBuf::new();
        Self(Arc::new(Inner { program, version, wish: Wish::Tcg, facts, events: Events::none(), warned: false.into() }))
    }
}

#[cfg(test)]
mod tests;
