//! What can be asked for, in recipes and on the command line.

use super::size::{GIB, MIB, Size, Timeout};
use crate::vm::MEMORY_MIB;
use std::ops::RangeInclusive;
use std::time::Duration;

pub use crate::vm::CPUS;

/// Memory of a VM in bytes.
pub const MEMORY: RangeInclusive<u64> = *MEMORY_MIB.start() * MIB..=*MEMORY_MIB.end() * MIB;

/// Size of a scratch disk in bytes.
pub const SCRATCH: RangeInclusive<u64> = GIB / 2..=8192 * GIB;

/// Time for a stage, a test or a machine to boot.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// What is wrong with a size that is called `what`.
pub fn size(what: &str, size: Size, range: &RangeInclusive<u64>) -> Option<String> {
    let (least, most) = (Size(*range.start()), Size(*range.end()));
    if !range.contains(&size.0) {
        Some(format!("{what} is between {least} and {most}, and not {size}"))
    } else if !size.0.is_multiple_of(MIB) {
        Some(format!("{what} is not a multiple of 1MiB; `{}` is", Size(size.0.next_multiple_of(MIB))))
    } else {
        None
    }
}

/// What is wrong with a time.
pub fn timeout(timeout: Timeout) -> Option<String> {
    let (least, most) = (Timeout(*TIMEOUT.start()), Timeout(*TIMEOUT.end()));
    (!TIMEOUT.contains(&timeout.0)).then(|| format!("a timeout is between {least} and {most}, and not {timeout}"))
}
