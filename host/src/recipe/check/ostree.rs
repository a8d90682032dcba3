//! The stages of the OSTree repository.

use super::{Checker, names, packages};
use crate::recipe::near::nearest;
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use particle_vm_protocol::Stage;
use particle_vm_protocol::stage::{OstreeCommit, OstreeConfig, OstreeDeploy, OstreePull, OstreeRemotes};

const REF: &str = "letters, digits, `.`, `_` and `-`, in parts between `/`, for instance `particle/13/amd64`";

/// Most parents of a commit: ostree-pull(1) takes a number of 32 bits.
const MOST_PARENTS: u32 = 1_000_000;

/// Bytes of a public ed25519 key (RFC 8032, 5.1.5).
const PUBLIC_KEY: usize = 32;

pub fn config(checker: &mut Checker<'_>, path: &Path, options: &OstreeConfig) {
    let list = path.key("set");
    if options.set.is_empty() {
        checker.advise(&list, "`set` is empty", "name a value, or remove the stage");
    }
    for (name, value) in &options.set {
        let good = name.split_once('.').is_some_and(|(group, key)| [group, key].into_iter().all(names::source));
        if !good {
            let help = "a group and a key, for instance `core.min-free-space-percent`";
            checker.advise_key(&list.key(name), format!("`{name}` is not a key of a repository"), help);
        }
        if value.contains(char::is_control) {
            checker.report(&list.key(name), "a value is one line");
        }
    }
}

pub fn pull(checker: &mut Checker<'_>, path: &Path, options: &OstreePull) {
    let trust = Trust {
        gpg_keyring: options.gpg_keyring.as_deref(),
        ed25519_key: None,
        unsigned: options.unsigned,
        ways: "`gpg_keyring` and `unsigned: true`",
    };
    match (&options.url, &options.path) {
        (None, None) => checker.advise(path, "the stage has nowhere to pull from", "give it `url` or `path`"),
        (Some(_), Some(_)) => checker.advise(path, "the stage has both `url` and `path`", "keep one of them"),
        (Some(url), None) => {
            packages::url(checker, &path.key("url"), url);
            trust.check(checker, path);
        }
        (None, Some(folder)) => {
            checker.file_or_folder(&path.key("path"), folder);
            if trust.given() > 0 {
                checker.advise(path, "signatures are checked of what comes from a `url`", "remove the key");
            }
        }
    }
    if options.refs.is_empty() {
        checker.report(&path.key("refs"), "`refs` is an empty list");
    }
    checker.each(&path.key("refs"), &options.refs, names::ostree_ref, "a ref", REF);
    if options.depth > MOST_PARENTS {
        checker.report(&path.key("depth"), format!("at most {MOST_PARENTS} parents are fetched"));
    }
}

pub fn remotes(checker: &mut Checker<'_>, path: &Path, options: &OstreeRemotes) {
    let list = path.key("remotes");
    if options.remotes.is_empty() {
        checker.advise(&list, "`remotes` is an empty list", "name a remote, or remove the stage");
    }
    for (index, remote) in options.remotes.iter().enumerate() {
        let path = list.index(index);
        if !names::source(&remote.name) {
            let message = format!("`{}` is not a name of a remote", remote.name);
            checker.advise(&path.key("name"), message, "letters, digits, `_`, `-` and `.`");
        }
        if options.remotes[..index].iter().any(|other| other.name == remote.name) {
            checker.report(&path.key("name"), format!("two remotes are called `{}`", remote.name));
        }
        packages::url(checker, &path.key("url"), &remote.url);
        checker.each(&path.key("branches"), &remote.branches, names::ostree_ref, "a ref", REF);
        let trust = Trust {
            gpg_keyring: remote.gpg_keyring.as_deref(),
            ed25519_key: remote.ed25519_key.as_deref(),
            unsigned: remote.unsigned,
            ways: "`gpg_keyring`, `ed25519_key` and `unsigned: true`",
        };
        trust.check(checker, &path);
    }
}

