//! Resolution, verification and download of the packages by the host's `apt-get`, in private folders.
//!
//! apt knows signatures, by-hash, pins and Provides, and needs no root for any of it. The host's configuration stays in
//! force, for the sake of its proxies and credentials, except for what is set here.

use super::definition::{Definition, KEYS};
use super::error::ApplianceError;
use crate::apt::{self, AptError, Reason};
use crate::child;
use crate::event::{Events, Unit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// How long apt may take for indexes or packages in all. A server that stalls is given up by apt itself much earlier.
const DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

/// Read after the host's own configuration. Hooks of the host would run with our folders or delete what was downloaded
/// (container images have such); indexes other than the packages' are of no use.
const CONFIGURATION: &str = r#"
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear AptCli::Hooks;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Default-Release;
#clear APT::Architectures;
#clear Acquire::Languages;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  Optional "false";
};
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::ForceHash "SHA256";
Acquire::GzipIndexes "false";
APT::Get::AllowUnauthenticated "false";
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Update::Error-Mode "any";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
"#;

/// What `apt-get indextargets` is asked for each index: the suite of the source, and what the signed index says it is.
const SUITES: &str = "$(RELEASE)\t$(CODENAME)";

/// A package as the signed index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Where it is fetched from.
    pub uri: String,
    /// Name of its file, `NAME_VERSION_ARCHITECTURE.deb` with `%3a` for a colon.
    pub file: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Package {
    /// Its name.
    pub fn name(&self) -> &str {
        self.file.split('_').next().unwrap_or_default()
    }

    /// Its version.
    pub fn version(&self) -> String {
        self.file.split('_').nth(1).unwrap_or_default().replace("%3a", ":")
    }
}

/// What the appliance is made of.
#[derive(Debug, Clone)]
pub struct Packages {
    /// Unpacked into the root file system.
    pub root: Vec<Package>,
    /// The kernel's image and modules.
    pub kernel: Package,
    /// The firmware.
    pub firmware: Package,
}

impl Packages {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Package> {
        self.root.iter().chain([&self.kernel, &self.firmware])
    }
}

