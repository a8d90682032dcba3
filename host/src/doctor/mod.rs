//! `particle-vm doctor`: what this machine has and lacks for a build, each finding with what mends it.

mod archives;
mod folders;
mod machine;
mod qemu;

use crate::appliance;
use crate::dirs::Dirs;
use crate::error::Error;
use serde::Serialize;
use std::path::PathBuf;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Builds work, but slower, less guarded or only in part.
    Warning,
    /// A build would fail.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `QEMU`, `memory`.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, one sentence.
    pub finding: String,
    /// What to do about it: a command or a flag where there is one.
    pub mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, finding: finding.into(), mend: None }
    }

    fn warning(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, finding: finding.into(), mend: Some(mend.into()) }
    }

    fn problem(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Problem, finding: finding.into(), mend: Some(mend.into()) }
    }

    /// What a build would fail with.
    fn failed(name: &'static str, error: Error) -> Self {
        Self { name, verdict: Verdict::Problem, finding: error.to_string(), mend: error.get().advice() }
    }
}

/// What a build would be given.
#[derive(Debug, Clone)]
pub struct Request {
    /// The cache.
    pub dirs: Dirs,
    /// `--work-dir`.
    pub work_dir: Option<PathBuf>,
    /// `--output`: the folder that outputs go to.
    pub output: PathBuf,
    /// Which appliance would be used, and the mirror to build it from.
    pub appliance: appliance::Request,
}

/// Look at everything a build needs, and start a VM if there is an appliance. Changes nothing on the machine but the
/// notes in [`Dirs::facts`].
pub async fn run(request: &Request) -> Vec<Check> {
    let (archives, appliance) = archives::checks(request).await;
    let mut checks = qemu::checks(request, appliance.as_ref()).await;
    checks.extend(archives);
    checks.extend(folders::checks(request));
    checks.extend([machine::memory(), machine::processors(), machine::user(), machine::landlock(), machine::locale()]);
    checks
}
