//! How listeners write lines, sizes and times.

use super::track::Fetched;
use crate::event::Unit;
use bytesize::ByteSize;
use std::io::Write;

/// Write a line to standard error. Nobody is left to be told when that fails. It takes as long as the reader takes: only
/// the listener's thread may wait for that.
pub fn line(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// Write lines that have their line ends.
pub fn lines(text: &[u8]) {
    let _ = std::io::stderr().lock().write_all(text);
}

/// A size, for instance `34.1 MiB`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A time, for instance `4.2 s` or `3 min 07 s`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

/// How much of a step is done.
pub fn amount(done: u64, total: Option<u64>, unit: Unit) -> String {
    let one = |n| match unit {
        Unit::Bytes => size(n),
        Unit::Items => n.to_string(),
    };
    match total {
        Some(total) => format!("{} of {}", one(done), one(total)),
        None => one(done),
    }
}

/// What a stage has fetched, or nothing.
pub fn fetched(fetched: Fetched) -> Option<String> {
    let Fetched { files, bytes, cached } = fetched;
    match (files, cached) {
        (0, _) => None,
        (_, 0) => Some(format!("fetched {}", size(bytes))),
        (_, _) if files == cached => Some(format!("{} from the store", size(bytes))),
        _ => Some(format!("fetched {}, {cached} of {files} files from the store", size(bytes))),
    }
}

/// What is told of a stage that is not run.
pub fn reused(title: &str) -> String {
    format!("{title}: as an earlier build has made it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_seconds_and_minutes() {
        assert_eq!(seconds(4.24), "4.2 s");
        assert_eq!(seconds(187.2), "3 min 07 s");
    }

    #[test]
    fn a_step_tells_what_is_done_of_what() {
        assert_eq!(amount(3 << 19, Some(4 << 20), Unit::Bytes), "1.5 MiB of 4.0 MiB");
        assert_eq!(amount(4 << 20, None, Unit::Bytes), "4.0 MiB");
        assert_eq!(amount(3, Some(5), Unit::Items), "3 of 5");
    }

    #[test]
    fn a_stage_tells_the_bytes_that_it_has_fetched_and_where_they_came_from() {
        let told = |files, cached| fetched(Fetched { files, bytes: 3 << 19, cached });
        assert_eq!(told(0, 0), None);
        assert_eq!(told(2, 0).unwrap(), "fetched 1.5 MiB");
        assert_eq!(told(2, 2).unwrap(), "1.5 MiB from the store");
        assert_eq!(told(2, 1).unwrap(), "fetched 1.5 MiB, 1 of 2 files from the store");
    }
}
