//! The rate of this machine's time-stamp counter, which is the rate of an emulated one too.
//!
//! A guest measures its counter against a timer while it starts. On a busy machine QEMU is not there at the right moment,
//! and the guest then takes a wrong rate for good: its clock ran five times too fast in one build, so that the deadlines
//! of its stages ended early. QEMU hands an emulated guest the host's own counter (`cpu_get_host_ticks` in QEMU's
//! `include/qemu/timer.h`), whose rate is better measured here.

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long is measured. The error is that of two readings, less than 1 µs each: 0.01 %.
const WINDOW: Duration = Duration::from_millis(20);

/// Rates that a counter can have, in kHz.
const SENSIBLE: std::ops::RangeInclusive<u64> = 100_000..=20_000_000;

/// The rate in kHz, as the kernel's parameter `tsc_early_khz` takes it; `None` when what is measured can be no rate. The
/// first call takes 20 ms.
pub fn khz() -> Option<u64> {
    static MEASURED: OnceLock<Option<u64>> = OnceLock::new();
    *MEASURED.get_or_init(measure)
}

fn measure() -> Option<u64> {
    let (first, since) = read()?;
    std::thread::sleep(WINDOW);
    let (last, until) = read()?;
    let nanoseconds = until.duration_since(since).as_nanos();
    let khz = u128::from(last.checked_sub(first)?) * 1_000_000 / nanoseconds.max(1);
    u64::try_from(khz).ok().filter(|khz| SENSIBLE.contains(khz))
}

/// The counter, and when it was read: the one of several readings that was interrupted least.
fn read() -> Option<(u64, Instant)> {
    let readings = (0..16).map(|_| {
        let before = Instant::now();
        // SAFETY: every x86-64 processor has the instruction; where it is forbidden (PR_SET_TSC), the process is ended.
        let ticks = unsafe { _rdtsc() };
        (before.elapsed(), ticks, before)
    });
    readings.min_by_key(|(took, ..)| *took).map(|(took, ticks, before)| (ticks, before + took / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_same_each_time() {
        let (one, other) = (measure().unwrap(), measure().unwrap());
        assert!(one.abs_diff(other) * 1000 < one, "{one} and {other} kHz");
    }
}
