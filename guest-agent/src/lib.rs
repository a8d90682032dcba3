//! The guest agent: PID 1 of particle-vm's appliance.
//!
//! It brings the machine up ([`init`]), says hello over the control port ([`link`]), runs the jobs that the host sends
//! ([`job`]) and powers the machine off ([`power`]). It decides no policy: what it does stands in the job.
//!
//! # For those who write stages
//! * A stage gets a [`context::Context`]. [`Context::run`](context::Context::run) runs a command and streams its output,
//!   [`Context::capture`](context::Context::capture) gives its standard output back, and
//!   [`Context::output`](context::Context::output) adds a line of the stage's own.
//! * [`process::Command`] is the only way to start a process: an argument vector, never a shell string; an environment
//!   that is cleared and set explicitly; nothing it starts survives it.
//! * [`chroot::Chroot::enter`] prepares a tree for running things in it, and
//!   [`Command::within`](process::Command::within) runs a command there.
//! * Errors of the agent's own work (files, mounts) become a failure with [`report::Explain`].
//! * A loop over many files calls [`Context::check`](context::Context::check) now and then, so that cancel and deadline
//!   end it.

pub mod boot;
pub mod bootc;
pub mod build;
pub mod cancel;
pub mod chroot;
pub mod container;
pub mod context;
pub mod deployment;
pub mod disk;
pub mod exec;
pub mod finish;
#[cfg(test)]
mod fixtures;
pub mod init;
pub mod job;
pub mod layer;
pub mod link;
pub mod loopdev;
pub mod mountpoints;
pub mod near;
pub mod net;
pub mod ostree;
pub mod outbox;
pub mod paths;
pub mod plain;
pub mod ports;
pub mod power;
pub mod process;
pub mod report;
pub mod stage;
pub mod tree;
