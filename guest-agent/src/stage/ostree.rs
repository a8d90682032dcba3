//! `ostree.*`: the OSTree repository of the build, and where the system updates itself from. The tools are the
//! appliance's.

use super::{Site, work, wrong};
use crate::container::REPOSITORY;
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use particle_vm_protocol::stage::{OstreeConfig, OstreeInit, OstreePull, OstreeRemote, OstreeRemotes, RepoMode};
use particle_vm_protocol::{Failure, FailureKind};
use std::fs;
use std::path::Path;

/// Where a system has its remotes, ostree.repo-config(5).
const REMOTES: &str = "/etc/ostree/remotes.d";

/// Where it has the keyrings for them.
const KEYRINGS: &str = "/etc/ostree/keyrings";

/// Name of the remote that a stage pulls from.
const ORIGIN: &str = "origin";

/// Where the keyring for it lies.
const KEYRING: &str = "/scratch/.ostree-keyring";

/// `ostree.init`.
pub(super) fn init(site: &Site<'_>, options: &OstreeInit) -> Result<(), Failure> {
    if Path::new(REPOSITORY).exists() {
        return Err(wrong("the repository is there already: `ostree.init` comes first, and once"));
    }
    run(site, &["init", "--mode", options.mode.name()])
}

/// What `ostree.commit` needs before the end.
pub(super) fn prepare(site: &Site<'_>) -> Result<(), Failure> {
    there(site)?;
    site.context.output("the commit is made of the finished tree, at the end");
    Ok(())
}

/// `ostree.config`.
pub(super) fn config(site: &Site<'_>, options: &OstreeConfig) -> Result<(), Failure> {
    there(site)?;
    options.set.iter().try_for_each(|(key, value)| run(site, &["config", "set", "--", key, value]))
}

/// `ostree.pull`.
pub(super) fn pull(site: &Site<'_>, options: &OstreePull) -> Result<(), Failure> {
    there(site)?;
    let depth = format!("--depth={}", options.depth);
    let refs = options.refs.iter().map(String::as_str);
    if let Some(path) = &options.path {
        // Resolved beneath the share; ostree opens it by its name.
        work::open(path, nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY)?;
        let path = format!("{}/{path}", paths::WORK);
        return run(
            site,
            &["pull-local", "--untrusted", &depth, "--", &path].into_iter().chain(refs).collect::<Vec<_>>(),
        );
    }
    let Some(url) = &options.url else { return Err(wrong("`ostree.pull` takes either `url` or `path`")) };
    let proxy = format!("--set=proxy=http://{}", particle_vm_protocol::GUEST_PROXY_ADDRESS);
    let mut add = vec!["remote".to_owned(), "add".into(), "--force".into(), proxy];
    add.extend(
        verification(options.gpg_keyring.is_some(), None, options.unsigned)?
            .into_iter()
            .map(|(key, value)| format!("--set={key}={value}")),
    );
    if let Some(keyring) = &options.gpg_keyring {
        fs::write(KEYRING, work::read(keyring)?).explain(FailureKind::Agent, || "cannot keep the keyring")?;
        add.push(format!("--gpg-import={KEYRING}"));
    }
    // It takes no `--`; the host has seen that this is a URL.
    add.extend([ORIGIN.into(), url.clone()]);
    run(site, &add.iter().map(String::as_str).collect::<Vec<_>>())?;
    run(site, &["pull", &depth, "--", ORIGIN].into_iter().chain(refs).collect::<Vec<_>>())?;
    // Under their own names, as `parent` names them; the remote was for this once.
    for name in &options.refs {
        run(site, &["refs", "--force", &format!("--create={name}"), &format!("{ORIGIN}:{name}")])?;
    }
    run(site, &["remote", "delete", ORIGIN])
}

