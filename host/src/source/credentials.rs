//! Credentials of registries, from the files that podman, skopeo and docker write, and from the programs that they name.
//!
//! Sources: containers-auth.json(5); docker's "config.json" and "Credential helper protocol".

use crate::child::{self, ChildError};
use crate::error::{Class, Classify};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use thiserror::Error;

/// Most bytes of a file with credentials.
const MAX_FILE: u64 = 1 << 20;

/// How long a helper may take: some ask a person.
const DEADLINE: Duration = Duration::from_secs(60);

/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be had.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is no file with credentials: {reason}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the secrets in it.
        reason: String,
    },
    /// A helper does not do its work.
    #[error("the credential helper of {} does not help", .path.display())]
    Helper {
        /// The file that names it.
        path: PathBuf,
        /// Why.
        #[source]
        source: ChildError,
    },
}

impl Classify for CredentialsError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Syntax { .. } => Class::Usage,
            Self::Helper { .. } => Class::Host,
        }
    }

    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, .. } => {
                format!("make {} readable, or name another file with --authfile", path.display())
            }
            Self::Syntax { path, .. } => format!("write {} anew with `podman login` or `docker login`", path.display()),
            Self::Helper { path, .. } => {
                format!(
                    "install the helper, or take it out of {}, or name another file with --authfile",
                    path.display()
                )
            }
        })
    }

    fn details(&self) -> Option<String> {
        match self {
            Self::Helper { source, .. } => source.details(),
            _ => None,
        }
    }
}

/// What a registry accepts instead of a stranger.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password { user: String, password: String },
    /// A token for which the registry's token server gives another.
    Identity(String),
    /// A token for the registry itself.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// `auth.json` and `config.json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The credentials for the repository `repository` of a registry, which is known by each of `hosts`: those of
