//! The mirror of Debian's main archive that this host uses.

use super::{AptError, QUESTION, command};
use crate::child;
use crate::dirs::Dirs;
use crate::workspace::Workspace;
use nix::sys::resource::{Resource, setrlimit};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;
use url::Url;

/// The variable that names a mirror.
const VARIABLE: &str = "PARTICLE_VM_MIRROR";

/// What `apt-get indextargets` is asked for each index, tab-separated: the five fields of [`Index`].
const FORMAT: &str = "$(CREATED_BY)\t$(ORIGIN)\t$(LABEL)\t$(RELEASE)\t$(REPO_URI)";

/// How long a mirror may take to name its origin.
const PROBE: Duration = Duration::from_secs(30);

/// Most bytes of the index that names it. Debian's largest has 250 KiB.
const MAX_INDEX: u64 = 4 << 20;

/// One index of the host's apt sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    origin: String,
    label: String,
    release: String,
    uri: String,
}

/// The mirror that was named: `wanted` (an option), else the variable `PARTICLE_VM_MIRROR`.
///
/// # Errors
/// When what was named is no http or https URI.
pub fn named_mirror(wanted: Option<&str>) -> Result<Option<String>, AptError> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    match (wanted, variable) {
        (Some(uri), _) => checked(uri).map(Some),
        (None, Some(variable)) => checked(&variable.to_string_lossy()).map(Some),
        (None, None) => Ok(None),
    }
}

/// The URI of the mirror to use, without a slash at its end: the one that was named, else the one in the host's own apt
/// sources whose index says that it is Debian's archive.
///
/// # Errors
/// When what was named is no http or https URI, or when there is none.
pub async fn mirror(wanted: Option<&str>, dirs: &Dirs) -> Result<String, AptError> {
    match named_mirror(wanted)? {
        Some(uri) => Ok(uri),
        None => of_host(dirs).await,
    }
}

