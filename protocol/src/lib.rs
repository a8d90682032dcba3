//! What the host and the guest agent say to each other, and the [`Plan`] that the one hands to the other.
//!
//! The crate holds types and framing only: it opens no file and starts no process. Both ends are built from the same
//! source, so there is one version of each type; [`PROTOCOL_VERSION`] and the build id in the handshake keep an agent
//! from another build out.

pub mod ahead;
pub mod archive;
pub mod base;
pub mod disk;
pub mod frame;
pub mod message;
pub mod plan;
pub mod stage;

pub use archive::{Archive, ArchiveKind};
pub use base::{Backend, Base, BaseLayer, Engine};
pub use disk::{Disk, Filesystem, FormattedFilesystem, Partition, PartitionKind, SectorSize};
pub use message::{Failure, FailureKind, FromGuest, FromHost, Job, JobResult, MAX_PROGRAMS, Program};
pub use plan::{Plan, PlannedStage};
pub use stage::Stage;

/// Version of the messages in [`message`]; the handshake refuses any other.
pub const PROTOCOL_VERSION: u32 = 2;

/// Identifies the build: a SHA-256 over the sources of the agent and of this crate, the same in both ends of one build.
pub const BUILD_ID: &str = env!("PARTICLE_VM_BUILD_ID");

/// Name of the virtio-serial port that carries [`frame`]s (`/sys/class/virtio-ports/*/name` in the guest).
pub const CONTROL_PORT: &str = "org.particle-vm.control";

/// Name of the virtio-serial port that carries the yamux streams to the host's HTTP proxy.
pub const NETWORK_PORT: &str = "org.particle-vm.network";

/// Where the agent listens for HTTP clients in the guest; each connection is one yamux stream to the host.
pub const GUEST_PROXY_ADDRESS: &str = "127.0.0.1:3128";

/// Most connections to that address that are open at a time, and most yamux streams. The agent lets further clients wait;
/// a stream more would end the channel.
pub const MAX_NETWORK_STREAMS: usize = 128;

/// Mount tags of the virtiofs shares.
pub mod share {
    /// The folder of the recipe, read-only.
    pub const WORK: &str = "work";
    /// The layers of the container image that a build starts from, read-only.
    pub const BASE: &str = "base";
    /// The folder in [`BASE`] with the image as it was fetched, an OCI image layout. Only for [`crate::Engine::Bootc`].
    pub const LAYOUT: &str = "layout";
    /// Where the guest leaves files for the host, read-write.
    pub const STAGING: &str = "staging";
    /// The file in [`STAGING`] with what [`crate::Job::Finish`] has made: a tar archive of the files that were changed; a
    /// removed file is a character device of number 0 in it.
    pub const FINISHED: &str = "finish.tar";
}

/// Serial numbers of the virtio-blk disks (`/sys/block/*/serial` in the guest; at most 20 bytes).
pub mod serial {
    /// First layer of the appliance's root file system; the layers above it are `root1`, `root2`, ...
    pub const ROOT_PREFIX: &str = "root";
    /// The sparse disk that the agent works on. It formats one that is empty; another has what the first stages of a build
    /// have made.
    pub const SCRATCH: &str = "scratch";
    /// The raw disk image that is being made.
    pub const TARGET: &str = "target";
    /// The disk without a file system that takes the archives ([`crate::archive`]).
    pub const ARCHIVE: &str = "archive";
}