pub fn commit(checker: &mut Checker<'_>, path: &Path, options: &OstreeCommit) {
    if !names::ostree_ref(&options.reference) {
        checker.advise(&path.key("ref"), format!("`{}` is not a ref", options.reference), REF);
    }
    if let Some(parent) = options.parent.as_ref().filter(|parent| !names::ostree_ref(parent)) {
        let help = "a checksum of 64 digits, or a ref that a stage `ostree.pull` has fetched";
        checker.advise(&path.key("parent"), format!("`{parent}` is not a commit"), help);
    }
    for (key, text) in [("subject", &options.subject), ("version", &options.version)] {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.contains(char::is_control)) {
            checker.report(&path.key(key), format!("`{key}` is one line"));
        }
    }
    for (key, value) in &options.metadata {
        let path = path.key("metadata").key(key);
        if key == "version" {
            checker.advise_key(&path, "the version has a key of its own", "write it as `version` of the options");
        } else if !names::source(key) {
            checker.advise_key(&path, format!("`{key}` is not a key"), "letters, digits, `_`, `-` and `.`");
        }
        // A command line holds no longer ones (execve(2), MAX_ARG_STRLEN).
        if value.contains('\0') || value.len() > 100_000 {
            checker.report(&path, "a value is text of at most 100000 bytes");
        }
    }
}

pub fn deploy(checker: &mut Checker<'_>, path: &Path, options: &OstreeDeploy) {
    let place = path.key("ref");
    if !names::ostree_ref(&options.reference) {
        checker.advise(&place, format!("`{}` is not a ref", options.reference), REF);
    } else if let Some(known) = refs(checker.sections).filter(|known| !known.contains(&options.reference.as_str())) {
        let near = nearest(&options.reference, &known).map(|near| format!("did you mean `{near}`?"));
        let help =
            near.unwrap_or_else(|| "make it with a stage `ostree.commit`, or fetch it with `ostree.pull`".into());
        checker.advise(&place, format!("no stage gives the commit `{}`", options.reference), help);
    }
    let names = [("stateroot", &options.stateroot, "a stateroot"), ("remote", &options.remote, "a remote")];
    for (key, name, what) in names {
        if let Some(name) = name.as_ref().filter(|name| !names::source(name)) {
            let help = "letters, digits, `_`, `-` and `.`";
            checker.advise(&path.key(key), format!("`{name}` is not a name of {what}"), help);
        }
    }
    if let Some((remote, known)) = options.remote.as_ref().zip(remotes_of(checker.sections))
        && !known.contains(&remote.as_str())
    {
        let near = nearest(remote, &known).map(|near| format!("did you mean `{near}`?"));
        let help = near.unwrap_or_else(|| "name it in the stage `ostree.remotes`".into());
        checker.advise(&path.key("remote"), format!("there is no remote `{remote}`"), help);
    }
}

/// The remotes of the system, as far as all stages can be read; none where no stage sets any, so that a commit may have its
/// own.
fn remotes_of(sections: &Sections) -> Option<Vec<&str>> {
    let mut names = None;
    for stage in &sections.stages {
        if let Stage::OstreeRemotes(options) = &stage.known()?.stage {
            names.get_or_insert_with(Vec::new).extend(options.remotes.iter().map(|remote| remote.name.as_str()));
        }
    }
    names
}

/// The refs that the repository of the build has, as far as all stages can be read.
fn refs(sections: &Sections) -> Option<Vec<&str>> {
    let mut refs = Vec::new();
    for stage in &sections.stages {
        match &stage.known()?.stage {
            Stage::OstreeCommit(options) => refs.push(options.reference.as_str()),
            Stage::OstreePull(options) => refs.extend(options.refs.iter().map(String::as_str)),
            _ => {}
        }
    }
    Some(refs)
}

/// By what a repository is trusted.
struct Trust<'a> {
    gpg_keyring: Option<&'a str>,
    ed25519_key: Option<&'a str>,
    unsigned: bool,
    /// The keys that say so.
    ways: &'static str,
}

impl Trust<'_> {
    fn given(&self) -> usize {
        usize::from(self.gpg_keyring.is_some()) + usize::from(self.ed25519_key.is_some()) + usize::from(self.unsigned)
    }

    fn check(&self, checker: &mut Checker<'_>, path: &Path) {
        let ways = format!("one of {}", self.ways);
        match self.given() {
            0 => checker.advise(path, "nothing says which signatures the commits have", format!("give it {ways}")),
            1 => {}
            _ => checker.advise(path, "several keys say which signatures the commits have", format!("keep {ways}")),
        }
        if let Some(file) = self.gpg_keyring {
            checker.file(&path.key("gpg_keyring"), file);
        }
        if self.ed25519_key.is_some_and(|key| BASE64_STANDARD.decode(key).map_or(0, |key| key.len()) != PUBLIC_KEY) {
            let help = "32 bytes in base64, as `openssl pkey -pubout -outform DER | tail -c 32 | base64` prints it";
            checker.advise(&path.key("ed25519_key"), "this is not a public ed25519 key", help);
        }
    }
}
