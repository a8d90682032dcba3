//! The file server of a shared folder: the `virtiofsd` crate in a process of our own program.
//!
//! No sandbox of namespaces: containers often refuse them. Instead the server runs as the user, is confined to the
//! folder by Landlock, and to the system calls that it needs by seccomp.

use super::channel;
use super::confine;
use super::console::Tail;
use super::share;
use crate::child;
use crate::error::{Class, Classify};
use clap::Args;
use landlock::RulesetError;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::process::Child;
use tokio::task::JoinHandle;
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use virtiofsd::filesystem::{FileSystem, SerializableFileSystem};
use virtiofsd::passthrough::read_only::PassthroughFsRo;
use virtiofsd::passthrough::{CachePolicy, Config, PassthroughFs};
use virtiofsd::seccomp::{SeccompAction, enable_seccomp};
use virtiofsd::vhost_user::VhostUserFsBackendBuilder;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

/// Name of the hidden verb.
pub const VERB: &str = "internal-virtiofsd";

/// Descriptors that the server needs for itself: one for each memory region (at most 509) and some more.
const OWN_DESCRIPTORS: u64 = 640;

/// Most descriptors that are asked for.
const MOST_DESCRIPTORS: u64 = 1 << 20;

/// Least number of descriptors for the guest's files.
const GUEST_DESCRIPTORS: u64 = 64;

/// Most bytes of a file that the guest writes; it may not fill the host's disk with one, nor with many
/// (`share::MAX_BYTES`).
pub const MAX_FILE: u64 = 64 << 20;

/// How long the guest may rely on what it knows of a file's attributes.
const CACHE: Duration = Duration::from_secs(1);

/// The arguments of the hidden verb.
#[derive(Debug, Args)]
pub struct Server {
    /// The shared folder
    #[arg(long)]
    folder: PathBuf,
    /// Number of the inherited listening socket
    #[arg(long)]
    listener: RawFd,
    /// Refuse all changes
    #[arg(long)]
    read_only: bool,
}

/// Why a folder cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Descriptors are too few.
    #[error("cannot raise the number of open files")]
    Limit(#[source] Errno),
    /// The size of files cannot be limited.
    #[error("cannot limit the size of files")]
    Size(#[source] Errno),
    /// The rules are refused.
    #[error("cannot confine the file server to {}", .path.display())]
    Confine {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: RulesetError,
    },
    /// The system call filter is refused.
    #[error("cannot filter the file server's system calls")]
    Seccomp(#[source] virtiofsd::seccomp::Error),
    /// The folder cannot be served.
    #[error("cannot share {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The device cannot be made.
    #[error("cannot set up the virtiofs device")]
    Device(#[source] virtiofsd::vhost_user::Error),
    /// QEMU and the server do not understand each other.
    #[error("cannot serve the virtiofs device: {0}")]
    Protocol(String),
}

impl Classify for ServerError {
    fn class(&self) -> Class {
        Class::Host
    }
}

/// Serve the folder until QEMU closes the connection, as a process that does nothing else. Errors and what the library
/// warns of go to stderr, which the parent keeps.
pub fn daemon_main(server: Server) -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    match run(server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = crate::Error::from(error);
            eprintln!("{error}");
            ExitCode::from(error.get().class().exit_code())
        }
    }
}

fn run(server: Server) -> Result<(), ServerError> {
    // SAFETY: the number names a listening socket that this process inherited and that nothing else here uses.
    let mut listener = unsafe { Listener::from_raw_fd(server.listener) };
    let limit = raise_limit().map_err(ServerError::Limit)?;
    if !server.read_only {
        limit_files().map_err(ServerError::Size)?;
    }
    let path = server.folder;
    let failed = |source| ServerError::Folder { path: path.clone(), source };
    let proc_self_fd =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/proc/self/fd").map_err(failed)?;
    let root = path.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let config = Config {
        root_dir: root.to_owned(),
        proc_sfd_rawfd: Some(proc_self_fd),
        cache_policy: CachePolicy::Auto,
        entry_timeout: CACHE,
        attr_timeout: CACHE,
        announce_submounts: true,
        guest_fd_limit: limit.saturating_sub(OWN_DESCRIPTORS).max(GUEST_DESCRIPTORS),
        ..Config::default()
    };
    restrict(&path, server.read_only)?;
    if server.read_only {
        serve(PassthroughFsRo::new(config).map_err(failed)?, &mut listener)
    } else {
        serve(PassthroughFs::new(config).map_err(failed)?, &mut listener)
    }
}

/// Have as many descriptors as this process may; gives their number.
fn raise_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // More would only cost the kernel memory for the table.
    let limit = hard.min(MOST_DESCRIPTORS).max(soft);
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
    Ok(limit)
}

