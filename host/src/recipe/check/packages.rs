//! The stages that install packages.

use super::{Checker, names};
use crate::recipe::path::Path;
use particle_vm_protocol::stage::{Apt, Debootstrap, Kernel, Sources, keyring_extension};
use std::collections::BTreeMap;
use url::Url;

const PACKAGE: &str =
    "packages are written as apt-get takes them: `name`, `name=version`, `name/suite`, `name-` to remove";
const COMPONENT: &str = "components are words like `main`, `contrib` and `non-free-firmware`";
const SUITE: &str = "suites are names like `trixie`, `bookworm` and `trixie-backports`";

/// What names of Debian's kernels for other architectures than amd64 have in them.
const OTHER_ARCHITECTURES: [&str; 11] =
    ["686", "arm64", "armmp", "rpi", "marvell", "powerpc64le", "riscv64", "s390x", "loong64", "loongson", "mips64r2el"];

/// What names of packages have in them that come with Debian's kernels and are none: `linux-doc`, `linux-base`.
const NO_KERNEL: [&str; 11] =
    ["base", "compiler", "config", "cpupower", "dbg", "doc", "headers", "kbuild", "libc", "perf", "source"];

/// The stage `debootstrap`: suite, mirror, components, packages, keyring.
pub fn debootstrap(checker: &mut Checker<'_>, path: &Path, options: &Debootstrap) {
    if !names::suite(&options.suite) || options.suite.ends_with('/') {
        checker.advise(&path.key("suite"), format!("`{}` is not a suite", options.suite), SUITE);
    }
    if let Some(mirror) = &options.mirror {
        url(checker, &path.key("mirror"), mirror);
    }
    if options.components.is_empty() {
        checker.advise(&path.key("components"), "`components` is an empty list", "remove the key, or write `[main]`");
    }
    checker.each(&path.key("components"), &options.components, names::component, "a component", COMPONENT);
    checker.each(&path.key("include"), &options.include, names::package_request, "a package", PACKAGE);
    if let Some(written) = &options.keyring {
        keyring(checker, &path.key("keyring"), written);
    }
}

fn keyring(checker: &mut Checker<'_>, path: &Path, written: &str) {
    if keyring_extension(written).is_none() {
        let help = "apt tells the formats apart by the name: `.asc` (armoured), `.gpg` or `.pgp` (binary)";
        checker.advise(path, format!("`{written}` is not a name of a keyring"), help);
    }
    checker.file(path, written);
}

/// The stage `sources`: each as sources.list(5) takes it.
pub fn sources(checker: &mut Checker<'_>, path: &Path, options: &Sources) {
    let list = path.key("sources");
    if options.sources.is_empty() && options.keep {
        checker.advise(&list, "this stage does nothing", "name a source, or remove the stage");
    } else if options.sources.is_empty() {
        checker.advise(&list, "`sources` is an empty list", "an image without sources gets no updates");
    }
    for (index, source) in options.sources.iter().enumerate() {
        let path = list.index(index);
        if !names::source(&source.name) {
            let help = "the name of a file in sources.list.d: letters, digits, `_`, `-` and `.`";
            checker.advise(&path.key("name"), format!("`{}` is not a name of a source", source.name), help);
        }
        if options.sources[..index].iter().any(|other| other.name == source.name) {
            checker.report(&path.key("name"), format!("two sources are called `{}`", source.name));
        }
        checker.each(
            &path.key("types"),
            &source.types,
            |kind| matches!(kind, "deb" | "deb-src"),
            "a type",
            "it is `deb` or `deb-src`",
        );
        for (index, uri) in source.uris.iter().enumerate() {
            url(checker, &path.key("uris").index(index), uri);
        }
        for (key, list) in [("types", &source.types), ("suites", &source.suites)] {
            if list.is_empty() {
                checker.report(&path.key(key), format!("`{key}` is an empty list"));
            }
        }
        checker.each(&path.key("suites"), &source.suites, names::suite, "a suite", SUITE);
        checker.each(&path.key("components"), &source.components, names::component, "a component", COMPONENT);
        // sources.list(5): a suite that is a path names the folder itself, which has no components.
        let flat = source.suites.iter().filter(|suite| suite.ends_with('/')).count();
        if flat > 0 && !source.components.is_empty() {
            let help = "a suite that ends in `/` is a folder without components: write `components: []`";
            checker.advise(&path.key("suites"), "a flat archive has components", help);
        } else if flat < source.suites.len() && source.components.is_empty() {
            checker.advise(
                &path.key("components"),
                "`components` is an empty list",
                "remove the key, or write `[main]`",
            );
        }
        if let Some(written) = &source.keyring {
            keyring(checker, &path.key("keyring"), written);
        }
    }
}

