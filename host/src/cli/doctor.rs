//! `particle-vm doctor`

use super::options::Sources;
use super::{EXIT_CODES, stdout};
use crate::appliance;
use crate::dirs::Dirs;
use crate::doctor::{self, Check, Request, Verdict};
use crate::error::{Class, Result};
use clap::Args;
use console::style;
use std::path::PathBuf;

/// Look whether this machine has what builds need, and say what mends it
///
/// Ends with 3 when a build would fail. Where there is an appliance, a VM is started for a moment.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Doctor {
    /// Print JSON: an array of objects with name, verdict (ok, warning, problem), finding and mend
    #[arg(long)]
    pub json: bool,

    /// Folder for scratch disks, as for `build`
    #[arg(long, value_name = "DIR", env = "PARTICLE_VM_WORK_DIR")]
    pub work_dir: Option<PathBuf>,

    /// Folder for outputs, as for `build`
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub output: PathBuf,

    /// The sources.
    #[command(flatten)]
    pub sources: Sources,
}

impl Doctor {
    /// Print the findings to standard output.
    ///
    /// # Errors
    /// When there is no place for the cache, or standard output cannot be written to.
    pub async fn run(self) -> Result<u8> {
        let Sources { mirror, appliance } = self.sources;
        let request = Request {
            dirs: Dirs::new()?,
            work_dir: self.work_dir,
            output: self.output,
            appliance: appliance::Request { appliance, mirror },
        };
        let checks = doctor::run(&request).await;
        if self.json {
            stdout::print_json(&checks)?;
        } else {
            stdout::print(text(&checks))?;
        }
        let worst = checks.iter().map(|check| check.verdict).max();
        Ok(if worst == Some(Verdict::Problem) { Class::Host.exit_code() } else { 0 })
    }
}

/// One line for each check, and one for each mend.
fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => style("ok     ").green(),
            Verdict::Warning => style("warning").yellow(),
            Verdict::Problem => style("problem").red().bold(),
        };
        text += &format!("{verdict}  {:width$}  {}\n", check.name, check.finding);
        if let Some(mend) = &check.mend {
            text += &format!("{:7}  {:width$}  {}\n", "", "", style(mend).dim());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_columns_and_mends_below_them() {
        console::set_colors_enabled(false);
        let check = |name, verdict, mend: Option<&str>| Check {
            name,
            verdict,
            finding: "found".into(),
            mend: mend.map(str::to_owned),
        };
        let checks = [check("KVM", Verdict::Warning, Some("mend it")), check("memory", Verdict::Ok, None)];
        assert_eq!(text(&checks), "warning  KVM     found\n                 mend it\nok       memory  found\n");
    }
}
