//! The command line: one file for each verb, with its options, its help and what it calls.

pub mod appliance;
mod attach;
pub mod boot;
pub mod build;
pub mod cache;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod images;
pub mod init;
mod input;
pub mod inspect;
pub mod man;
mod options;
pub mod plan;
pub mod process;
pub mod schema;
pub mod shell;
mod stdout;
mod subject;
pub mod test;

use crate::vm::virtiofs;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// What every `--help` ends with.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the build failed: a stage, the guest, a test of the image
    2  the command line or the recipe is wrong
    3  the host lacks something: QEMU, acceleration, space, memory, a permission
    4  a mirror, an image or a package could not be fetched or not be trusted
    5  a defect of particle-vm itself
  130  interrupted by a signal";

/// Build bootable Debian disk images in a VM of their own, without root
///
/// A recipe in YAML says what belongs into the image. Everything that needs root runs in a throwaway VM that has no
/// network card; the host needs QEMU and nothing else: no root, no sudo, no container engine, no loop devices.
///
/// Start with `particle-vm init`, then `particle-vm build recipe.yml` and `particle-vm boot out/NAME/NAME.qcow2`.
#[derive(Debug, Parser)]
#[command(name = "particle-vm", version, after_long_help = EXIT_CODES, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    /// The options of all verbs.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What a process of this program is for.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// What a user asks for.
    #[command(flatten)]
    Verb(Box<Verb>),
    /// Serve a shared folder to a VM: what particle-vm starts beside QEMU
    #[command(name = virtiofs::VERB, hide = true)]
    InternalVirtiofsd(virtiofs::Server),
}

/// Options that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Tell more: -v the output of every stage, -vv every download too, -vvv what the libraries log
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// How to tell the progress, on standard error
    #[arg(long, global = true, value_enum, default_value_t, value_name = "STYLE", env = "PARTICLE_VM_PROGRESS")]
    pub progress: Progress,
}

/// Styles of telling the progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Bars on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A bar for each step and stage, with time and bytes
    #[value(alias = "term")]
    Bars,
    /// One line for each step and stage
    #[value(aliases = ["verbose", "debug"])]
    Plain,
    /// One JSON object for each event, and for the error
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build disk images from a recipe or a container image
    Build(build::Build),
    /// Boot an image, and tell whether it comes up
    Boot(boot::Boot),
    /// Run the tests of a recipe in its built image
    Test(test::Test),
    /// Open a root shell in the VM, or run one command in it
    Shell(shell::Shell),
    /// Tell what is in a container image, and which engine makes a disk of it
    Inspect(inspect::Inspect),
    /// Check recipes without building them
    Check(check::Check),
    /// Print what a build would do, as JSON
    Plan(plan::Plan),
    /// Tell which stages a build would run, and why
    Explain(explain::Explain),
    /// Print the JSON Schema of recipes
    Schema(schema::Schema),
    /// Write a recipe to start from
    Init(init::Init),
    /// Handle the small Debian that the VM runs
    Appliance(appliance::Appliance),
    /// Look at what is kept of earlier builds, or remove it
    Cache(cache::Cache),
    /// Look whether this machine has what builds need
    Doctor(doctor::Doctor),
    /// Print the completions for a shell
    Completions(completions::Completions),
    /// Print or write the man pages
    Man(man::Man),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_bootc_image_builder_for_progress_are_understood() {
        for (word, style) in [("term", Progress::Bars), ("verbose", Progress::Plain), ("debug", Progress::Plain)] {
            assert_eq!(Progress::from_str(word, false), Ok(style));
        }
    }
}
