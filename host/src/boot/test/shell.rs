//! A shell at the other end of a stream of bytes, which runs one command after the other.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much of the output of a command is kept at its beginning, and as much at its end.
const KEPT: usize = 32 << 10;

/// How much longer than the command's own timeout is waited for the machine to say something.
const GRACE: Duration = Duration::from_secs(60);

/// Exit code of timeout(1) for a command that it had to end.
const TIMED_OUT: i32 = 124;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Its exit code; none when it had to be ended.
    pub(super) code: Option<i32>,
    /// What it wrote to stdout and stderr, without the white space at the end.
    pub(super) output: String,
}

/// The host's end of the shell.
pub(super) struct Shell<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Shell<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(stream)
    }

    /// Run `script` in a shell of its own, with no input, for at most `timeout`.
    ///
    /// # Errors
    /// When the shell goes away or answers nothing any more.
    pub(super) async fn run(&mut self, script: &str, timeout: Duration) -> io::Result<Outcome> {
        let seconds = timeout.as_secs().max(1);
        // Nobody can guess this line, so that no output is taken for the end.
        let marker = uuid::Uuid::new_v4().simple().to_string();
        let command = format!(
            "printf '%s\\n' {marker}; timeout -k 5 {seconds} /bin/sh -c {} </dev/null 2>&1; printf '\\n%s %s\\n' {marker} $?\n",
            quote(script)
        );
        tokio::time::timeout(timeout + GRACE, async {
            self.0.write_all(command.as_bytes()).await?;
            self.read(marker.as_bytes()).await
        })
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn read(&mut self, marker: &[u8]) -> io::Result<Outcome> {
        let first = [marker, b"\n"].concat();
        let last = [b"\n", marker, b" "].concat();
        let mut seen = Vec::new();
        let begin = loop {
            if let Some(at) = find(&seen, &first, 0) {
                break at + first.len();
            }
            // What a command before this one left running may still talk.
            seen.drain(..seen.len().saturating_sub(first.len()));
            self.more(&mut seen).await?;
        };
        // The line end of the first line may be the one before the last.
        seen.drain(..begin - 1);
        let mut searched = 0;
        let (end, code) = loop {
            if let Some(at) = find(&seen, &last, searched) {
                let rest = &seen[at + last.len()..];
                if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                    break (at, String::from_utf8_lossy(&rest[..length]).parse::<i32>().ok());
                }
            } else {
                if seen.len() > 4 * KEPT {
                    seen.splice(KEPT..seen.len() - KEPT, *b"\n[...]\n");
                }
                searched = seen.len().saturating_sub(last.len());
            }
            self.more(&mut seen).await?;
        };
        let code = code.filter(|code| *code != TIMED_OUT);
        let output = String::from_utf8_lossy(seen.get(1..end).unwrap_or_default()).trim_end().to_owned();
        Ok(Outcome { code, output })
    }

    async fn more(&mut self, seen: &mut Vec<u8>) -> io::Result<()> {
        match self.0.read_buf(seen).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Where `what` stands in `bytes`, from `from` on.
fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

/// A text as one word of a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use tokio::process::Child;

    const LONG: Duration = Duration::from_secs(30);

    fn shell() -> (Child, Shell<impl AsyncRead + AsyncWrite + Unpin>) {
        let mut child = crate::child::command("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stream = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
        (child, Shell::new(stream))
    }

    #[tokio::test]
    async fn commands_run_one_after_the_other() {
        let (_child, mut shell) = shell();
        let outcome = shell.run("echo it\\'s; echo \"two  words\" >&2; exit 3", LONG).await.unwrap();
        assert_eq!(outcome, Outcome { code: Some(3), output: "it's\ntwo  words".into() });
        let outcome = shell.run("true", LONG).await.unwrap();
        assert_eq!(outcome, Outcome { code: Some(0), output: String::new() });
        let outcome = shell.run("printf 'no line end'", LONG).await.unwrap();
        assert_eq!(outcome, Outcome { code: Some(0), output: "no line end".into() });
        let outcome = shell.run("cat; if", LONG).await.unwrap();
        assert_ne!(outcome.code, Some(0));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended() {
        let (_child, mut shell) = shell();
        let outcome = shell.run("echo before; sleep 60", Duration::from_secs(1)).await.unwrap();
        assert_eq!(outcome, Outcome { code: None, output: "before".into() });
        assert_eq!(shell.run("echo next", LONG).await.unwrap().output, "next");
    }

    #[tokio::test]
    async fn of_a_flood_the_beginning_and_the_end_are_kept() {
        let (_child, mut shell) = shell();
        let outcome = shell.run("echo first; yes | head -c 3000000; echo last", LONG).await.unwrap();
        assert_eq!(outcome.code, Some(0));
        assert!(outcome.output.starts_with("first\n") && outcome.output.ends_with("last"));
        assert!(outcome.output.contains("\n[...]\n") && outcome.output.len() < 6 * KEPT);
    }

    #[tokio::test]
    async fn a_shell_that_dies_is_an_error() {
        let (mut child, mut shell) = shell();
        child.kill().await.unwrap();
        assert!(shell.run("true", LONG).await.is_err());
    }
}
