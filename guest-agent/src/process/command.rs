//! What is to be run.

use crate::chroot::Chroot;
use particle_vm_protocol::GUEST_PROXY_ADDRESS;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Longest command line in a message, in characters. Some have hundreds of packages.
const SHOWN: usize = 400;

/// A command line with its surroundings.
#[derive(Debug, Clone)]
pub struct Command {
    pub(super) argv: Vec<OsString>,
    pub(super) root: Option<PathBuf>,
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) input: Vec<u8>,
    pub(super) stdin: Option<Arc<OwnedFd>>,
}

impl Command {
    /// A program of the appliance, found through `PATH`, in `/`, without input.
    ///
    /// Its environment is `PATH`, `HOME`, `LC_ALL=C.UTF-8`, what keeps debconf(7) from asking, and the proxy.
    pub fn new(program: impl Into<OsString>) -> Self {
        let proxy = format!("http://{GUEST_PROXY_ADDRESS}");
        let environment = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
            ("http_proxy", &proxy),
            ("https_proxy", &proxy),
        ];
        Self {
            argv: vec![program.into()],
            root: None,
            environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            input: Vec::new(),
            stdin: None,
        }
    }

    /// Add an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Add arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Set a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// What it reads from its standard input; nothing without this. Meant for what fits into memory.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// What it reads from its standard input, instead of [`Command::input`]: a file, or a pipe that something writes to.
    #[must_use]
    pub fn stdin(mut self, stdin: OwnedFd) -> Self {
        self.stdin = Some(Arc::new(stdin));
        self
    }

    /// Run it with `root` as its root folder, and in a mount namespace of its own: what it mounts ends with it.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Run it in a prepared tree, with the environment that belongs to it.
    #[must_use]
    pub fn within(self, chroot: &Chroot) -> Self {
        chroot
            .environment()
            .into_iter()
            .fold(self.root(chroot.root()), |command, (name, value)| command.env(name, value))
    }

    pub(super) fn program(&self) -> &OsStr {
        // `new` puts the program there and nothing takes it away.
        self.argv.first().map_or(OsStr::new(""), OsString::as_os_str)
    }
}

impl fmt::Display for Command {
    /// The command line in backquotes, for messages; shortened, and quoted only as far as a reader needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = self.argv.iter().map(|argument| {
            let argument = argument.to_string_lossy();
            if argument.is_empty() || argument.contains([' ', '\n', '\t', '\'', '"']) {
                format!("{argument:?}")
            } else {
                argument.into_owned()
            }
        });
        let line = quoted.collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "`{} ...`", &line[..end]),
            None => write!(f, "`{line}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_where_an_argument_ends() {
        let command = Command::new("echo").args(["one two", "", "three"]);
        assert_eq!(command.to_string(), "`echo \"one two\" \"\" three`");
        assert!(Command::new("apt-get").args(vec!["package"; 1000]).to_string().len() < 2 * SHOWN);
    }
}