/// apt with private folders beneath one of ours.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Prepare the folders in `folder`, which is there.
    pub fn new(folder: &Path, definition: &Definition, mirror: &str) -> Result<Self, ApplianceError> {
        let this = Self { folder: folder.to_owned() };
        for name in ["state/lists/partial", "cache", "archives", "keys", "empty", "tmp"] {
            let path = this.folder.join(name);
            fs::create_dir_all(&path).map_err(ApplianceError::io("create", path))?;
        }
        let files = [
            ("apt.conf", CONFIGURATION.to_owned() + &architecture(definition)),
            ("sources.list", sources(definition, mirror)),
            ("preferences", preferences(definition)),
            ("status", String::new()),
        ];
        for (name, text) in files {
            let path = this.folder.join(name);
            fs::write(&path, text).map_err(ApplianceError::io("write", path))?;
        }
        for (name, key) in KEYS {
            let path = this.folder.join("keys").join(name);
            fs::write(&path, key).map_err(ApplianceError::io("write", path))?;
        }
        Ok(this)
    }

    /// Where the packages are downloaded to.
    pub fn archives(&self) -> PathBuf {
        self.folder.join("archives")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = apt::command(program);
        command.current_dir(self.archives());
        // apt 2.6 keeps a copy of the keyring there while it verifies.
        command.env("TMPDIR", self.folder.join("tmp"));
        command.arg("-qq").arg("-c").arg(self.folder.join("apt.conf"));
        // Given as arguments, because a value in a file cannot hold every character of a path.
        let places = [
            ("Dir::State", "state"),
            ("Dir::State::lists", "state/lists"),
            ("Dir::State::status", "status"),
            ("Dir::State::extended_states", "state/extended_states"),
            ("Dir::Cache", "cache"),
            ("Dir::Cache::archives", "archives"),
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "empty"),
            ("Dir::Etc::trustedparts", "keys"),
            ("Dir::Etc::preferences", "preferences"),
            ("Dir::Etc::preferencesparts", "empty"),
        ];
        for (key, place) in places {
            let mut value = std::ffi::OsString::from(format!("{key}="));
            value.push(self.folder.join(place));
            command.arg("-o").arg(value);
        }
        // No other keyring; apt 3 warns of any name but this one.
        command.args(["-o", "Dir::Etc::trusted=/dev/null"]);
        if nix::unistd::geteuid().is_root() {
            // Otherwise it would drop to a user that cannot write here.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
    }

    async fn run(&self, command: Command) -> Result<String, ApplianceError> {
        let text = child::run(command, DEADLINE).await.map_err(|error| ApplianceError::Fetch(error.into()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Fetch the indexes, verify their signatures and hashes, and resolve the packages.
    ///
    /// # Errors
    /// When apt refuses: mirror, signature, hash, a package that is missing.
    pub async fn resolve(&self, definition: &Definition, events: &Events) -> Result<Packages, ApplianceError> {
        let step = events.step("appliance: package index", None, Unit::Bytes);
        let mut update = self.command("apt-get");
        // apt tells of the last way only in which it has tried to get an index, and the last of its own list is one that no
        // mirror has: whatever went wrong, apt 3 says 404. What is fetched is kept as it always is.
        update.args(["-o", "Acquire::IndexTargets::deb::Packages::CompressionTypes=xz gz", "update"]);
        self.run(update).await?;
        let mut targets = self.command("apt-get");
        targets.args(["indextargets", "--format", SUITES]);
        check_suites(&self.run(targets).await?, definition).map_err(ApplianceError::Fetch)?;

        let mut install = self.command("apt-get");
        install.args(["--print-uris", "install", "?essential"]).args(&definition.packages);
        let root = parse_uris(&self.run(install).await?).map_err(ApplianceError::Fetch)?;

        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--important", &definition.kernel.package]);
        let image = kernel_image(&self.run(depends).await?, &definition.kernel.image_prefix)
            .ok_or_else(|| unexpected("apt-cache", &definition.kernel.package))?;
        let mut download = self.command("apt-get");
        download.args(["--print-uris", "download", &image, &definition.firmware.package]);
        let rest = parse_uris(&self.run(download).await?).map_err(ApplianceError::Fetch)?;
        let named = |name: &str| {
            rest.iter().find(|package| package.name() == name).cloned().ok_or_else(|| unexpected("apt-get", name))
        };
        let (kernel, firmware) = (named(&image)?, named(&definition.firmware.package)?);
        step.finish();
        Ok(Packages { root, kernel, firmware })
    }

    /// Download `packages`; apt verifies their hashes.
    ///
    /// # Errors
    /// When apt refuses: mirror, hash, space.
    pub async fn download(&self, packages: &Packages, events: &Events) -> Result<(), ApplianceError> {
        let total = packages.all().map(|package| package.size).sum();
        let step = events.step("appliance: download", Some(total), Unit::Bytes);
        let mut download = self.command("apt-get");
        download.args(["-o", "APT::Status-Fd=1", "download"]);
        download.args(packages.all().map(|package| format!("{}={}", package.name(), package.version())));
        let mut line = Vec::new();
        let report = |piece: &[u8]| {
            for byte in piece {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                if let Some(share) = downloaded_share(&line) {
                    step.progress((total as f64 * share) as u64);
                }
                line.clear();
            }
        };
        child::run_reporting(download, DEADLINE, report).await.map_err(|error| ApplianceError::Fetch(error.into()))?;
        step.finish();
        Ok(())
    }
}

/// Compare the suites that were asked for with those that came: Debian's keys sign more than one, and apt does no more
/// than warn when it gets another.
fn check_suites(targets: &str, definition: &Definition) -> Result<(), AptError> {
    let found: Vec<_> = targets.lines().filter_map(|line| line.split_once('\t')).collect();
    for suite in &definition.suites {
        let mut came =
            found.iter().filter(|(wanted, _)| *wanted == suite.name).map(|(_, codename)| *codename).peekable();
        if came.peek().is_none() {
            return Err(AptError::Output { tool: "apt-get", line: targets.to_owned() });
        }
        if let Some(other) = came.find(|codename| *codename != suite.name) {
            let stderr = format!("the signed index that was fetched for {} is that of {other:?}", suite.name);
            return Err(AptError::Refused { reason: Reason::Suite, stderr });
        }
    }
    Ok(())
}

fn unexpected(tool: &'static str, line: &str) -> ApplianceError {
    ApplianceError::Fetch(AptError::Output { tool, line: line.to_owned() })
}

fn architecture(definition: &Definition) -> String {
    let name = &definition.architecture;
    format!("APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n")
}

fn sources(definition: &Definition, mirror: &str) -> String {
    let line = |suite: &super::definition::Suite| {
        // sources.list(5).
        let options = if suite.expires { "" } else { "[check-valid-until=no] " };
        format!("deb {options}{mirror} {} {}\n", suite.name, suite.components.join(" "))
    };
    definition.suites.iter().map(line).collect()
}

/// apt_preferences(5): other suites than the first give only what is pinned to them.
fn preferences(definition: &Definition) -> String {
    let mut text = String::new();
    for suite in definition.suites.iter().skip(1) {
        text += &format!("Package: *\nPin: release n={}\nPin-Priority: -10\n\n", suite.name);
    }
    for pin in &definition.pins {
        let (packages, suite, priority) = (pin.packages.join(" "), &pin.suite, pin.priority);
        text += &format!(
            "Explanation: {}\nPackage: {packages}\nPin: release n={suite}\nPin-Priority: {priority}\n\n",
            pin.reason
        );
    }
    text
}

/// The lines of `--print-uris`: `'URI' FILE SIZE SHA256:HASH`.
fn parse_uris(text: &str) -> Result<Vec<Package>, AptError> {
    let package = |line: &str| {
        let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let (uri, mut words) = (uri.to_owned(), rest.split_whitespace());
        let file = words.next()?.to_owned();
        let size = words.next()?.parse().ok()?;
        let sha256 = words.next()?.strip_prefix("SHA256:")?.to_ascii_lowercase();
        let named = file.split('_').count() == 3 && file.ends_with(".deb") && !file.contains('/');
        (named && sha256.len() == 64).then_some(Package { uri, file, size, sha256 })
    };
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| package(line).ok_or_else(|| AptError::Output { tool: "apt-get", line: line.to_owned() })).collect()
}

/// The package that the kernel's meta package depends on.
fn kernel_image(depends: &str, prefix: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(prefix)).map(ToOwned::to_owned)
}