/// The URI in the form in which it is used: as the URL Standard writes it, without a slash at its end.
fn checked(uri: &str) -> Result<String, AptError> {
    let bad = |reason| AptError::BadMirror { uri: without_user(uri), reason };
    let Some(rest) = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://")) else {
        return Err(bad("it does not begin with http:// or https://"));
    };
    // It becomes a word of a line in apt's sources, where brackets and quotes mean something.
    let strange = |c: char| c.is_whitespace() || c.is_control() || "[]\"'\\<>\u{fffd}".contains(c);
    if uri.contains(strange) {
        return Err(bad("it has a character that a URI cannot have"));
    }
    // The URL Standard takes the first name for the host, however many slashes there are; apt does not.
    let url = Url::parse(uri).ok().filter(|_| !rest.starts_with('/')).ok_or_else(|| bad("it names no host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("a name or password in it would stand in the image; apt takes them from its auth.conf.d"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it goes on after the path"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The URI as it may be shown.
fn without_user(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

async fn of_host(dirs: &Dirs) -> Result<String, AptError> {
    let mut question = command("apt-get");
    question.args(["indextargets", "--format", FORMAT]);
    let text = child::run(question, QUESTION).await?;
    let known = parse(&String::from_utf8_lossy(&text));
    if let Some(uri) = known.iter().filter(|index| index.is_debian()).find_map(|index| fetchable(&index.uri)) {
        return Ok(uri);
    }
    // Container images come without the lists that would tell: ask the mirrors themselves.
    let mut question = command("apt-get");
    question.args(["update", "--print-uris"]);
    let text = child::run(question, QUESTION).await?;
    for (uri, release) in archives(&String::from_utf8_lossy(&text)) {
        if let Some(uri) = fetchable(uri)
            && known.iter().all(|index| index.uri.trim_end_matches('/') != uri)
            && asked(&uri, release, dirs).await?
        {
            return Ok(uri);
        }
    }
    Err(AptError::NoMirror)
}

/// The package indexes among the lines that were asked for.
fn parse(text: &str) -> Vec<Index> {
    let index = |line: &str| {
        let mut fields = line.split('\t').map(ToOwned::to_owned);
        if fields.next()? != "Packages" {
            return None;
        }
        Some(Index { origin: fields.next()?, label: fields.next()?, release: fields.next()?, uri: fields.next()? })
    };
    text.lines().filter_map(index).collect()
}

/// The archives whose signed index `apt-get update --print-uris` would fetch, with their release. The security archive
/// is none that a system can be made from.
fn archives(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let archive = |line| -> Option<(&str, &str)> {
        let uri = str::strip_prefix(line, "'")?.split_once('\'')?.0;
        uri.strip_suffix("/InRelease")?.split_once("/dists/")
    };
    text.lines().filter_map(archive).filter(|(_, release)| !release.ends_with("-security"))
}

impl Index {
    /// Backports and the security archive have other labels, third parties other origins.
    fn is_debian(&self) -> bool {
        self.origin == "Debian" && self.label == "Debian"
    }
}

/// A URI that the guest can use too. `mirror+file:` lists (as in Debian's cloud images) count with their first entry.
fn fetchable(uri: &str) -> Option<String> {
    if let Ok(uri) = checked(uri) {
        return Some(uri);
    }
    let list = uri.strip_prefix("mirror+file:")?.trim_end_matches('/');
    let text = std::fs::read_to_string(Path::new(list)).ok()?;
    text.lines().filter_map(|line| checked(line.split_whitespace().next()?).ok()).next()
}

/// Whether the archive says of itself that it is Debian's. Its signature is verified when it is used.
async fn asked(uri: &str, release: &str, dirs: &Dirs) -> Result<bool, AptError> {
    let folder = Workspace::new(&dirs.work()).map_err(AptError::Workspace)?;
    let file = folder.path().join("InRelease");
    let mut download = command("/usr/lib/apt/apt-helper");
    download.current_dir(folder.path());
    if nix::unistd::geteuid().is_root() {
        // Otherwise it would drop to a user that cannot write here.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    download.arg("download-file").arg(format!("{uri}/dists/{release}/InRelease")).arg(&file);
    // SAFETY: between fork and exec only setrlimit(2) is called, which is async-signal-safe.
    unsafe {
        download.pre_exec(|| setrlimit(Resource::RLIMIT_FSIZE, MAX_INDEX, MAX_INDEX).map_err(io::Error::from));
    }
    if child::run(download, PROBE).await.is_err() {
        return Ok(false);
    }
    let mut text = Vec::new();
    let read = File::open(&file).and_then(|file| file.take(MAX_INDEX).read_to_end(&mut text));
    if read.is_err() {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&text);
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let (origin, label) = (field("Origin:"), field("Label:"));
    Ok(Index { origin, label, release: release.to_owned(), uri: uri.to_owned() }.is_debian())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_an_http_uri() {
        assert_eq!(checked("http://m.example/debian/").unwrap(), "http://m.example/debian");
        assert_eq!(checked("https://m.example:8080/debian").unwrap(), "https://m.example:8080/debian");
        assert_eq!(checked("http://M.example:80//").unwrap(), "http://m.example");
        for bad in [
            "",
            "m.example/debian",
            "ftp://m.example",
            "http://",
            "http:///debian",
            "http://m/a b",
            "http://m/[x]",
            "http://m/\n",
            "http://m/\u{fffd}",
            "http://m/debian?x",
            "http://m/debian#x",
            "http://user@m/debian",
        ] {
            assert!(matches!(checked(bad), Err(AptError::BadMirror { .. })), "{bad:?}");
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        let error = checked("https://user:se@cret@m.example/debian").unwrap_err().to_string();
        assert!(error.contains("https://m.example/debian") && !error.contains("cret"), "{error}");
    }

    #[tokio::test]
    async fn an_index_without_end_is_given_up() {
        let cache = tempfile::tempdir().unwrap();
        let dirs = Dirs::at(cache.path());
        // apt-helper reads files too; a sparse one without end is a mirror without end.
        let dist = cache.path().join("dists/x");
        std::fs::create_dir_all(&dist).unwrap();
        let index = dist.join("InRelease");
        std::fs::write(&index, "Origin: Debian\nLabel: Debian\n").unwrap();
        File::options().write(true).open(&index).unwrap().set_len(MAX_INDEX + 1).unwrap();
        let uri = format!("copy:{}", cache.path().display());
        assert!(!asked(&uri, "x", &dirs).await.unwrap());
        File::options().write(true).open(&index).unwrap().set_len(30).unwrap();
        assert_eq!(asked(&uri, "x", &dirs).await.unwrap(), Path::new("/usr/lib/apt/apt-helper").exists());
    }

    #[test]
    fn third_parties_and_other_archives_of_debian_are_passed_over() {
        let text = "Packages\tDebian Backports\tDebian Backports\tbookworm-backports\thttp://m/debian/\n\
                    Packages\tExample\tDebian\tnodistro\thttps://third.example/\n\
                    Components-amd64.yml\tDebian\tDebian\tbookworm\thttp://m/other/\n\
                    Packages\tDebian\tDebian-Security\tbookworm-security\thttp://m/debian-security/\n\
                    Packages\tDebian\tDebian\tbookworm\thttp://m/debian/\n";
        let indexes = parse(text);
        assert_eq!(indexes.len(), 4);
        let found: Vec<_> = indexes.iter().filter(|index| index.is_debian()).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(fetchable(&found[0].uri).unwrap(), "http://m/debian");
    }

    #[test]
    fn without_lists_the_archives_are_those_of_the_sources() {
        let text = "'http://m/debian/dists/trixie/InRelease' m_debian_dists_trixie_InRelease 0 \n\
                    'http://m/debian-security/dists/trixie-security/InRelease' x 0 \n\
                    'http://m/debian/dists/trixie/main/binary-amd64/Packages.xz' x 0 \n";
        assert_eq!(archives(text).collect::<Vec<_>>(), [("http://m/debian", "trixie")]);
    }

    #[test]
    fn a_list_of_mirrors_counts_with_its_first_entry() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("debian.list");
        std::fs::write(&list, "file:/srv/debian\nhttps://m.example/debian/ priority:1\n").unwrap();
        let uri = format!("mirror+file:{}/", list.display());
        assert_eq!(fetchable(&uri).unwrap(), "https://m.example/debian");
        assert!(fetchable("cdrom:[Debian]").is_none());
        assert!(fetchable("file:/srv/debian").is_none());
    }
}
