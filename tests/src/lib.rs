//! What the end-to-end tests share: a place of its own for each test, the command under test, a Debian mirror on
//! loopback that can misbehave, and a search for what a test has left behind.
//!
//! The tests run the real `particle-vm` (`PARTICLE_VM_TEST_BIN`) as the user that runs them, which is an ordinary one
//! (`make check` sees to it). They share one appliance; everything else is each test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

mod base_image;
pub mod image;
pub mod layer;
pub mod leftovers;
pub mod mirror;
pub mod place;
pub mod pty;
pub mod registry;
pub mod run;
mod signer;
pub mod upstream;

pub use base_image::base_image;
pub use layer::Layer;
pub use mirror::{Fault, Mirror};
pub use place::Place;
pub use registry::Registry;
pub use run::{Outcome, Running};
pub use upstream::Upstream;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that are allocated to the files beneath `folder`, which may go while it is looked at.
pub fn occupied(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => occupied(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Tell that something was not tested for want of `what`. A passing test is silent, so it goes to the file that
/// `PARTICLE_VM_TEST_NOT_RUN` names too, which `tools/check` prints at its end.
///
/// # Panics
/// When the file cannot be written to.
pub fn not_run(test: &str, what: &str) {
    println!("not run: {test}: {what}");
    if let Some(path) = std::env::var_os("PARTICLE_VM_TEST_NOT_RUN") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{test}: {what}\n").as_bytes()).unwrap();
    }
}

/// Print what a test measured, in one form that can be searched for.
pub fn measured(test: &str, what: &str, value: impl std::fmt::Display) {
    println!("measured: {test}: {what}: {value}");
}
