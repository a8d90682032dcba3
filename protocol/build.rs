//! Computes the build id that both ends compare in their handshake: a SHA-256 over the sources of the agent and of this
//! crate.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets CARGO_MANIFEST_DIR"));
    let mut digest = Sha256::new();
    // Relative to this crate: Cargo takes checkouts that share a target folder for one, and would watch the other's files.
    for sources in ["src", "../guest-agent/src"] {
        println!("cargo::rerun-if-changed={sources}");
        add(&here.join(sources), &mut digest)?;
    }
    let id: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=PARTICLE_VM_BUILD_ID={id}");
    Ok(())
}

fn add(path: &Path, digest: &mut Sha256) -> io::Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        return entries.iter().try_for_each(|entry| add(&entry.path(), digest));
    }
    let content = fs::read(path)?;
    digest.update((content.len() as u64).to_le_bytes());
    digest.update(&content);
    Ok(())
}
