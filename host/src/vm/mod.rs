//! The virtual machine and what it is connected to.

pub mod proxy;