/// `authfile`, or without it of the first of the usual files that has some.
///
/// # Errors
/// When a file or a helper cannot be used.
pub async fn find(
    hosts: &[&str],
    repository: &str,
    authfile: Option<&Path>,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Option<Credentials>, CredentialsError> {
    let (files, must_exist) = match authfile.map(Path::to_owned).or_else(|| variable("REGISTRY_AUTH_FILE")) {
        Some(file) => (vec![file], true),
        None => (usual(variable), false),
    };
    for path in files {
        let Some(config) = read(&path, must_exist)? else { continue };
        for host in hosts {
            if let Some(found) = of(&config, host, repository, &path).await? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The usual files, in the order in which they count.
fn usual(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = variable("HOME");
    let beneath_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let config = variable("XDG_CONFIG_HOME").or_else(|| beneath_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| beneath_home(".docker"));
    let files = [
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        config.map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ];
    files.into_iter().flatten().collect()
}

fn read(path: &Path, must_exist: bool) -> Result<Option<Config>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        read => read.map_err(failed)?,
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let wrong = |error: serde_json::Error| {
        // The message may quote a value; the place says enough.
        let reason = format!("line {}, column {}", error.line(), error.column());
        CredentialsError::Syntax { path: path.to_owned(), reason }
    };
    serde_json::from_slice(&text).map(Some).map_err(wrong)
}

async fn of(
    config: &Config,
    host: &str,
    repository: &str,
    path: &Path,
) -> Result<Option<Credentials>, CredentialsError> {
    if let Some(helper) = config.cred_helpers.get(host) {
        return ask(helper, host, path).await;
    }
    // The most exact name counts: of a repository, of those above it, of the registry.
    let whole = format!("{host}/{repository}");
    let names = std::iter::successors(Some(whole.as_str()), |name| name.rsplit_once('/').map(|(above, _)| above));
    for name in names {
        let entries = config.auths.iter().filter(|(key, _)| *key == name || name == host && host_of(key) == host);
        for (_, entry) in entries {
            if let Some(found) = entry_of(entry, path)? {
                return Ok(Some(found));
            }
        }
    }
    match &config.creds_store {
        // It knows registries by the names under which they were put in.
        Some(helper) => {
            let key = config.auths.keys().find(|key| host_of(key) == host).map_or(host, String::as_str);
            ask(helper, key, path).await
        }
        None => Ok(None),
    }
}

/// docker's old names are URLs.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    rest.map_or(key, |rest| rest.split('/').next().unwrap_or_default())
}

fn entry_of(entry: &Entry, path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if let Some(token) = given(&entry.identitytoken) {
        return Ok(Some(Credentials::Identity(token)));
    }
    if let Some(token) = given(&entry.registrytoken) {
        return Ok(Some(Credentials::Bearer(token)));
    }
    if let Some(auth) = given(&entry.auth) {
        let wrong = || CredentialsError::Syntax {
            path: path.to_owned(),
            reason: "an `auth` in it is not a name and a password in base64".into(),
        };
        let text = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(wrong)?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        let password = password.trim_end_matches('\0').into();
        return Ok(Some(Credentials::Password { user: user.into(), password }));
    }
    let password = given(&entry.password);
    Ok(given(&entry.username).zip(password).map(|(user, password)| Credentials::Password { user, password }))
}

/// Ask the program `docker-credential-HELPER`, which reads the name of the registry and prints what it knows.
async fn ask(helper: &str, registry: &str, path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let wrong = |reason: String| CredentialsError::Syntax { path: path.to_owned(), reason };
    if helper.is_empty() || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(wrong("a helper in it has a name that none has".into()));
    }
    let program = format!("docker-credential-{helper}");
    let mut command = child::command(&program);
    command
        .arg("get")
        .stdin(given(registry).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?);
    let mut said = Vec::new();
    let asked = child::run_reporting(command, DEADLINE, |piece| {
        said.extend_from_slice(&piece[..piece.len().min(4096_usize.saturating_sub(said.len()))]);
    });
    let text = match asked.await {
        Ok(text) => text,
        // So it says that it knows none, on standard output.
        Err(ChildError::Failed { .. }) if String::from_utf8_lossy(&said).contains("credentials not found") => {
            return Ok(None);
        }
        Err(source) => return Err(CredentialsError::Helper { path: path.to_owned(), source }),
    };
    let helped: Helped = serde_json::from_slice(&text)
        .map_err(|_| wrong(format!("{program}, which it names, prints no credentials")))?;
    Ok(Some(if helped.username == TOKEN_USER {
        Credentials::Identity(helped.secret)
    } else {
        Credentials::Password { user: helped.username, password: helped.secret }
    }))
}

/// A standard input that holds `text`, which is short enough for a pipe.
fn given(text: &str) -> io::Result<Stdio> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(text.as_bytes())?;
    Ok(reader.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn auth(user: &str, password: &str) -> String {
        STANDARD.encode(format!("{user}:{password}"))
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.into(), password: password.into() })
    }

    async fn found(text: &str, hosts: &[&str], repository: &str) -> Result<Option<Credentials>, CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        std::fs::write(&file, text).unwrap();
        find(hosts, repository, Some(&file), |_| None).await
    }

    #[tokio::test]
    async fn the_most_exact_entry_counts() {
        let text = format!(
            r#"{{"auths": {{"example.org": {{"auth": "{}"}}, "example.org/team": {{"auth": "{}"}},
                "https://old.example.org/v1/": {{"auth": "{}"}}, "plain.example.org": {{"username": "p", "password": "q"}},
                "token.example.org": {{"identitytoken": "abc"}}}}}}"#,
            auth("all", "1"),
            auth("team", "2"),
            auth("old", "3:4"),
        );
        assert_eq!(found(&text, &["example.org"], "other/image").await.unwrap(), password("all", "1"));
        assert_eq!(found(&text, &["example.org"], "team/image").await.unwrap(), password("team", "2"));
        assert_eq!(found(&text, &["old.example.org"], "a").await.unwrap(), password("old", "3:4"));
        assert_eq!(found(&text, &["plain.example.org"], "a").await.unwrap(), password("p", "q"));
        let token = found(&text, &["token.example.org"], "a").await.unwrap();
        assert_eq!(token, Some(Credentials::Identity("abc".into())));
        assert_eq!(found(&text, &["none.example.org"], "a").await.unwrap(), None);
        assert_eq!(found(&text, &["none.example.org", "example.org"], "a").await.unwrap(), password("all", "1"));
    }

    #[tokio::test]
    async fn the_first_file_with_an_entry_counts() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, user: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!(r#"{{"auths": {{"{user}.org": {{"auth": "{}"}}}}}}"#, auth(user, name)))
                .unwrap();
        };
        write("run/containers/auth.json", "a");
        write(".config/containers/auth.json", "b");
        write(".docker/config.json", "a");
        let variable = |name: &str| match name {
            "HOME" => Some(home.path().to_owned()),
            "XDG_RUNTIME_DIR" => Some(home.path().join("run")),
            _ => None,
        };
        let of = async |host| find(&[host], "i", None, variable).await.unwrap();
        assert_eq!(of("a.org").await, password("a", "run/containers/auth.json"));
        assert_eq!(of("b.org").await, password("b", ".config/containers/auth.json"));
        std::fs::remove_file(home.path().join("run/containers/auth.json")).unwrap();
        assert_eq!(of("a.org").await, password("a", ".docker/config.json"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_and_not_quoted() {
        let error =
            found(r#"{"auths": {"example.org": {"auth": 5, "password": "secret"}}"#, &["x"], "a").await.unwrap_err();
        assert!(error.to_string().contains("auth.json is no file with credentials: line 1"), "{error}");
        let error = found(r#"{"auths": {"x": {"auth": "c2VjcmV0"}}}"#, &["x"], "a").await.unwrap_err();
        assert!(error.to_string().contains("not a name and a password") && !error.to_string().contains("secret"));
        let missing = find(&["x"], "a", Some(Path::new("/nonexistent/auth.json")), |_| None).await.unwrap_err();
        assert_eq!(
            (missing.class(), missing.to_string().as_str()),
            (Class::Usage, "cannot read /nonexistent/auth.json")
        );
        assert_eq!(found("", &["x"], "a").await.unwrap(), None);
        let error = found(r#"{"credsStore": "../../bin/sh"}"#, &["x"], "a").await.unwrap_err();
        assert!(error.to_string().contains("a name that none has"), "{error}");
        let error = found(r#"{"credsStore": "is-not-installed"}"#, &["x"], "a").await.unwrap_err();
        assert_eq!(error.class(), Class::Host);
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry() {
        let folder = tempfile::tempdir().unwrap();
        // Its name holds its folder, since a test cannot change PATH for itself alone.
        let helper = folder.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread -r server\ncase $server in known.org) printf '{\"Username\":\"u\",\"Secret\":\"%s\"}' \
                      \"$server\";; broken.org) echo no; ;; *) echo 'credentials not found in native keychain'; exit 1;; esac\n";
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let input = given("known.org").unwrap();
        let mut command = child::command(&helper);
        command.arg("get").stdin(input);
        let text = child::run(command, DEADLINE).await.unwrap();
        let helped: Helped = serde_json::from_slice(&text).unwrap();
        assert_eq!((helped.username.as_str(), helped.secret.as_str()), ("u", "known.org"));
    }
}
