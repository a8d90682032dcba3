//! `particle-vm explain`

use super::subject::Subject;
use super::{EXIT_CODES, stdout};
use crate::dirs::Dirs;
use crate::engine::explain;
use crate::error::Result;
use crate::stages::Explained;
use crate::ui::Ui;
use clap::Args;

/// Tell which stages a build would run, and why
///
/// A stage that an earlier build has run is not run again, unless something has changed that it follows from, or a stage before
/// it runs. What has changed is told against the last build of the recipe. It takes the options of `build` that change any of
/// that. Nothing is started.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Explain {
    /// What is built.
    #[command(flatten)]
    pub subject: Subject,

    /// Print a JSON list, with `title`, `runs` and `because` of each stage
    #[arg(long)]
    pub json: bool,
}

impl Explain {
    /// Print it to standard output.
    ///
    /// # Errors
    /// When something is wrong with the recipe, or the host lacks something.
    pub async fn run(self, ui: &Ui) -> Result<u8> {
        let dirs = Dirs::new()?;
        let (options, prepared) = self.subject.prepare(&dirs, ui).await?;
        let explained = explain(&prepared, &options, &dirs, ui.events()).await?;
        if self.json {
            stdout::print_json(&explained)?;
        } else {
            stdout::print(explained.iter().map(line).collect::<String>())?;
        }
        Ok(0)
    }
}

fn line(Explained { title, runs, because }: &Explained) -> String {
    match (runs, because.as_slice()) {
        (false, _) => format!("{title}: as an earlier build has made it\n"),
        (true, because) => format!("{title}: runs, because {}\n", because.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_a_line() {
        let stage = |runs, because: &[&str]| Explained {
            title: "2/5 files".into(),
            runs,
            because: because.iter().map(|text| (*text).to_owned()).collect(),
        };
        assert_eq!(line(&stage(false, &[])), "2/5 files: as an earlier build has made it\n");
        assert_eq!(line(&stage(true, &["a", "b"])), "2/5 files: runs, because a; b\n");
    }
}
