//! particle-vm builds bootable Debian disk images in a VM of its own, without root.
//!
//! The way of the data is told in `docs/architecture.md`.

pub mod appliance;
pub mod apt;
pub mod backlog;
pub mod boot;
pub mod cancel;
pub mod child;
pub mod clean;
pub mod cli;
pub mod dirs;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod facts;
pub mod inspect;
pub mod output;
pub mod plan;
pub mod recipe;
pub mod signing;
pub mod source;
pub mod stages;
pub mod store;
pub mod tls;
pub mod ui;
pub mod vm;
pub mod workspace;

pub use error::{Class, Classify, Error, Result};

/// The guest agent, a static binary.
pub const AGENT: &[u8] = include_bytes!(env!("PARTICLE_VM_AGENT"));

#[cfg(test)]
mod tests {
    use super::AGENT;
    use object::LittleEndian;
    use object::elf::{FileHeader64, PT_DYNAMIC, PT_INTERP};
    use object::read::elf::{FileHeader, ProgramHeader};

    /// It runs before there is a root file system, and so before there is a library.
    #[test]
    fn the_agent_is_static() {
        let header = FileHeader64::<LittleEndian>::parse(AGENT).unwrap();
        let segments = header.program_headers(LittleEndian, AGENT).unwrap();
        let kinds: Vec<_> = segments.iter().map(|segment| segment.p_type(LittleEndian)).collect();
        assert!(!kinds.is_empty());
        assert!(!kinds.contains(&PT_INTERP) && !kinds.contains(&PT_DYNAMIC), "{kinds:x?}");
    }
}
