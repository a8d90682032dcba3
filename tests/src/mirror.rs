//! A Debian mirror on loopback with a suite `tiny`, and a package of the same name, which is a tree of one busybox. A
//! second one, `apt`, has the tools of a bootloader's installation, which do nothing. For trees of Debian's there is the
//! suite `extra`, whose packages ask, recommend and grow old, and for a tree in which packages are installed the suite
//! `working`. It comes in two editions: the same names, versions and key, and another `tiny`.
//!
//! It is made with Debian's own tools (dpkg-deb, apt-ftparchive, gpg) when a test first asks for it, and served by a
//! thread that can be told to misbehave.

mod system;

use crate::Upstream;
use crate::place::base;
use crate::signer;
pub use crate::signer::keyring;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use system::WORKING;

/// How the mirror misbehaves. The files that this happens to are its packages, unless [`Mirror::spoil`] has named others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    None,
    /// The files are not found.
    MissingPackage,
    /// The files stop in the middle, and the connection stays open.
    StalledPackage,
    /// The files end in the middle, and the connection is closed.
    TruncatedPackage,
    /// The files have the right length and wrong bytes.
    WrongPackage,
    /// The signed index was changed after it was signed.
    WrongSignature,
}

/// A running mirror; it ends with its handle.
#[derive(Debug)]
pub struct Mirror {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The first part of every path. Stores of downloads know files by their URLs, and a port may come again.
    folder: String,
    /// Where the files come from, if not from here.
    upstream: Option<Upstream>,
    /// The fault, and a part of the paths of the files that have it.
    fault: Mutex<(Fault, &'static str)>,
    edition: AtomicUsize,
    requests: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Mirror {
    /// Start a mirror on a free port of 127.0.0.1.
    pub fn start(fault: Fault) -> Self {
        Self::serving(None, fault)
    }

    /// The same with the files of `upstream`.
    pub fn of(upstream: Upstream, fault: Fault) -> Self {
        Self::serving(Some(upstream), fault)
    }

    fn serving(upstream: Option<Upstream>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let shared = Arc::new(Shared {
            folder: format!("{:x}/", now.as_nanos()),
            upstream,
            fault: Mutex::new((fault, PACKAGES)),
            edition: 0.into(),
            requests: Mutex::default(),
            ended: false.into(),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::Relaxed) {
                    return;
                }
                let server = Arc::clone(&server);
                std::thread::spawn(move || serve(&stream.unwrap(), &server));
            }
        });
        Self { address, shared }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.shared.folder)
    }

    /// Misbehave in another way from now on.
    pub fn set(&self, fault: Fault) {
        self.spoil(PACKAGES, fault);
    }

    /// The same with the files whose paths contain `part`.
    pub fn spoil(&self, part: &'static str, fault: Fault) {
        *self.shared.fault.lock().unwrap() = (fault, part);
    }

    /// Offer the second edition from now on.
    pub fn replace_package(&self) {
        self.shared.edition.store(1, Ordering::Relaxed);
    }

    /// The paths that were asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// A recipe whose tree is the package `tiny` from this mirror, with further stages and a small disk. The keyring
    /// has to lie in the recipe's folder, see [`keyring`].
    pub fn recipe(&self, stages: &str) -> String {
        format!(
            "name: tiny\n\
             stages:\n\
             \x20 - type: debootstrap\n\
             \x20   options: {{ suite: tiny, variant: extract, mirror: \"{}\", include: [tiny], keyring: tiny.gpg }}\n\
             {stages}\
             disk: {{ size: 128MiB, partitions: [ {{ kind: root, mountpoint: /, grow: true }} ] }}\n\
             output: {{ formats: [raw] }}\n",
            self.url()
        )
    }

    /// The same with a tree in which packages can be installed and users made.
    pub fn working_recipe(&self, stages: &str) -> String {
        let options = "suite: working, variant: apt,";
        self.recipe(stages).replace("suite: tiny, variant: extract,", options).replace(" include: [tiny],", "")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// The suites; each has its packages in a folder of its name.
const TINY: &str = "tiny";
const EXTRA: &str = "extra";

/// What the paths of packages contain.
const PACKAGES: &str = ".deb";

/// A path that no mirror has.
const NOWHERE: &str = "nowhere";

/// A folder of this test program's own for what is made once.
pub(crate) fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        std::fs::create_dir_all(base()).unwrap();
        tempfile::Builder::new().prefix("mirror-").tempdir_in(base()).unwrap().keep()
    })
}

