//! The operating system in an image: what it says it is, what is installed, who may log in.

use super::keep::Content;
use super::tree::{Kind, Tree};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What os-release(5) says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OsRelease {
    /// `ID`, for instance `debian`.
    pub id: Option<String>,
    /// `VERSION_ID`; Debian's testing and unstable have none.
    pub version_id: Option<String>,
    /// `VERSION_CODENAME`.
    pub version_codename: Option<String>,
    /// `NAME`.
    pub name: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: Option<String>,
}

/// What dpkg has installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packages {
    /// Where its status file lies.
    pub status: &'static str,
    /// How many packages; null where the file is too large to be read.
    pub count: Option<u64>,
    /// The versions of those that have to do with booting and updating.
    pub versions: BTreeMap<String, String>,
}

/// Whether a user can log in with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Password {
    /// There is one.
    Set,
    /// None is asked for.
    Empty,
    /// No password fits.
    Locked,
}

/// A user that people log in as: root, and those from uid 1000 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its home folder.
    pub home: String,
    /// Its shell.
    pub shell: String,
    /// Its password.
    pub password: Password,
}

/// Most users that are listed.
const MAX_USERS: usize = 1000;

/// The numbers that adduser(8) gives to people, `UID_MIN` to `UID_MAX` of login.defs(5).
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=60_000;

impl OsRelease {
    pub(super) fn of(tree: &Tree) -> Option<Self> {
        // In this order, os-release(5).
        let text =
            ["etc/os-release", "usr/etc/os-release", "usr/lib/os-release"].iter().find_map(|path| tree.text(path))?;
        let mut values = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim();
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
            // Quoted as in a shell, and without anything that a shell would put in.
            if let Some([value]) = shlex::split(value).as_deref() {
                values.insert(key.to_owned(), value.clone());
            }
        }
        let mut take = |key: &str| values.remove(key).filter(|value| !value.is_empty());
        Some(Self {
            id: take("ID"),
            version_id: take("VERSION_ID"),
            version_codename: take("VERSION_CODENAME"),
            name: take("NAME"),
            pretty_name: take("PRETTY_NAME"),
        })
    }
}

impl Packages {
    pub(super) fn of(tree: &Tree) -> Option<Self> {
        let places = ["var/lib/dpkg/status", "usr/lib/sysimage/dpkg/status"];
        let status = places.into_iter().find(|path| tree.find(path).is_some_and(|node| node.kind == Kind::File))?;
        let content = &tree.find(status)?.content;
        Some(match content {
            Content::Packages(packages) => {
                Self { status, count: Some(packages.count), versions: packages.versions.clone() }
            }
            _ => Self { status, count: None, versions: BTreeMap::new() },
        })
    }
}

/// The users that people log in as, by number.
pub(super) fn users(tree: &Tree) -> Vec<User> {
    // What lies in /usr/lib is for nss-altfiles, which asks /etc first.
    let etc = |name: &str| tree.text(&format!("etc/{name}")).or_else(|| tree.text(&format!("usr/etc/{name}")));
    let both =
        |name: &str| [etc(name), tree.text(&format!("usr/lib/{name}"))].into_iter().flatten().collect::<String>();
    let mut passwords = BTreeMap::new();
    for line in both("shadow").lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(password)) = (fields.next(), fields.next()) {
            passwords.entry(name.to_owned()).or_insert_with(|| password_of(password));
        }
    }
    let (mut users, mut seen) = (Vec::new(), BTreeSet::new());
    for line in both("passwd").lines() {
        let fields: Vec<_> = line.split(':').collect();
        let [name, password, uid, _, _, home, shell] = fields[..] else { continue };
        let Ok(uid) = uid.parse() else { continue };
        if (uid != 0 && !PEOPLE.contains(&uid)) || users.len() == MAX_USERS || !seen.insert(name.to_owned()) {
            continue;
        }
        // shadow(5): without a line there, no password fits.
        let password = match password {
            "x" => passwords.get(name).copied().unwrap_or(Password::Locked),
            own => password_of(own),
        };
        users.push(User { name: name.into(), uid, home: home.into(), shell: shell.into(), password });
    }
    users.sort_by_key(|user| user.uid);
    users
}

/// What the field of passwd(5) or shadow(5) says; the hash itself goes nowhere.
fn password_of(field: &str) -> Password {
    match field.as_bytes().first() {
        None => Password::Empty,
        Some(b'!' | b'*') => Password::Locked,
        // What is no hash fits nothing: `x` in shadow, for instance.
        Some(_) if field.len() < 13 => Password::Locked,
        Some(_) => Password::Set,
    }
}
