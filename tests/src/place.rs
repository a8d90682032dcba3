//! A folder of its own for a test, and the command under test with it.

use crate::mirror::write_program;
use crate::run::Running;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A first use downloads and unpacks some hundred megabytes and starts a VM.
const FIRST_USE: Duration = Duration::from_secs(600);

/// What Debian has in the packages `qemu-system-x86` and `qemu-utils`.
const QEMU: [&str; 2] = ["qemu-system-x86_64", "qemu-img"];

/// A test's folders: recipe, output, work, and a home that holds nothing but the shared appliance.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
    cache: PathBuf,
    /// The appliance of another cache.
    appliance: Option<PathBuf>,
    marker: String,
}

impl Place {
    /// A place that uses the appliance and the store that all tests share. Where `PARTICLE_VM_APPLIANCE` names an
    /// appliance it uses that, and a cache of its own: tests that root runs after those of an ordinary user.
    pub fn new() -> Self {
        static APPLIANCE: Once = Once::new();
        if let Some(appliance) = std::env::var_os("PARTICLE_VM_APPLIANCE") {
            let place = Self::with_empty_cache();
            return Self { appliance: Some(appliance.into()), ..place };
        }
        let cache = base().join("cache");
        // Built here, with a deadline of its own, and not on the time of whichever test comes first. When that fails, so does
        // every test.
        APPLIANCE.call_once(|| {
            let place = Self::with_cache(cache.clone());
            let built = place.start(&["appliance", "build"]).finish(FIRST_USE).exits(0);
            crate::measured("appliance", "seconds until it is there", built.took.as_secs_f64());
        });
        Self::with_cache(cache)
    }

    /// A place whose cache is its own, so that all that lies in it is the doing of its commands. They use the appliance
    /// that all tests share, and know what is known about it and the machine.
    ///
    /// # Panics
    /// When there is no such appliance.
    pub fn with_shared_appliance() -> Self {
        let shared = Self::new();
        let mut place = Self::with_empty_cache();
        place.appliance = Some(shared.appliance());
        let (theirs, own) = (shared.cache.join("particle-vm/facts"), place.cache.join("particle-vm/facts"));
        std::fs::create_dir_all(&own).unwrap();
        for entry in std::fs::read_dir(theirs).unwrap().map(|entry| entry.unwrap().path()) {
            // Others may be about to replace them, under names that begin with a dot.
            if entry.extension().is_some_and(|extension| extension == "json") {
                std::fs::copy(&entry, own.join(entry.file_name().unwrap())).unwrap();
            }
        }
        place
    }

