//! particle-vm builds bootable Debian disk images in a VM of its own, without root.
//!
//! The way of the data is told in `docs/architecture.md`.

pub mod appliance;
pub mod apt;
pub mod boot;
pub mod child;
pub mod cli;
pub mod dirs;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod output;
pub mod plan;
pub mod recipe;
pub mod store;
pub mod ui;
pub mod vm;
pub mod workspace;

pub use error::{Class, Classify, Error, Result};

/// The guest agent, a static binary.
pub const AGENT: &[u8] = include_bytes!(env!("PARTICLE_VM_AGENT"));