/// The stage `apt`: packages as apt-get(8) takes them.
pub fn apt(checker: &mut Checker<'_>, path: &Path, options: &Apt) {
    if options.packages.is_empty() && !options.upgrade {
        let help = "name packages, set `upgrade: true`, or remove the stage";
        checker.advise(&path.key("packages"), "`packages` is an empty list", help);
    }
    checker.each(&path.key("packages"), &options.packages, names::package_request, "a package", PACKAGE);
    let removed = options.packages.iter().enumerate();
    let removed: BTreeMap<&str, usize> =
        removed.filter_map(|(index, package)| Some((package.strip_suffix('-')?, index))).collect();
    for package in &options.packages {
        let name = package.split(['=', '/']).next().unwrap_or_default();
        if let Some(index) = removed.get(name) {
            let message = format!("`{name}` is to be installed and to be removed");
            checker.advise(&path.key("packages").index(*index), message, "keep one of them");
        }
    }
}

/// The stage `kernel`: a package that is a kernel for this architecture, and arguments that reach it.
pub fn kernel(checker: &mut Checker<'_>, path: &Path, options: &Kernel) {
    let (path_of_name, name) = (path.key("package"), options.package.as_str());
    let help = "for instance `linux-image-cloud-amd64`, or `linux-image-amd64` for real machines";
    // Those of other archives have names of their own, `proxmox-kernel-6.8`.
    let words = || name.split('-');
    if !names::package(name) {
        checker.advise(&path_of_name, format!("`{name}` is not a package"), help);
    } else if let Some(other) = words().find(|word| OTHER_ARCHITECTURES.contains(word)) {
        checker.advise(&path_of_name, format!("`{name}` is a kernel for {other}, and the image is amd64"), help);
    } else if !words().any(|word| matches!(word, "linux" | "kernel")) || words().any(|word| NO_KERNEL.contains(&word)) {
        checker.advise(&path_of_name, format!("`{name}` is not the package of a kernel"), help);
    }
    cmdline(checker, &path.key("cmdline"), &options.cmdline);
}

/// Arguments of the kernel command line.
pub fn cmdline(checker: &mut Checker<'_>, path: &Path, arguments: &[String]) {
    for (index, argument) in arguments.iter().enumerate() {
        let path = path.index(index);
        if argument.is_empty() || argument.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let help = "each argument is an item of the list: `[quiet, console=ttyS0]`";
            checker.advise(&path, format!("`{argument}` is not one kernel argument"), help);
        } else if let Some(name) =
            ["root", "rootfstype", "rootflags"].into_iter().find(|name| argument.split('=').next() == Some(name))
        {
            let help = if name == "rootflags" {
                "write it as one of the `options` of the partition `root`"
            } else {
                "remove it"
            };
            checker.advise(&path, format!("`{name}=` follows from the disk"), help);
        } else if argument.contains(['"', '\'', '\\']) {
            let help = "remove the quotes: an argument without blanks needs none";
            checker.advise(&path, format!("`{argument}` does not reach the kernel as it stands here"), help);
        }
    }
}

/// A mirror is fetched from through the HTTP proxy of the host.
pub fn url(checker: &mut Checker<'_>, path: &Path, written: &str) {
    let help = "a mirror is a URL that begins with `http://` or `https://`";
    match Url::parse(written) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            checker.advise(path, format!("the build cannot fetch from `{written}`"), help);
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            checker.advise(path, "a mirror with a password in it", "it would stand in the image; use a mirror without");
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() || written.contains(char::is_whitespace) => {
            checker.advise(path, format!("`{written}` is not a mirror"), help);
        }
        Ok(_) => {}
        Err(error) => checker.advise(path, format!("`{written}` is not a URL: {error}"), help),
    }
}
