//! What the guest says of its stages, made fit to be told.

use super::link::LinkError;
use super::progress::Progress;
use crate::clean;
use crate::event::{Event, Program};
use particle_vm_protocol::{self as protocol, FromGuest, MAX_PROGRAMS};
use std::borrow::Cow;
use std::time::Duration;

/// Most bytes of a line or title that listeners are told.
const MAX_LINE: usize = 8 << 10;

/// The event that a message is for the listeners, if it is one.
///
/// # Errors
/// When the guest speaks of stages out of their turn.
pub(super) fn event(message: FromGuest, progress: &mut Progress) -> Result<Option<Event>, LinkError> {
    Ok(Some(match message {
        FromGuest::StageStarted { index, title } => {
            progress.started(index)?;
            Event::StageStarted { index, count: progress.count(), title: shown(title) }
        }
        FromGuest::Output { index, line } => Event::StageOutput { index, line: shown(line) },
        FromGuest::StageFinished { index, milliseconds, cpu_milliseconds, programs } => {
            progress.finished(index)?;
            Event::StageFinished {
                index,
                seconds: seconds(milliseconds),
                cpu_seconds: seconds(cpu_milliseconds),
                programs: programs.into_iter().take(MAX_PROGRAMS).map(program).collect(),
            }
        }
        _ => return Ok(None),
    }))
}

fn program(program: protocol::Program) -> Program {
    Program { name: shown(program.name), runs: program.runs, cpu_seconds: seconds(program.cpu_milliseconds) }
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

/// `line` without what would steer a terminal, and as short as the agent promises; what runs in the guest may have taken
/// the agent's place.
fn shown(mut line: String) -> String {
    line.truncate(line.floor_char_boundary(MAX_LINE));
    match clean::line(&line) {
        Cow::Borrowed(_) => line,
        Cow::Owned(clean) => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_two_characters() {
        assert_eq!(shown("short".into()), "short");
        let long = shown("\u{e4}".repeat(MAX_LINE));
        assert_eq!((long.len(), long.chars().count()), (MAX_LINE, MAX_LINE / 2));
    }

    #[test]
    fn a_line_steers_no_terminal_and_forges_no_other_line() {
        assert_eq!(shown("\x1b]0;title\x07one\nwarning: two".into()), "one warning: two");
    }
}
