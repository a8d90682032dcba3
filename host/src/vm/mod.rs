//! The virtual machine and what it is connected to.
//!
//! [`Hypervisor::detect`] looks at the host once per command, [`Session::start`] starts a VM and waits for its agent,
//! [`Session::run`] hands it a job. Nothing here has a name in the file system that two processes would have to agree
//! upon: every channel is a socket that exists before QEMU is started and is handed to it as a descriptor. Nothing
//! outlives its [`Session`]: dropping it kills the processes.

mod accel;
mod arguments;
pub(crate) mod channel;
mod config;
pub(crate) mod confine;
pub(crate) mod console;
mod disk;
mod error;
mod heartbeat;
mod hypervisor;
mod initramfs;
mod link;
mod machine;
pub mod memory;
mod printer;
mod progress;
pub mod proxy;
pub(crate) mod qmp;
pub mod scratch;
mod session;
mod share;
pub(crate) mod stop;
mod terminal;
mod tsc;
pub mod virtiofs;
mod words;

pub(crate) use accel::device as kvm_device;
pub use accel::{Accel, Accelerator, NoKvm, open_kvm};
pub use config::{CPUS, ConfigError, Disk, MEMORY_MIB, VmConfig};
pub use error::VmError;
pub use hypervisor::{Hypervisor, HypervisorError, Version};
pub use link::LinkError;
pub use printer::Printer;
pub use session::Session;
pub use terminal::{Stream, Terminal};
