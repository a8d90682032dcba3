//! What a mirror on loopback passes on: what the Debian mirror has that this machine uses, or the files of a folder.

use crate::Place;
use crate::mirror::made;
use crate::place::root;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where a mirror on loopback has its files from.
#[derive(Debug)]
pub enum Upstream {
    /// A mirror of Debian, by its URL.
    Mirror(String),
    /// A folder of this machine.
    Folder(PathBuf),
}

/// Held while something is fetched: the mirrors of all tests of a program pass on the same copies.
static FETCHING: Mutex<()> = Mutex::new(());

impl Upstream {
    /// The mirror that a build without `--mirror` uses in `place`.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(place: &Place) -> Self {
        let recipe = root().join("recipes/minimal-debug-locale.yml");
        let outcome = place.start(&["plan".as_ref(), recipe.as_os_str()]).finish(Duration::from_secs(120)).exits(0);
        let plan: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let text = plan.to_string();
        let url = text.split(r#""mirror":""#).nth(1).and_then(|rest| rest.split('"').next());
        let url = url.unwrap_or_else(|| panic!("no mirror in {plan:#}")).trim_end_matches('/').to_owned();
        Self::Mirror(url)
    }

    /// A copy of the file `path` of the mirror, or the one in the folder; none if it cannot be fetched. apt fetches it,
    /// which knows this machine's proxies and credentials.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        let url = match self {
            Self::Mirror(url) => url,
            Self::Folder(folder) => return Some(folder.join(path)).filter(|file| file.is_file()),
        };
        let file = made().join("upstream").join(path);
        // Also after a test that failed meanwhile: there are only whole copies.
        let _alone = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
        if !file.exists() {
            let parts = tempfile::tempdir_in(made()).unwrap();
            let part = parts.path().join("part");
            let mut fetch = Command::new("/usr/lib/apt/apt-helper");
            fetch.args(["-o", "APT::Sandbox::User=root", "download-file"]).arg(format!("{url}/{path}")).arg(&part);
            let status = fetch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            if !status.success() {
                return None;
            }
            std::fs::create_dir_all(file.parent()?).unwrap();
            std::fs::rename(part, &file).unwrap();
        }
        Some(file)
    }
}