/// The files of an edition.
fn archive(edition: usize) -> &'static Path {
    static ARCHIVES: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    ARCHIVES[edition].get_or_init(|| {
        let dir = made().join(edition.to_string());
        make_tree(&dir, edition);
        make_idle_tools(&dir);
        asking_package(&dir, EXTRA, "asks");
        make_relations(&dir);
        system::make(&dir);
        for suite in [TINY, EXTRA, WORKING] {
            make_indexes(&dir, suite);
        }
        // The same suite, in the place of another.
        symlink(TINY, dir.join("dists/other")).unwrap();
        dir
    })
}

/// Packages without files: `aged` in two versions, and `lavish` and `frugal`, which recommend `asks` and `unasked`.
fn make_relations(dir: &Path) {
    let packages = [("aged", "1.0", ""), ("aged", "2.0", ""), ("unasked", "1.0", "")];
    let recommending = [("lavish", "1.0", "Recommends: asks\n"), ("frugal", "1.0", "Recommends: unasked\n")];
    for (name, version, relation) in packages.into_iter().chain(recommending) {
        let tree = dir.join(format!("{name}-{version}"));
        pack(dir, EXTRA, &tree, (name, version), &format!("{relation}Description: a package without files\n"));
    }
}

/// The package `tiny`.
fn make_tree(dir: &Path, edition: usize) {
    let tree = dir.join("tree");
    busybox_tree(&tree, &[]);
    std::fs::write(tree.join("etc/edition"), format!("{edition}\n")).unwrap();
    pack(dir, TINY, &tree, ("tiny", "1.0"), "Essential: yes\nDescription: a tree of one busybox\n");
}