/// Have no file grow beyond [`MAX_FILE`]: the guest's write fails with `EFBIG`.
fn limit_files() -> nix::Result<()> {
    // What would end the process instead.
    // SAFETY: no handler is set.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    setrlimit(Resource::RLIMIT_FSIZE, MAX_FILE, MAX_FILE)
}

/// Give up everything that serving the folder does not need. Before the threads are started: they inherit it.
fn restrict(path: &Path, read_only: bool) -> Result<(), ServerError> {
    drop_capabilities().map_err(|source| ServerError::Folder { path: path.to_owned(), source })?;
    confine::confine_to_share(path, read_only)
        .map_err(|source| ServerError::Confine { path: path.to_owned(), source })?;
    enable_seccomp(SeccompAction::Kill, false).map_err(ServerError::Seccomp)
}

/// Run by root, the server keeps what it needs to act for the guest's users on the folder, and nothing else.
fn drop_capabilities() -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let needed = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"];
    capng::clear(capng::Set::BOTH);
    capng::updatev(capng::Action::ADD, capng::Type::PERMITTED | capng::Type::EFFECTIVE, needed.to_vec())
        .and_then(|()| capng::apply(capng::Set::BOTH))
        .map_err(|error| io::Error::other(error.to_string()))
}

fn serve<F>(folder: F, listener: &mut Listener) -> Result<(), ServerError>
where
    F: FileSystem + SerializableFileSystem + Send + Sync + 'static,
{
    let device = VhostUserFsBackendBuilder::default().build(folder).map_err(ServerError::Device)?;
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    // That error holds what cannot be shared between threads, so only its text goes on.
    let failed = |error: vhost_user_backend::Error| ServerError::Protocol(error.to_string());
    let mut daemon = VhostUserDaemon::new("virtiofs".into(), Arc::new(device), memory).map_err(failed)?;
    daemon.start(listener).map_err(failed)?;
    use vhost::vhost_user::Error::Disconnected;
    match daemon.wait() {
        Ok(()) | Err(vhost_user_backend::Error::HandleRequest(Disconnected)) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// What befalls a file server.
#[derive(Debug)]
pub(super) enum Served {
    /// It has ended.
    Ended(io::Result<ExitStatus>),
    /// The guest has put too much into its folder.
    TooMuch,
}

/// A file server that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// The folder.
    pub folder: PathBuf,
    child: Child,
    stderr: Tail,
    /// Ends when the guest has put too much into the folder; a folder that it cannot write to needs no watch.
    watch: Option<JoinHandle<()>>,
}

impl Running {
    /// Start the server for `folder`; gives the socket for QEMU too, already connected. `workspace` is where the
    /// socket's name stands for a moment.
    ///
    /// # Errors
    /// When the folder cannot be used or the process cannot be started.
    pub fn spawn(tag: &'static str, folder: &Path, read_only: bool, workspace: &Path) -> io::Result<(Self, OwnedFd)> {
        let folder = fs::canonicalize(folder)?;
        let (listener, client) = connected(workspace, tag)?;
        // The program that runs, also when its file has been replaced since.
        let mut command = child::command("/proc/self/exe");
        command.arg(VERB).arg("--folder").arg(&folder).arg("--listener").arg(listener.as_raw_fd().to_string());
        if read_only {
            command.arg("--read-only");
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        child::without_environment(&mut command);
        channel::inherit(&mut command, &[&listener]);
        let mut child = command.spawn()?;
        let stderr = Tail::default();
        if let Some(pipe) = child.stderr.take() {
            tokio::spawn(stderr.clone().follow(pipe));
        }
        let watch = (!read_only).then(|| tokio::spawn(share::overfull(folder.clone(), child.id(), share::MAX_BYTES)));
        Ok((Self { folder, child, stderr, watch }, client))
    }

    /// Wait for its end. Can be dropped and called again.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Wait until there is something to be said about it. Can be dropped and called again.
    pub async fn served(&mut self) -> Served {
        tokio::select! {
            status = self.child.wait() => Served::Ended(status),
            () = watched(&mut self.watch) => Served::TooMuch,
        }
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

/// Wait for the end of a watch; never ready when there is none.
async fn watched(watch: &mut Option<JoinHandle<()>>) {
    let Some(task) = watch else { return std::future::pending().await };
    // One that cannot go on has seen enough.
    let _ = task.await;
    *watch = None;
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// A listening socket with one connection waiting, and that connection. The name is gone before anybody else could use
/// it, and is reached through the folder's descriptor because names of sockets are at most 107 bytes long.
fn connected(folder: &Path, tag: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let folder = File::open(folder)?;
    let name = PathBuf::from(format!("/proc/self/fd/{}/{tag}.socket", folder.as_raw_fd()));
    let listener = UnixListener::bind(&name)?;
    let client = UnixStream::connect(&name);
    fs::remove_file(&name)?;
    Ok((listener.into(), client?.into()))
}

#[cfg(test)]
impl Running {
    /// A server of `folder` that serves nobody; files there may take `most` bytes.
    pub fn imagined(folder: &Path, most: u64) -> Self {
        let child = child::command("sleep").arg("600").spawn().expect("sleep(1) is everywhere");
        let watch = tokio::spawn(share::overfull(folder.to_owned(), child.id(), most));
        Self { folder: folder.to_owned(), child, stderr: Tail::default(), watch: Some(watch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    #[test]
    fn a_file_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let grow = |bytes: u64| {
            let mut truncate = Command::new("truncate");
            truncate.arg(format!("--size={bytes}")).arg(folder.path().join("file"));
            // SAFETY: only sigaction(2) and setrlimit(2) are called, which are async-signal-safe.
            unsafe { truncate.pre_exec(|| Ok(limit_files()?)) };
            // Not ended by a signal, as the server is not either.
            truncate.output().unwrap().status.code()
        };
        assert_eq!(grow(MAX_FILE), Some(0));
        assert_eq!(grow(MAX_FILE + 1), Some(1));
    }

    /// Tells the test below that it is the child.
    const INSIDE: &str = "PARTICLE_VM_TEST_RESTRICTED";

    /// In the child: what a server that was taken over would try.
    fn try_to_get_out(folder: &Path, what: &str) -> ! {
        let landlock = confine::is_enforced();
        restrict(folder, true).unwrap();
        let code = match what {
            // No path of the host, but for its own folder.
            "read" => i32::from(File::open(folder.join("mine")).is_err()),
            "escape" => i32::from(File::open(folder.with_file_name("other")).is_ok() && landlock),
            "write" => i32::from(File::create(folder.join("new")).is_ok() && landlock),
            // SAFETY: socket(2) takes three integers.
            "socket" => unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).min(0) },
            // SAFETY: fork(2) takes nothing; kill(2) takes two integers, of which this asks for nothing to be done.
            "kill" => unsafe { libc::kill(1, 0).min(0) },
            _ => 99,
        };
        // SAFETY: _exit(2) takes an integer. The test program's own way out needs more system calls than are left.
        unsafe { libc::_exit(code) }
    }

    #[test]
    fn a_server_that_is_taken_over_stays_in_its_folder() {
        if let Some((folder, what)) = std::env::var(INSIDE).ok().as_deref().and_then(|value| value.rsplit_once(':')) {
            try_to_get_out(Path::new(folder), what);
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("share");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("mine"), "").unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        let inside = |what: &str| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let name = "vm::virtiofs::tests::a_server_that_is_taken_over_stays_in_its_folder";
            child.args(["--exact", name, "--test-threads", "1"]).env(INSIDE, format!("{}:{what}", folder.display()));
            child.output().unwrap().status
        };
        for what in ["read", "escape", "write"] {
            assert_eq!(inside(what).code(), Some(0), "{what}");
        }
        // The filter ends the process.
        for what in ["socket", "kill"] {
            assert_eq!(inside(what).signal(), Some(libc::SIGSYS), "{what}");
        }
    }
}