/// `ostree.remotes`.
pub(super) fn remotes(site: &Site<'_>, options: &OstreeRemotes) -> Result<(), Failure> {
    let tree = site.tree()?;
    for remote in &options.remotes {
        let keyring = format!("{KEYRINGS}/{}.gpg", remote.name);
        if let Some(file) = &remote.gpg_keyring {
            tree.write(&keyring, work::read(file)?, 0o644)?;
        }
        tree.write(&format!("{REMOTES}/{}.conf", remote.name), stanza(remote, &keyring)?, 0o644)?;
    }
    Ok(())
}

fn stanza(remote: &OstreeRemote, keyring: &str) -> Result<String, Failure> {
    let mut fields = vec![("url", remote.url.clone())];
    if !remote.branches.is_empty() {
        fields.push(("branches", remote.branches.iter().map(|branch| format!("{branch};")).collect()));
    }
    if remote.gpg_keyring.is_some() {
        fields.push(("gpgkeypath", keyring.to_owned()));
    }
    fields.extend(verification(remote.gpg_keyring.is_some(), remote.ed25519_key.as_deref(), remote.unsigned)?);
    let mut text = format!("[remote \"{}\"]\n", remote.name);
    for (key, value) in fields {
        if value.chars().any(char::is_control) {
            return Err(wrong(format!("`{key}` of the remote `{}` has a line break or the like in it", remote.name)));
        }
        text += &format!("{key}={value}\n");
    }
    Ok(text)
}

/// How commits of a remote are checked: by one kind of signature, or because that is wanted not at all.
fn verification(gpg: bool, ed25519: Option<&str>, unsigned: bool) -> Result<Vec<(&'static str, String)>, Failure> {
    let text = str::to_owned;
    match (gpg, ed25519, unsigned) {
        (true, None, false) => Ok(vec![("gpg-verify", text("true"))]),
        (false, Some(key), false) => Ok(vec![
            ("gpg-verify", text("false")),
            ("sign-verify", text("ed25519")),
            ("verification-ed25519-key", text(key)),
        ]),
        (false, None, true) => Ok(vec![("gpg-verify", text("false"))]),
        _ => Err(wrong("a repository is trusted by one of `gpg_keyring`, `ed25519_key` and `unsigned: true`")),
    }
}

/// The repository, made when no stage has done so.
fn there(site: &Site<'_>) -> Result<(), Failure> {
    if Path::new(REPOSITORY).exists() { Ok(()) } else { run(site, &["init", "--mode", RepoMode::default().name()]) }
}

fn run(site: &Site<'_>, arguments: &[&str]) -> Result<(), Failure> {
    // Options of the command follow its name.
    let names = if arguments.first() == Some(&"remote") || arguments.first() == Some(&"config") { 2 } else { 1 };
    let (command, rest) = arguments.split_at(names.min(arguments.len()));
    let repo = format!("--repo={REPOSITORY}");
    site.context.run(&Command::new("ostree").args(command.iter().copied()).arg(repo).args(rest.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> OstreeRemote {
        OstreeRemote {
            name: "particle".into(),
            url: "https://updates.example.org/repo".into(),
            branches: vec!["particle/13".into()],
            gpg_keyring: None,
            ed25519_key: Some("a2V5".into()),
            unsigned: false,
        }
    }

    #[test]
    fn a_remote_is_a_stanza() {
        assert_eq!(
            stanza(&remote(), "").unwrap(),
            "[remote \"particle\"]\nurl=https://updates.example.org/repo\nbranches=particle/13;\ngpg-verify=false\n\
             sign-verify=ed25519\nverification-ed25519-key=a2V5\n"
        );
    }

    #[test]
    fn nobody_is_trusted_by_default_and_nothing_adds_a_line() {
        let nobody = OstreeRemote { ed25519_key: None, ..remote() };
        assert!(stanza(&nobody, "").unwrap_err().message.contains("`unsigned: true`"));
        let both = OstreeRemote { unsigned: true, ..remote() };
        assert!(stanza(&both, "").is_err());
        let forged = OstreeRemote { url: "http://x\ngpg-verify=false".into(), ..remote() };
        assert!(stanza(&forged, "").unwrap_err().message.contains("`url`"));
    }
}