/// The share between 0 and 1 that a line on apt's status descriptor tells: `dlstatus:FILE:PERCENT:TEXT`.
fn downloaded_share(line: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("dlstatus:")?;
    let percent: f64 = text.split(':').nth(1)?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uris_that_apt_prints_are_read() {
        let hash = "5b6825de4263824b78c4c51f6476414f3b4e89c2ab63e81dc8b9b5501e867cf6";
        let line = format!("'http://m/pool/x/%2b.deb' libcap2_1%3a2.75-10+b3_amd64.deb 49432 SHA256:{hash}\n");
        let packages = parse_uris(&line).unwrap();
        assert_eq!(packages[0].uri, "http://m/pool/x/%2b.deb");
        assert_eq!(packages[0].name(), "libcap2");
        assert_eq!(packages[0].version(), "1:2.75-10+b3");
        assert_eq!((packages[0].size, packages[0].sha256.as_str()), (49432, hash));
        for bad in
            ["'http://m/x' ../x_1_all.deb 1 SHA256:00", "x", "'u' a_1_b.deb 1 MD5Sum:00", "'u' a_1_b.deb x SHA256:00"]
        {
            assert!(matches!(parse_uris(bad), Err(AptError::Output { .. })), "{bad}");
        }
    }

    #[test]
    fn the_kernel_is_what_the_meta_package_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.117+deb13-cloud-amd64\n";
        assert_eq!(kernel_image(text, "linux-image-").unwrap(), "linux-image-6.12.117+deb13-cloud-amd64");
        assert!(kernel_image("linux-image-cloud-amd64\n", "linux-image-").is_none());
    }

    #[test]
    fn progress_is_read_from_the_status_lines() {
        assert_eq!(downloaded_share(b"dlstatus:2:50.0000:Retrieving file 2 of 2"), Some(0.5));
        assert_eq!(downloaded_share(b"dlstatus:2:nan:x"), None);
        assert_eq!(downloaded_share(b"Get:1 http://m"), None);
    }

    #[test]
    fn the_index_of_another_suite_is_refused() {
        let mut definition = Definition::embedded().unwrap();
        definition.suites.truncate(1);
        check_suites("trixie\ttrixie\n", &definition).unwrap();
        for (came, reason) in [("trixie\tbookworm\n", Reason::Suite), ("trixie\t$(CODENAME)\n", Reason::Suite)] {
            let error = check_suites(came, &definition).unwrap_err();
            assert!(matches!(error, AptError::Refused { reason: found, .. } if found == reason), "{error}");
        }
        assert!(matches!(check_suites("", &definition), Err(AptError::Output { .. })));
    }

    #[test]
    fn pinned_suites_give_nothing_else() {
        let text = "architecture: amd64\nsuites: [{name: trixie, components: [main]}, {name: forky, components: [main], expires: false}]\n\
                    pins: [{suite: forky, packages: [ostree, libostree-1-1], priority: 990, reason: composefs}]\n\
                    packages: []\nkernel: {package: k, image_prefix: k-}\nfirmware: {package: f, code: c, variables: v}\n\
                    modules: {initramfs: [], root: []}\nexclude: []\nfolders: []\n";
        let definition: Definition = serde_yaml::from_str(text).unwrap();
        assert_eq!(
            sources(&definition, "http://m/debian"),
            "deb http://m/debian trixie main\ndeb [check-valid-until=no] http://m/debian forky main\n"
        );
        let text = preferences(&definition);
        assert!(text.contains("Package: *\nPin: release n=forky\nPin-Priority: -10\n"), "{text}");
        assert!(text.contains("Package: ostree libostree-1-1\nPin: release n=forky\nPin-Priority: 990\n"), "{text}");
    }
}
