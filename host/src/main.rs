//! The command `particle-vm`.

fn main() {}
