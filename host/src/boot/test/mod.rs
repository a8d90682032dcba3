//! The tests of a recipe, run inside the booted image. Nothing is installed in it and nothing of it is changed.

mod credential;
mod shell;

pub(super) use credential::smbios_value;
use credential::{PORT, READY};

use super::machine::Machine;
use super::watch::{Seen, Watch};
use super::{BootConfig, BootError};
use crate::event::{Events, Unit};
use crate::recipe::Test;
use crate::vm::qmp::Qmp;
use shell::{Outcome, Shell};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Id of the controller of virtio-serial ports.
pub(super) const CONTROLLER: &str = "ports";

/// Its bus, which the shell's port is plugged into.
const BUS: &str = "ports.0";

/// Id of the character device behind the port.
pub(super) const CHARDEV: &str = "shell";

/// Id of the port.
const PORT_ID: &str = "test";

/// Time for a test that has none of its own.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Time for commands that are no tests themselves.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// Has the machine restart a second later, when its shell has been told that it will.
const RESTART: &str = "systemd-run --quiet --on-active=1 systemctl reboot";

/// Host's ends of what a machine with tests has more.
pub(super) struct Ports {
    /// The second serial port.
    pub(super) word: UnixStream,
    /// What will be behind the shell's port.
    pub(super) shell: UnixStream,
}

/// A test that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTest {
    /// Its name.
    pub name: String,
    /// What was wrong.
    pub reason: String,
    /// What its command wrote.
    pub output: String,
    /// What its `diag` wrote, if it has one.
    pub diag: Option<String>,
}

