//! Names of container images, as containers-transports(5) has them; and what an OSTree deployment calls where it came
//! from (ostree-rs-ext, "container image reference").

use crate::error::{Class, Classify};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

pub use oci_spec::distribution::Reference as Named;

/// Longest reference: a path and a name.
const MAX_LENGTH: usize = 4096 + 512;

/// What is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no reference to a container image: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
    advice: &'static str,
}

impl Classify for ReferenceError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn advice(&self) -> Option<String> {
        Some(self.advice.into())
    }
}

const FORMS: &str = "write HOST/NAME:TAG or docker://HOST/NAME:TAG for a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG], \
                     docker-archive:FILE[:NAME:TAG], containers-storage:NAME for podman, or docker-daemon:NAME for docker";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(Place);

/// The place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a registry.
    Registry(Named),
    /// In a folder that is an OCI image layout.
    Oci { path: PathBuf, tag: Option<String> },
    /// In a tar archive of such a folder.
    OciArchive { path: PathBuf, tag: Option<String> },
    /// In what `docker save` writes.
    DockerArchive { path: PathBuf, name: Option<String> },
    /// In podman's store: by default the user's own.
    Podman { store: Option<PodmanStore>, name: String },
    /// In docker's store.
    Docker { name: String },
}

/// A store of podman's that is not the default one: `[DRIVER@ROOT+RUNROOT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodmanStore {
    pub driver: Option<String>,
    pub root: String,
    pub run_root: Option<String>,
}

impl Reference {
    pub(super) fn place(&self) -> &Place {
        &self.0
    }

    /// The image in a registry that this names, if it is in one.
    pub fn registry(&self) -> Option<&Named> {
        match &self.0 {
            Place::Registry(named) => Some(named),
            _ => None,
        }
    }

    /// The same reference with its path, where it has one, taken from `folder`, for instance that of a recipe.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        if let Place::Oci { path, .. } | Place::OciArchive { path, .. } | Place::DockerArchive { path, .. } =
            &mut self.0
        {
            *path = folder.join(&*path);
        }
        self
    }

    /// What belongs into the origin of an OSTree deployment of this image (`container-image-reference`), so that
    /// `bootc upgrade` knows where to look. None for what only this machine has: the installed one cannot reach it.
    pub fn origin(&self) -> Option<String> {
        self.registry().map(|named| format!("ostree-unverified-registry:{named}"))
    }

    /// The same without what concerns nobody but this machine: the folder that it lies in, podman's store.
    #[must_use]
    pub fn public(mut self) -> Self {
        match &mut self.0 {
            Place::Oci { path, .. } | Place::OciArchive { path, .. } | Place::DockerArchive { path, .. } => {
                // The root itself has no name, and neither has a path that ends in dots.
                *path = path.file_name().map(PathBuf::from).unwrap_or_default();
            }
            Place::Podman { store, .. } => *store = None,
            Place::Registry(_) | Place::Docker { .. } => {}
        }
        self
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let located = |f: &mut fmt::Formatter<'_>, transport: &str, path: &Path, rest: &Option<String>| {
            write!(f, "{transport}:{}", path.display())?;
            rest.as_ref().map_or(Ok(()), |rest| write!(f, ":{rest}"))
        };
        match &self.0 {
            Place::Registry(named) => write!(f, "docker://{named}"),
            Place::Oci { path, tag } => located(f, "oci", path, tag),
            Place::OciArchive { path, tag } => located(f, "oci-archive", path, tag),
            Place::DockerArchive { path, name } => located(f, "docker-archive", path, name),
            Place::Podman { store: None, name } => write!(f, "containers-storage:{name}"),
            Place::Podman { store: Some(PodmanStore { driver, root, run_root }), name } => {
                let driver = driver.as_ref().map(|driver| format!("{driver}@")).unwrap_or_default();
                let run_root = run_root.as_ref().map(|run_root| format!("+{run_root}")).unwrap_or_default();
                write!(f, "containers-storage:[{driver}{root}{run_root}]{name}")
            }
            Place::Docker { name } => write!(f, "docker-daemon:{name}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason: String, advice| ReferenceError {
            text: text.chars().filter(|c| !c.is_control()).take(200).collect(),
            reason,
            advice,
        };
        if text.len() > MAX_LENGTH {
            return Err(wrong(format!("it has more than {MAX_LENGTH} bytes"), FORMS));
        }
        if text.chars().any(char::is_control) {
            return Err(wrong("it has a control character".into(), FORMS));
        }
        let place = if let Some(rest) = text.strip_prefix("docker://") {
            named(rest)
        } else if let Some(rest) = text.strip_prefix("oci:") {
            located(rest).map(|(path, tag)| Place::Oci { path, tag })
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            located(rest).map(|(path, tag)| Place::OciArchive { path, tag })
        } else if let Some(rest) = text.strip_prefix("docker-archive:") {
            located(rest).map(|(path, name)| Place::DockerArchive { path, name })
        } else if let Some(rest) = text.strip_prefix("containers-storage:") {
            in_storage(rest)
        } else if let Some(rest) = text.strip_prefix("docker-daemon:") {
            local_name(rest).map(|name| Place::Docker { name })
        } else if text.contains("://") {
            Err(("it is a URL".into(), FORMS))
        } else {
            named(text)
        };
        place.map(Self).map_err(|(reason, advice)| wrong(reason, advice))
    }
}

