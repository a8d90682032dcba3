//! Builds the guest agent as a static binary, so that it can be embedded in `particle-vm`.
//!
//! The agent has to be static and the host has not; Cargo has no stable way to say so for one build ("artifact
//! dependencies" are unstable), so this script runs Cargo once more, with a target folder of its own. Lints, build and tests
//! each run this script in a folder of theirs; what they compile for the agent is the same.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The only architecture of the appliance so far. Naming the target keeps `crt-static` away from procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the host crate lies in the workspace")
        .to_owned();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    // Relative to this crate: Cargo takes checkouts that share a target folder for one, and would watch the other's files.
    for input in ["guest-agent", "protocol", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../{input}");
    }

    let agent = build_agent(&root, &out);
    println!("cargo::rustc-env=PARTICLE_VM_AGENT={}", agent.display());
}

fn build_agent(root: &Path, out: &Path) -> PathBuf {
    // Cargo's "build cache": OUT_DIR is `PROFILE/build/PACKAGE/out` in the target folder.
    let target_dir = out.ancestors().nth(3).expect("OUT_DIR lies in the target folder").join("guest-agent");
    let status = Command::new(env::var_os("CARGO").expect("Cargo sets CARGO"))
        .args(["build", "--profile", "agent", "--package", "particle-vm-guest-agent", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        // Set by `cargo clippy` for the crates it looks at; the agent is to be compiled.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("Cargo can run Cargo");
    assert!(status.success(), "the guest agent does not build: {status}");
    // A copy, because another checkout may use the same target folder.
    let agent = out.join("particle-vm-guest-agent");
    fs::copy(target_dir.join(TARGET).join("agent/particle-vm-guest-agent"), &agent).expect("the agent can be copied");
    agent
}
