//! Conversion of the raw image with `qemu-img`.

use super::{Format, OutputError};
use crate::child;
use crate::event::{Events, Unit};
use std::path::Path;
use std::time::Duration;

/// Bytes a second below which a conversion counts as stuck; disks over a slow network do better than that.
const SLOWEST: u64 = 2 << 20;

/// Convert the raw image `source` of `size` bytes to `target`. Holes and blocks of zeros are left out in `target`.
/// Dropping the future ends the conversion; what there is of `target` is the caller's to remove.
///
/// # Errors
/// When `qemu-img` is not there, fails or gets stuck.
pub(super) async fn convert(
    source: &Path,
    size: u64,
    format: Format,
    target: &Path,
    events: &Events,
) -> Result<(), OutputError> {
    let step = events.step(format!("convert {format}"), Some(size), Unit::Bytes);
    let mut command = child::command("qemu-img");
    // The format of the source is said, because QEMU would believe a header that a guest wrote into the raw image. The
    // target is not flushed here (`-t unsafe` is the default of convert); the checksum's reader does it once, at the end.
    command.args(["convert", "-p", "-f", "raw", "-O", format.driver()]);
    if let Some(options) = format.create_options() {
        command.args(["-o", options]);
    }
    command.arg(source).arg(target);
    let mut percent = Percent::default();
    child::run_reporting(command, Duration::from_secs(600 + size / SLOWEST), |piece| {
        if let Some(percent) = percent.read(piece) {
            step.progress((size as f64 * percent / 100.0) as u64);
        }
    })
    .await
    .map_err(|source| OutputError::Convert { format, source })?;
    step.finish();
    Ok(())
}

/// Reads the progress that `qemu-img -p` prints: `    (12.34/100%)` and a carriage return, again and again.
#[derive(Default)]
struct Percent(Vec<u8>);

impl Percent {
    /// The latest figure in what has come so far, if this piece completes one.
    fn read(&mut self, piece: &[u8]) -> Option<f64> {
        self.0.extend_from_slice(piece);
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        let start = self.0[..end].iter().rposition(|byte| *byte == b'(')? + 1;
        let percent = std::str::from_utf8(&self.0[start..end]).ok()?.parse().ok();
        self.0.drain(..=end);
        percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_in_any_pieces() {
        let mut percent = Percent::default();
        assert_eq!(percent.read(b"    (0.00/100%)\r    (1."), Some(0.0));
        assert_eq!(percent.read(b"25"), None);
        assert_eq!(percent.read(b"/100%)\r    (2.50/100%)\r"), Some(2.5));
        assert_eq!(percent.read(b"\n"), None);
    }
}