impl fmt::Display for FailedTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)?;
        if !self.output.is_empty() {
            write!(f, "\n{}", indented(&self.output))?;
        }
        match &self.diag {
            Some(diag) if !diag.is_empty() => write!(f, "\n  diag:\n{}", indented(diag)),
            _ => Ok(()),
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Boot an image and run `tests` in it, one after the other; each of them, also when one before has failed.
///
/// A test passes when its command exits with 0 and, if it expects a text, this text occurs in what it writes to stdout
/// and stderr. The commands are run by root's `/bin/sh` with no input, when `multi-user.target` is reached.
///
/// # Errors
/// When the image does not boot, or tests fail.
pub async fn run_tests(config: &BootConfig, tests: &[Test], events: &Events) -> Result<(), BootError> {
    let mut machine = Machine::start(config, true).await?;
    let Some(Ports { word, shell }) = machine.test.take() else { return Ok(()) };
    let mut guest = Guest { word, shell: Shell::new(shell), timeout: config.timeout() };
    let mut failed = Vec::new();
    let step = events.step(format!("boot {}", config.title()), None, Unit::Items);
    let up = beside(&mut machine, async |qmp| guest.connect(qmp).await.map(|()| Up::Yes)).await;
    guest.is_up(up, &mut machine).await?;
    step.finish();
    for test in tests {
        if test.reboot {
            let step = events.step(format!("reboot {}", config.title()), None, Unit::Items);
            let up = beside(&mut machine, async |qmp| guest.restart(qmp).await).await;
            guest.is_up(up, &mut machine).await?;
            step.finish();
        }
        let step = events.step(format!("test {} ({})", test.name, config.firmware), None, Unit::Items);
        match beside(&mut machine, async |_| run(&mut guest.shell, test).await).await {
            Beside::Done(Ok(failure)) => {
                if let Some(failure) = failure {
                    events.warn(format!("test {}: {}", failure.name, failure.reason));
                    failed.push(failure);
                }
                step.finish();
            }
            Beside::Dead(reason) => return Err(BootError::Dead { reason, console: machine.last_lines() }),
            Beside::Trouble(error) => return Err(error),
            Beside::Done(Err(_)) | Beside::Ended => {
                // A machine that powers itself off loses its shell too; a QEMU that dies is not the image's fault.
                machine.has_ended().await?;
                return Err(BootError::Lost { test: test.name.clone(), console: machine.last_lines() });
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(BootError::Tests { failed, count: tests.len() }) }
}

/// The host's side of the tests.
struct Guest {
    word: UnixStream,
    shell: Shell<UnixStream>,
    /// Time for a boot.
    timeout: Duration,
}

impl Guest {
    /// Wait for the word, plug the port in, and wait until the shell answers.
    ///
    /// # Errors
    /// `TimedOut` when it does not in time.
    async fn connect(&mut self, qmp: &Qmp) -> io::Result<()> {
        let talk = async {
            await_word(&mut self.word).await?;
            qmp.plug("virtserialport", PORT_ID, BUS, [("chardev", CHARDEV), ("name", PORT)]).await?;
            // The shell reads this when it has started; how long that may take is said outside.
            self.shell.run("true", self.timeout).await
        };
        tokio::time::timeout(self.timeout, talk).await??;
        Ok(())
    }

    /// Restart the machine and connect again, unless it refuses to restart.
    ///
    /// # Errors
    /// As [`Self::connect`].
    async fn restart(&mut self, qmp: &Qmp) -> io::Result<Up> {
        // The word may have come more than once, and what is waited for next is that of the next boot.
        forget(&self.word)?;
        // From outside of the shell's unit, because the port goes first: systemd reads the link to the unit only when
        // the port's device is new to it.
        let outcome = self.shell.run(RESTART, HELPER_TIMEOUT).await?;
        if outcome.code != Some(0) {
            return Ok(Up::Refused(outcome));
        }
        qmp.unplug(PORT_ID).await?;
        self.connect(qmp).await.map(|()| Up::Yes)
    }

    /// What it means how [`Self::connect`] or [`Self::restart`] ended.
    async fn is_up(&self, up: Beside<io::Result<Up>>, machine: &mut Machine) -> Result<(), BootError> {
        let console = machine.last_lines();
        match up {
            Beside::Done(Ok(Up::Yes)) => Ok(()),
            Beside::Done(Ok(Up::Refused(Outcome { code, output }))) => {
                Err(BootError::NoRestart { reason: ending(code, HELPER_TIMEOUT), output })
            }
            Beside::Done(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Err(BootError::NoShell { after: self.timeout, console })
            }
            // All channels break when the machine ends, and any of them may be the first.
            Beside::Done(Err(_)) if machine.has_ended().await? => Err(BootError::PoweredOff { console }),
            Beside::Done(Err(error)) => Err(BootError::Channel(error)),
            Beside::Dead(reason) => Err(BootError::Dead { reason, console }),
            Beside::Trouble(error) => Err(error),
            Beside::Ended => {
                machine.ended().await?;
                Err(BootError::PoweredOff { console })
            }
        }
    }
}

/// Whether a machine has come up.
#[derive(Debug, PartialEq, Eq)]
enum Up {
    /// Its shell answers.
    Yes,
    /// It was to restart, and this is what came of it.
    Refused(Outcome),
}

/// How work with a machine ended.
enum Beside<T> {
    /// By itself.
    Done(T),
    /// The console says that nothing more will come.
    Dead(&'static str),
    /// Something befell the machine.
    Trouble(BootError),
    /// The machine ended first.
    Ended,
}

/// Do `work`, and meanwhile keep what the console shows.
async fn beside<T>(machine: &mut Machine, work: impl AsyncFnOnce(&Qmp) -> T) -> Beside<T> {
    let Machine { console, tail, qmp, stderr, stop, .. } = machine;
    let work = work(qmp);
    tokio::pin!(work);
    let mut piece = vec![0; 4096];
    let mut watch = Watch::new(None);
    loop {
        tokio::select! {
            done = &mut work => return Beside::Done(done),
            trouble = Machine::trouble(qmp, stderr, stop) => return Beside::Trouble(trouble),
            // A console that breaks has ended.
            length = console.read(&mut piece) => match length.unwrap_or(0) {
                0 => return Beside::Ended,
                length => {
                    let (text, seen) = watch.look(&piece[..length]);
                    tail.push(&text);
                    if let Some(Seen::Dead(reason)) = seen {
                        return Beside::Dead(reason);
                    }
                }
            },
        }
    }
}

/// Read the second serial port until the word has come.
async fn await_word(word: &mut UnixStream) -> io::Result<()> {
    let mut seen = Vec::new();
    while !seen.windows(READY.len()).any(|window| window == READY.as_bytes()) {
        // A system with a console there may write a lot.
        seen.drain(..seen.len().saturating_sub(READY.len()));
        if word.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Throw away what has come over the second serial port.
fn forget(word: &UnixStream) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        match word.try_read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Run one test; what was wrong if it failed.
///
/// # Errors
/// When the shell is lost.
async fn run(shell: &mut Shell<UnixStream>, test: &Test) -> io::Result<Option<FailedTest>> {
    let timeout = test.timeout.map_or(TIMEOUT, |timeout| timeout.0);
    let Outcome { code, output } = shell.run(&test.run, timeout).await?;
    let Some(reason) = verdict(code, &output, test.expect.as_deref(), timeout) else { return Ok(None) };
    let diag = match &test.diag {
        Some(diag) => Some(shell.run(diag, HELPER_TIMEOUT).await?.output),
        None => None,
    };
    Ok(Some(FailedTest { name: test.name.clone(), reason, output, diag }))
}

/// What is wrong with the outcome of a test.
fn verdict(code: Option<i32>, output: &str, expect: Option<&str>, timeout: Duration) -> Option<String> {
    match (code, expect) {
        (Some(0), Some(expect)) if !output.contains(expect) => Some(format!("`{expect}` is not in its output")),
        (Some(0), _) => None,
        (code, _) => Some(ending(code, timeout)),
    }
}

/// How a command ended, in words.
fn ending(code: Option<i32>, timeout: Duration) -> String {
    match code {
        Some(code) => format!("it exited with {code}"),
        None => format!("it had not ended after {} s", timeout.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Classify};
    use crate::vm::qmp::imagined;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    #[test]
    fn a_test_passes_when_it_exits_with_0_and_says_what_is_expected() {
        let judge = |code, output, expect| verdict(code, output, expect, TIMEOUT);
        assert_eq!(judge(Some(0), "", None), None);
        assert_eq!(judge(Some(0), "it is running now", Some("running")), None);
        assert!(judge(Some(0), "degraded", Some("running")).is_some_and(|reason| reason.contains("`running`")));
        assert!(judge(Some(1), "running", Some("running")).is_some_and(|reason| reason.contains('1')));
        assert!(judge(None, "running", Some("running")).is_some_and(|reason| reason.contains("300 s")));
    }

    #[test]
    fn a_failed_test_shows_what_it_wrote() {
        let failed = FailedTest {
            name: "boots".into(),
            reason: "it exited with 1".into(),
            output: "degraded".into(),
            diag: Some("a.service failed\nb.service failed".into()),
        };
        assert_eq!(
            failed.to_string(),
            "boots: it exited with 1\n    degraded\n  diag:\n    a.service failed\n    b.service failed"
        );
    }

    /// A shell in which every command exits with 1 and says why.
    async fn refuse(shell: UnixStream) {
        let (read, mut write) = shell.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            let marker = line.strip_prefix("printf '%s\\n' ").and_then(|rest| rest.split_once(';')).unwrap().0;
            write.write_all(format!("{marker}\nFailed to connect to bus\n\n{marker} 1\n").as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_machine_that_refuses_to_restart_is_told_at_once() {
        let ((shell, guests), (word, _silent)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let (monitor, qemus) = UnixStream::pair().unwrap();
        tokio::spawn(refuse(guests));
        tokio::spawn(imagined::monitor(qemus, &[], "running"));
        let qmp = Qmp::connect(monitor).await.unwrap();
        let mut guest = Guest { word, shell: Shell::new(shell), timeout: TIMEOUT };
        let up = tokio::time::timeout(TIMEOUT / 2, guest.restart(&qmp)).await.unwrap().unwrap();
        assert_eq!(up, Up::Refused(Outcome { code: Some(1), output: "Failed to connect to bus".into() }));
        let error = BootError::NoRestart { reason: ending(Some(1), HELPER_TIMEOUT), output: "Failed".into() };
        assert_eq!(error.to_string(), "the machine cannot be restarted for the test: it exited with 1");
        assert_eq!((error.class(), error.details().as_deref()), (Class::Build, Some("Failed")));
    }

    #[tokio::test]
    async fn the_word_is_found_in_any_pieces() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let write = async {
            for piece in ["[noise]\r\nparticle", "-vm: re", "ady\r\n"] {
                theirs.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (read, ()) = tokio::join!(await_word(&mut ours), write);
        read.unwrap();
        // It may come twice, and the second one is not for the next boot.
        theirs.write_all(b"particle-vm: ready\r\n").await.unwrap();
        ours.readable().await.unwrap();
        forget(&ours).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), await_word(&mut ours)).await;
        assert!(waited.is_err(), "an old word counts for the next boot");
        drop(theirs);
        assert!(await_word(&mut ours).await.is_err());
    }
}
