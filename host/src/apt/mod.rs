//! The host's own apt: which mirror it uses, which of its settings matter elsewhere, and what its errors mean.

mod error;
mod mirror;

pub use error::{AptError, Reason};
pub use mirror::{mirror, named_mirror};

use crate::child::{self, ChildError};
use std::io;
use std::time::Duration;
use tokio::process::Command;

/// Settings of the host that are in force in the guest too (apt.conf(5)). Proxies are not: the guest has its own.
const CARRIED: [&str; 8] = [
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::Max-FutureTime",
    "Acquire::Max-ValidTime",
    "Acquire::Min-ValidTime",
    "Acquire::Retries",
    "Acquire::http::Timeout",
    "Acquire::https::Timeout",
];

/// How long a question to apt's own configuration may take.
const QUESTION: Duration = Duration::from_secs(60);

/// One of apt's tools, whose messages are in English.
pub fn command(program: &str) -> Command {
    let mut command = child::command(program);
    command.env("LC_ALL", "C").env_remove("LANGUAGE");
    command
}

/// Lines for the `apt.conf` of a guest, from the host's configuration; for instance
/// `Acquire::Check-Valid-Until "false";`. None on a host without apt.
///
/// # Errors
/// When apt's configuration cannot be read.
pub async fn settings() -> Result<Vec<String>, AptError> {
    let mut dump = command("apt-config");
    dump.arg("dump");
    match child::run(dump, QUESTION).await {
        Ok(text) => Ok(carried(&String::from_utf8_lossy(&text))),
        Err(ChildError::Spawn { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        // It reads nothing but the configuration: its message names the file and the line.
        Err(error) => Err(AptError::Tool(error)),
    }
}

/// The lines of an `apt-config dump` that are carried. A value with a quote or a control character in it would need
/// an escape that apt.conf does not have.
fn carried(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        let Some((name, rest)) = line.split_once(' ') else { return false };
        let value = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix("\";"));
        CARRIED.iter().any(|carried| carried.eq_ignore_ascii_case(name))
            && value.is_some_and(|value| !value.is_empty() && !value.contains(|c: char| c == '"' || c.is_control()))
    };
    dump.lines().filter(wanted).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_matter_in_the_guest_are_carried() {
        let dump = r#"
APT::Architecture "amd64";
Acquire::http::Proxy "http://user:secret@proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::check-date "false";
Acquire::Retries "";
Acquire::http::Timeout "1"; Dir "/";
DPkg::Post-Invoke:: "rm -f x";
"#;
        assert_eq!(carried(dump), [r#"Acquire::Check-Valid-Until "false";"#, r#"Acquire::check-date "false";"#]);
    }
}