    /// The folder of the appliance in its cache.
    ///
    /// # Panics
    /// When there is none.
    pub fn appliance(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.cache.join("particle-vm/appliance")).unwrap();
        let mut folders =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("appliance.json").is_file());
        folders.next().unwrap_or_else(|| panic!("no appliance in {}", self.cache.display()))
    }

    /// Whether nobody else uses its cache.
    pub fn has_own_cache(&self) -> bool {
        self.cache.starts_with(self.path())
    }

    /// A place whose cache is empty.
    pub fn with_empty_cache() -> Self {
        let mut place = Self::with_cache(PathBuf::new());
        place.cache = place.path().join("cache");
        place
    }

    fn with_cache(cache: PathBuf) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = base().join("places");
        std::fs::create_dir_all(&base).unwrap();
        let dir = tempfile::Builder::new().prefix("place-").tempdir_in(base).unwrap();
        for name in ["recipe", "out", "work", "home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let marker = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { dir, cache, appliance: None, marker }
    }

    /// The place itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where outputs go.
    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// `manifest.json` of what was built.
    ///
    /// # Panics
    /// When nothing was.
    pub fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.out().join("manifest.json")).unwrap()).unwrap()
    }

    /// The same, whose outputs are the files that there are, and which tells of each stage how long it took, or that an
    /// earlier build had made the same.
    ///
    /// # Panics
    /// When that is not so, or `SHA256SUMS` is wrong.
    pub fn checked_manifest(&self) -> serde_json::Value {
        let mut check = Command::new("sha256sum");
        let checked = check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(self.out()).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let sums = std::fs::read_to_string(self.out().join("SHA256SUMS")).unwrap();
        let manifest = self.manifest();
        let list = |key: &str| manifest[key].as_array().unwrap_or_else(|| panic!("no {key} in {manifest:#}"));
        assert!(!list("outputs").is_empty(), "{manifest:#}");
        for output in list("outputs") {
            let (file, sha256) = (output["file"].as_str().unwrap(), output["sha256"].as_str().unwrap());
            assert!(sums.lines().any(|line| line == format!("{sha256}  {file}")), "{output} is not in {sums}");
            assert_eq!(output["size"], std::fs::metadata(self.out().join(file)).unwrap().len(), "{output}");
        }
        let stages: Vec<_> = list("timings").iter().filter(|timing| timing["kind"] == "stage").collect();
        let name = |timing: &serde_json::Value| timing["name"].as_str().unwrap().to_owned();
        let reused: Vec<_> = list("reused").iter().map(|title| title.as_str().unwrap()).collect();
        // `1/7 debootstrap`, and so on.
        let first = reused.first().map(|first| (*first).to_owned()).or_else(|| stages.first().map(|first| name(first)));
        let count = first.and_then(|first| first.split(['/', ' ']).nth(1)?.parse().ok()).unwrap_or(1);
        for number in 1..=count {
            let title = format!("{number}/{count} ");
            let stage = stages.iter().find(|stage| name(stage).starts_with(&title));
            let took_time = stage.and_then(|stage| stage["seconds"].as_f64()).is_some_and(|seconds| seconds > 0.0);
            let is_reused = reused.iter().any(|reused| reused.starts_with(&title));
            assert!(took_time != is_reused, "no {title}in {stages:#?}, or twice: {reused:#?}");
        }
        manifest
    }

    /// Where scratch disks go.
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    /// `XDG_CACHE_HOME` of the command.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// What the environment of every process of this place carries, so that [`crate::leftovers`] can find it.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Write a file into the folder of the recipe and give back its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join("recipe").join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `particle-vm ARGUMENTS`, with the test's own folders and a cleared environment.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.command_of(&binary(), arguments)
    }

    /// The same with another copy of the command.
    pub fn command_of<S: AsRef<OsStr>>(&self, binary: &Path, arguments: &[S]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.path()).env_clear();
        for name in ["PATH", "TERM", "http_proxy", "https_proxy", "no_proxy", "PARTICLE_VM_CPUS", "PARTICLE_VM_MIRROR"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", self.path().join("home"))
            .env("XDG_CACHE_HOME", &self.cache)
            .env("LC_ALL", "C.UTF-8")
            .env("PARTICLE_VM_TEST", &self.marker)
            .envs(self.appliance.iter().map(|appliance| ("PARTICLE_VM_APPLIANCE", appliance)));
        // Tests that run under nohup(1) would hand on that SIGHUP is ignored, which particle-vm keeps to.
        // SAFETY: between fork and exec only sigaction(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
                sigaction(Signal::SIGHUP, &default)?;
                Ok(())
            });
        }
        command
    }

    /// A folder for `PATH` with links to every program of this machine but those in `without`, and with shell scripts in the
    /// place of those in `scripts`.
    pub fn programs(&self, without: &[&str], scripts: &[(&str, &str)]) -> PathBuf {
        let bin = self.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, script) in scripts {
            write_program(&bin.join(name), &format!("#!/bin/sh\n{script}\n"));
        }
        for folder in ["/usr/bin", "/usr/sbin", "/bin", "/sbin"] {
            for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
                let name = entry.file_name();
                if !without.iter().any(|program| name == *program) {
                    // The folders overlap, and a script stays.
                    let _ = std::os::unix::fs::symlink(entry.path(), bin.join(name));
                }
            }
        }
        bin
    }

    /// A folder for `PATH` that has nothing but QEMU's programs, as on a machine where nothing else was installed.
    ///
    /// # Panics
    /// When this machine does not have them.
    pub fn nothing_but_qemu(&self) -> PathBuf {
        let bin = self.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for program in QEMU {
            let path = std::env::var_os("PATH").unwrap();
            let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
            std::os::unix::fs::symlink(found.unwrap_or_else(|| panic!("no {program}")), bin.join(program)).unwrap();
        }
        bin
    }

    /// The same with what every Debian has beside: the programs of its essential packages, and of apt with the one that
    /// verifies signatures for it, `gpgv` or, from Debian 13 on, `sqv`.
    ///
    /// # Panics
    /// When this is no Debian.
    pub fn bare_debian(&self) -> PathBuf {
        let bin = self.nothing_but_qemu();
        let query = |arguments: &[&str]| {
            let output = Command::new("dpkg-query").args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let essential = query(&["--show", "--showformat", "${Essential} ${Package}\n"]);
        let essential = essential.lines().filter_map(|line| line.strip_prefix("yes "));
        let packages: Vec<_> = essential.chain(["apt", "gpgv", "sqv"]).collect();
        let files = query(&[&["--listfiles"], &packages[..]].concat());
        let files = files.lines().map(Path::new);
        for file in files.filter(|file| file.parent().is_some_and(|folder| folder.ends_with("bin"))) {
            // Some folders have two names.
            let _ = std::os::unix::fs::symlink(file, bin.join(file.file_name().unwrap()));
        }
        bin
    }

    /// Start `particle-vm ARGUMENTS`.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        Running::start(self.command(arguments))
    }

    /// `particle-vm build` of a recipe with this place's output and work folders, and further arguments.
    pub fn start_build(&self, recipe: &Path, arguments: &[&str]) -> Running {
        Running::start(self.build_command(recipe, arguments))
    }

    /// The command of that.
    pub fn build_command(&self, recipe: &Path, arguments: &[&str]) -> Command {
        let mut all: Vec<&OsStr> = vec!["build".as_ref(), recipe.as_os_str()];
        let (out, work) = (self.out(), self.work());
        all.extend([OsStr::new("--output"), out.as_os_str(), OsStr::new("--work-dir"), work.as_os_str()]);
        all.extend(arguments.iter().map(OsStr::new));
        self.command(&all)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// The command under test: `PARTICLE_VM_TEST_BIN`, or the release build of this workspace.
pub fn binary() -> PathBuf {
    std::env::var_os("PARTICLE_VM_TEST_BIN").map_or_else(|| root().join("target/release/particle-vm"), PathBuf::from)
}

/// The source tree: `PARTICLE_VM_TEST_ROOT` where the tests run in a copy, or this workspace.
pub fn root() -> PathBuf {
    let built_in = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    std::env::var_os("PARTICLE_VM_TEST_ROOT").map_or_else(built_in, PathBuf::from)
}

/// Where the tests keep what they make.
pub fn base() -> PathBuf {
    root().join("target/e2e")
}