type Wrong = (String, &'static str);

/// A name in a registry. Its first part has to be the registry: which one is meant by a name without is decided
/// elsewhere on each machine, and an image that somebody else has put there would be taken for the one that was meant.
fn named(text: &str) -> Result<Place, Wrong> {
    let host = text.split_once('/').map(|(host, _)| host);
    if !host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost") {
        return Err(("it names no registry".into(), FORMS));
    }
    let named: Named = text.parse().map_err(|error: oci_spec::distribution::ParseError| (error.to_string(), FORMS))?;
    if let Some(digest) = named.digest()
        && super::digest::sha256(digest).is_none()
    {
        return Err((format!("{digest} is no SHA-256 in lower case"), "name the image by its tag, or by its SHA-256"));
    }
    Ok(Place::Registry(named))
}

/// A path up to the first colon, and what follows it.
fn located(text: &str) -> Result<(PathBuf, Option<String>), Wrong> {
    let (path, rest) = match text.split_once(':') {
        Some((path, rest)) => (path, Some(rest)),
        None => (text, None),
    };
    if path.is_empty() {
        return Err(("it has no path".into(), FORMS));
    }
    if rest == Some("") {
        return Err(("it ends with a colon".into(), FORMS));
    }
    Ok((path.into(), rest.map(str::to_owned)))
}

/// `[DRIVER@ROOT+RUNROOT]NAME`, where the part in brackets may be missing.
fn in_storage(text: &str) -> Result<Place, Wrong> {
    let Some(rest) = text.strip_prefix('[') else {
        return local_name(text).map(|name| Place::Podman { store: None, name });
    };
    let (store, name) = rest.split_once(']').ok_or_else(|| ("its `[` is not closed".to_owned(), FORMS))?;
    let (driver, store) = match store.split_once('@') {
        Some((driver, store)) => (Some(driver), store),
        None => (None, store),
    };
    let (root, run_root) = match store.split_once('+') {
        Some((root, run_root)) => (root, Some(run_root)),
        None => (store, None),
    };
    let absolute = |path: &str| path.starts_with('/') && !path.contains(':');
    let is_driver = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !absolute(root) || !run_root.is_none_or(absolute) || !driver.is_none_or(is_driver) {
        let reason = "between brackets stands [DRIVER@ROOT+RUNROOT], with absolute paths and without options";
        return Err((reason.into(), FORMS));
    }
    let owned = |text: &str| text.to_owned();
    let store = PodmanStore { driver: driver.map(owned), root: root.into(), run_root: run_root.map(owned) };
    local_name(name).map(|name| Place::Podman { store: Some(store), name })
}

