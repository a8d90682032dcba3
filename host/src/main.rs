//! The command `particle-vm`: nothing but the choice of the verb.

use clap::Parser;
use particle_vm::cli::{Cli, Task, Verb, process};
use particle_vm::vm::virtiofs;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { global, task } = Cli::parse();
    let verb = match task {
        Task::Verb(verb) => *verb,
        Task::InternalVirtiofsd(server) => return virtiofs::daemon_main(server),
    };
    process::run(&global, async |ui| match verb {
        Verb::Build(verb) => verb.run(&ui).await,
        Verb::Boot(verb) => verb.run(&ui).await,
        Verb::Test(verb) => verb.run(&ui).await,
        Verb::Shell(verb) => verb.run(&ui).await,
        Verb::Inspect(verb) => verb.run(&ui).await,
        Verb::Check(verb) => verb.run(&ui),
        Verb::Plan(verb) => verb.run(&ui).await,
        Verb::Explain(verb) => verb.run(&ui).await,
        Verb::Schema(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run().await,
        Verb::Appliance(verb) => verb.run(&ui).await,
        Verb::Cache(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    })
}
