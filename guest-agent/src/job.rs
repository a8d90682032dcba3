//! The agent's life: bring the machine up, serve jobs.

use crate::context::Context;
use crate::init::{self, InitError};
use crate::link::{Input, Link, LinkError};
use crate::{build, exec, finish, net, power, report, stage};
use particle_vm_protocol::message::Inside;
use particle_vm_protocol::{Failure, FailureKind, FromGuest, Job, JobResult};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use thiserror::Error;

/// How long the host may take to read why the machine could not be brought up.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why the agent cannot serve.
#[derive(Debug, Error)]
enum StartError {
    #[error("the appliance cannot be brought up")]
    Init(#[from] InitError),
    #[error("the appliance cannot be reached")]
    Link(#[from] LinkError),
}

/// Bring the machine up and serve jobs until the host has it powered off.
pub fn serve() -> ! {
    let early = init::early();
    // Needs nothing of what can have failed before but the mounts, and the host should hear of that.
    let link = match Link::open() {
        Ok(link) => link,
        Err(error) => give_up(&early.map_or_else(StartError::Init, |()| error.into()), None),
    };
    let machine = match early.and_then(|()| init::finish()) {
        Ok(machine) => Arc::new(machine),
        Err(error) => give_up(&error.into(), Some(&link)),
    };
    link.say_hello();
    // What a shell in the tree of a failed build needs to know of that build.
    let mut apt_conf = Vec::new();
    let mut network = false;
    while let Some((job, input)) = link.next_job() {
        if !network && job != Job::Hello {
            if let Err(error) = net::start() {
                link.outbox.send(&FromGuest::Failed(report::failure(FailureKind::Agent, &error)));
                continue;
            }
            network = true;
        }
        if let Job::Build(plan) = &job {
            apt_conf = stage::apt_conf(plan);
        }
        let context = Context::new(Arc::clone(&link.outbox), Arc::clone(&link.cancel), Arc::clone(&machine));
        let message = match run(job, input, &context, &apt_conf) {
            Ok(result) => FromGuest::Done(Box::new(result)),
            Err(failure) => FromGuest::Failed(failure),
        };
        link.outbox.send(&message);
    }
    power::off()
}

fn run(job: Job, input: Receiver<Input>, context: &Context, apt_conf: &[String]) -> Result<JobResult, Failure> {
    match job {
        Job::Hello => Ok(JobResult::Nothing),
        Job::Finish => finish::run(context).map(|()| JobResult::Nothing),
        Job::Build(plan) => build::run(context, &plan, &input).map(JobResult::Built),
        Job::Exec(job) => {
            let apt_conf = (job.inside == Inside::Tree).then_some(apt_conf);
            exec::run(context, &job, apt_conf, input).map(JobResult::Exited)
        }
    }
}

/// Say why, where it can be heard, and power off.
fn give_up(error: &StartError, link: Option<&Link>) -> ! {
    let failure = report::failure(FailureKind::Agent, error);
    report::complain(error);
    if let Some(link) = link {
        link.outbox.send(&FromGuest::Failed(failure));
        link.outbox.flush(LAST_WORDS);
    }
    power::off()
}