/// The name or the id of an image in a local store. It becomes an argument and a part of a URL.
fn local_name(text: &str) -> Result<String, Wrong> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let fits = text.bytes().all(known) && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    // A part of two dots would lead elsewhere in a URL.
    if fits && text.split('/').all(|part| !part.is_empty() && part != "..") {
        Ok(text.to_owned())
    } else {
        Err(("its name is not one of an image".into(), FORMS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_transport_is_read_and_written() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for text in [
            "docker://registry.example.org/team/image:1.0",
            &format!("docker://localhost:5000/image:1.0@{digest}"),
            "oci:./images/base",
            "oci:/images/base:trixie",
            "oci-archive:base.tar:name:with:colons",
            "docker-archive:base.tar:registry.example.org/base:latest",
            "containers-storage:localhost/base:latest",
            "containers-storage:[overlay@/srv/store+/run/store]base",
            "containers-storage:[/srv/store]base",
            "docker-daemon:base:latest",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn a_bare_name_is_one_in_a_registry() {
        assert_eq!(parsed("example.org/a").to_string(), "docker://example.org/a:latest");
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(
            parsed(&format!("127.0.0.1:5000/a/b@{digest}")).to_string(),
            format!("docker://127.0.0.1:5000/a/b@{digest}")
        );
    }

    #[test]
    fn the_origin_is_the_one_of_bootc() {
        let origin = |text: &str| parsed(text).origin();
        assert_eq!(origin("example.org/a:1").unwrap(), "ostree-unverified-registry:example.org/a:1");
        for text in ["oci:/images/a", "oci-archive:a", "docker-archive:a", "containers-storage:a", "docker-daemon:a"] {
            assert_eq!(origin(text), None, "{text}");
        }
    }

    #[test]
    fn what_concerns_this_machine_stays_here() {
        for (text, public) in [
            ("example.org/a:1", "docker://example.org/a:1"),
            ("oci:/home/me/images/a:1", "oci:a:1"),
            ("oci-archive:../a.tar", "oci-archive:a.tar"),
            ("docker-archive:/home/me/a.tar:b:1", "docker-archive:a.tar:b:1"),
            ("oci:/", "oci:"),
            ("containers-storage:[overlay@/home/me/store+/run/store]a", "containers-storage:a"),
            ("docker-daemon:a:1", "docker-daemon:a:1"),
        ] {
            assert_eq!(parsed(text).public().to_string(), public);
        }
    }

    #[test]
    fn a_path_is_taken_from_the_folder_of_the_recipe() {
        let within = |text: &str| parsed(text).within(Path::new("/recipes")).to_string();
        assert_eq!(within("oci:images/a:1"), "oci:/recipes/images/a:1");
        assert_eq!(within("oci-archive:/images/a"), "oci-archive:/images/a");
        assert_eq!(within("example.org/a:1"), "docker://example.org/a:1");
    }

    #[test]
    fn what_is_no_reference_is_refused_in_words() {
        let refused = |text: &str| text.parse::<Reference>().unwrap_err();
        for (text, reason) in [
            ("", "names no registry"),
            ("debian:trixie", "names no registry"),
            ("library/debian", "names no registry"),
            ("https://example.org/a", "is a URL"),
            ("example.org/UPPER", "invalid reference"),
            ("example.org/a@sha256:12", "invalid reference"),
            ("oci:", "no path"),
            ("oci:dir:", "ends with a colon"),
            ("docker-daemon:-v", "not one of an image"),
            ("docker-daemon:a/../../b", "not one of an image"),
            ("containers-storage:a b", "not one of an image"),
            ("containers-storage:[overlay@/a:opt=1]b", "between brackets"),
            ("containers-storage:[/a", "not closed"),
            ("example.org/a\n", "control character"),
        ] {
            let error = refused(text);
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert_eq!(error.class(), Class::Usage);
        }
        let upper = format!("example.org/a@sha256:{}", "AB".repeat(32));
        assert!(refused(&upper).to_string().contains("lower case"));
        assert!(refused(&format!("oci:{}", "a".repeat(9000))).to_string().len() < 400);
    }
}