/// Fill `tree` with one busybox, which is every program but those in `without`.
fn busybox_tree(tree: &Path, without: &[&str]) {
    for folder in ["usr/bin", "etc", "root", "tmp", "var"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", tree.join("usr/bin/busybox")).unwrap();
    let applets = run(Command::new("/bin/busybox").arg("--list"));
    for applet in applets.lines().filter(|applet| *applet != "busybox" && !without.contains(applet)) {
        symlink("busybox", tree.join("usr/bin").join(applet)).unwrap();
    }
    symlink("usr/bin", tree.join("bin")).unwrap();
    symlink("usr/bin", tree.join("sbin")).unwrap();
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(tree.join("etc/group"), "root:x:0:\n").unwrap();
}

/// The package `apt`: the tools that a stage `bootloader` runs, which do nothing here.
fn make_idle_tools(dir: &Path) {
    let tree = dir.join("idle");
    std::fs::create_dir_all(tree.join("usr/bin")).unwrap();
    for tool in ["apt-get", "bootctl"] {
        write_program(&tree.join("usr/bin").join(tool), "#!/bin/sh\n");
    }
    pack(dir, TINY, &tree, ("apt", "1.0"), "Description: tools that do nothing\n");
}

/// A package of the suite whose script wants an answer, from wherever it can be had, and says how it was told to ask.
fn asking_package(dir: &Path, suite: &str, name: &str) {
    let tree = dir.join(format!("{suite}-{name}"));
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    write_program(
        &tree.join("DEBIAN/postinst"),
        "#!/bin/sh\n\
         echo 'Really?'\n\
         if read answer || read answer </dev/tty; then echo somebody answered; exit 1; fi\n\
         echo \"nobody answered, debconf is $DEBIAN_FRONTEND\"\n",
    );
    pack(dir, suite, &tree, (name, "1.0"), "Description: a question\n");
}

/// Write a script that can be run.
pub(crate) fn write_program(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// Put a package of the files in `tree`, with its name and version, into the folder of the suite in `dir`.
fn pack(dir: &Path, suite: &str, tree: &Path, (name, version): (&str, &str), fields: &str) {
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Tests <tests@example.org>\n{fields}"
    );
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::create_dir_all(dir.join(suite)).unwrap();
    let deb = dir.join(format!("{suite}/{name}_{version}_amd64.deb"));
    let mut command = Command::new("dpkg-deb");
    // Every run makes packages of its own, and all have to be the same: a mirror may get the port that another one had
    // before, and the store of downloads knows a package by its URL.
    command.env("SOURCE_DATE_EPOCH", "1");
    run(command.args(["--root-owner-group", "-z1", "--build"]).arg(tree).arg(deb));
}

fn make_indexes(dir: &Path, suite: &str) {
    let dist = dir.join("dists").join(suite);
    let binary = dist.join("main/binary-amd64");
    std::fs::create_dir_all(&binary).unwrap();
    let packages = run(Command::new("apt-ftparchive").args(["packages", suite]).current_dir(dir));
    std::fs::write(binary.join("Packages"), packages).unwrap();
    let mut release = Command::new("apt-ftparchive");
    for (key, value) in [
        ("Suite", suite),
        ("Codename", suite),
        ("Origin", "Debian"),
        ("Label", "Debian"),
        ("Components", "main"),
        ("Architectures", "amd64"),
    ] {
        release.arg("-o").arg(format!("APT::FTPArchive::Release::{key}={value}"));
    }
    let release = run(release.arg("release").arg(&dist));
    std::fs::write(dist.join("Release"), release).unwrap();
    signer::sign(&dist.join("Release"), &dist.join("InRelease"));
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Answer the requests of one connection.
fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if !reader.read_line(&mut request).is_ok_and(|count| count > 0) {
            return;
        }
        loop {
            let mut header = String::new();
            if !reader.read_line(&mut header).is_ok_and(|count| count > 0) {
                return;
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        // A client that takes the mirror for its proxy names the whole URL (RFC 9112, 3.2.2).
        let path = target.strip_prefix("http://").and_then(|url| url.split_once('/')).map_or(target, |(_, path)| path);
        let path = path.trim_start_matches('/');
        let path = path.strip_prefix(&shared.folder).unwrap_or(NOWHERE).to_owned();
        shared.requests.lock().unwrap().push(path.clone());
        let (fault, part) = *shared.fault.lock().unwrap();
        let spoilt = path.contains(part);
        let file = match &shared.upstream {
            _ if path.contains("..") || spoilt && fault == Fault::MissingPackage => None,
            Some(upstream) => upstream.file(&path),
            None => Some(archive(shared.edition.load(Ordering::Relaxed)).join(&path)).filter(|file| file.is_file()),
        };
        if !answer(&mut writer, file.as_deref(), spoilt, fault) {
            return;
        }
    }
}

/// Answer one request with `file`, which is `spoilt` by the fault or not; false when the connection has to end.
fn answer(writer: &mut impl Write, file: Option<&Path>, spoilt: bool, fault: Fault) -> bool {
    let Some(file) = file else {
        return writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok();
    };
    let mut body = std::fs::read(file).unwrap();
    if file.ends_with("InRelease") && fault == Fault::WrongSignature {
        let text = String::from_utf8(body).unwrap();
        body = text.replace("Suite: ", "Suite:  ").into_bytes();
    }
    let middle = body.len() / 2;
    if spoilt && fault == Fault::WrongPackage {
        body[middle] ^= 0xff;
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    if writer.write_all(head.as_bytes()).is_err() {
        return false;
    }
    match fault {
        Fault::StalledPackage if spoilt => {
            let _ = writer.write_all(&body[..middle]);
            // Longer than anybody waits.
            std::thread::sleep(Duration::from_secs(600));
            false
        }
        Fault::TruncatedPackage if spoilt => {
            let _ = writer.write_all(&body[..middle]);
            false
        }
        _ => writer.write_all(&body).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_made_later_is_the_same() {
        let make = |edition| {
            let dir = tempfile::tempdir().unwrap();
            make_tree(dir.path(), edition);
            std::fs::read(dir.path().join("tiny/tiny_1.0_amd64.deb")).unwrap()
        };
        let first = make(0);
        // Archives tell seconds.
        std::thread::sleep(Duration::from_millis(1100));
        assert!(first == make(0), "two packages differ");
        assert!(first != make(1), "two editions do not");
    }
}
