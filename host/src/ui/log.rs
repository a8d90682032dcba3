//! What the libraries log, on its way to standard error.

use super::Control;
use crate::backlog::Backlog;
use std::io::{self, IsTerminal, Write};
use tokio::sync::mpsc::UnboundedSender;
use tracing_subscriber::EnvFilter;

/// Lines that wait for the listener. What comes while as many wait is dropped: whoever logs must not wait for whoever
/// reads standard error.
const MOST_WAITING: usize = 10_000;

/// Hands lines to the listener, which has a thread of its own to write them from.
#[derive(Debug, Clone)]
struct Log {
    control: UnboundedSender<Control>,
    waiting: Backlog,
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.waiting.is_below(MOST_WAITING) {
            self.waiting.add(1);
            // Fails when the verb has ended, and with it the listener.
            let _ = self.control.send(Control::Log { line: line.to_owned(), waiting: self.waiting.clone() });
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From `-vvv` on, and where `PARTICLE_VM_LOG` says so, what the libraries log goes to standard error.
pub(super) fn follow_libraries(verbose: u8, control: UnboundedSender<Control>) {
    let filter = match std::env::var("PARTICLE_VM_LOG") {
        Ok(filter) => EnvFilter::builder().parse_lossy(filter),
        Err(_) if verbose >= 3 => EnvFilter::new("debug"),
        Err(_) => return,
    };
    let log = Log { control, waiting: Backlog::default() };
    let colours = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || log.clone());
    // It fails when there is a subscriber already; then the libraries' messages go there.
    let _ = subscriber.with_ansi(colours).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn a_log_that_nobody_reads_has_an_end() {
        let (control, mut controls) = mpsc::unbounded_channel();
        let mut log = Log { control, waiting: Backlog::default() };
        for _ in 0..2 * MOST_WAITING {
            assert_eq!(log.write(b"line\n").unwrap(), 5);
        }
        let mut told = 0;
        while let Ok(Control::Log { line, waiting }) = controls.try_recv() {
            assert_eq!(line, b"line\n");
            waiting.remove(1);
            told += 1;
        }
        assert_eq!(told, MOST_WAITING);
        log.write_all(b"more\n").unwrap();
        assert!(controls.try_recv().is_ok());
    }
}
