//! Why a stage would run: what of all that it follows from has changed since the last build of the recipe.

use super::Stages;
use crate::dirs::Dirs;
use crate::facts;
use crate::vm::proxy::public_url;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use url::Url;

/// Most changes that are told of a stage.
const MOST: usize = 8;

/// What would become of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What people call it.
    pub title: String,
    /// Whether it would run.
    pub runs: bool,
    /// Why it would: phrases that go on after "because".
    pub because: Vec<String>,
}

/// The places of all values in something, with their digests.
type Trace = BTreeMap<String, String>;

impl Stages {
    /// Write down what the stages follow from, for [`Self::explain`] when one of them is changed. Digests alone: passwords are
    /// among it.
    ///
    /// # Errors
    /// When the cache cannot be written to.
    pub fn remember(&self, name: &str, dirs: &Dirs) -> io::Result<()> {
        facts::keep(&path(name, dirs), &self.traces())
    }

    fn traces(&self) -> Vec<Trace> {
        self.ingredients.iter().map(trace).collect()
    }

    /// What would become of each of the stages called `titles` in a build of the recipe `name`, of which the first `reused`
    /// would not run.
    pub fn explain(&self, name: &str, titles: &[String], reused: usize, dirs: &Dirs) -> Vec<Explained> {
        let last = std::fs::read(path(name, dirs)).ok();
        let last: Option<Vec<Trace>> = last.and_then(|text| serde_json::from_slice(&text).ok());
        let why = |index: usize| match index {
            index if index < reused => Vec::new(),
            index if index >= self.len() => vec!["nobody can tell before it runs what it makes".into()],
            index if index > reused => vec!["a stage before it does".into()],
            _ => self.why(index, last.as_deref()),
        };
        let explained = |(index, title): (usize, &String)| {
            let (title, because) = (title.clone(), why(index));
            Explained { title, runs: index >= reused, because }
        };
        titles.iter().enumerate().map(explained).collect()
    }

    /// Why the first of the stages runs that do.
    fn why(&self, index: usize, last: Option<&[Trace]>) -> Vec<String> {
        let Some(last) = last else { return vec!["no build of this recipe is remembered".into()] };
        let now = self.traces();
        // What all stages follow from comes first.
        let mut changed = BTreeSet::new();
        for place in [0, index + 1] {
            match (last.get(place), now.get(place)) {
                (Some(last), Some(now)) => changed.extend(changes(last, now)),
                _ => drop(changed.insert("the last build had no such stage".to_owned())),
            }
        }
        match changed.len() {
            0 => vec!["what it made is not kept any more".into()],
            count => {
                let more = count.checked_sub(MOST).filter(|more| *more > 0).map(|more| format!("{more} more"));
                changed.into_iter().take(MOST).chain(more).collect()
            }
        }
    }
}

fn path(name: &str, dirs: &Dirs) -> PathBuf {
    dirs.recipes().join(format!("{name}.json"))
}

fn trace(value: &Value) -> Trace {
    let mut trace = Trace::new();
    enter(value, &mut Vec::new(), &mut trace);
    trace
}

fn enter(value: &Value, place: &mut Vec<String>, trace: &mut Trace) {
    let mut inside = |name: String, value: &Value| {
        place.push(name);
        enter(value, place, trace);
        place.pop();
    };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(name, value)| inside(name.clone(), value)),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(number, value)| inside((number + 1).to_string(), value));
        }
        leaf => {
            let digest = hex::encode(&Sha256::digest(leaf.to_string())[..8]);
            // A character that no name has between two names.
            trace.insert(place.join("\n"), digest);
        }
    }
}

/// What differs, in words.
fn changes(before: &Trace, after: &Trace) -> BTreeSet<String> {
    let places = before.keys().chain(after.keys());
    places.filter(|place| before.get(*place) != after.get(*place)).map(|place| words(place)).collect()
}

fn words(place: &str) -> String {
    let names: Vec<&str> = place.split('\n').collect();
    match names[..] {
        ["stage", "options", ref option @ ..] => format!("`{}` is another", option.join(".")),
        ["stage", ..] => "it is another stage".into(),
        ["files", _, file, ..] => format!("the file {file} is another"),
        ["indexes", url, ..] => {
            let url = Url::parse(url).map(|url| public_url(&url)).unwrap_or_default();
            format!("the archive has something else: {url}")
        }
        ["ahead", ..] => "it installs other packages for later stages".into(),
        ["surroundings", ..] => "the name, the disk, or the arguments of the kernel are others".into(),
        ["allow", ..] => "the build may reach other hosts".into(),
        ["appliance", ..] => "the appliance is another".into(),
        ["agent" | "version", ..] => "this is another version of particle-vm".into(),
        ["base", ..] => "the container image is another".into(),
        ["scratch_bytes", ..] => "the scratch disk has another size".into(),
        ["apt_conf", ..] => "apt of this machine has another configuration".into(),
        _ => names.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_changed_is_told_in_words() {
        let before = json!({
            "stage": { "type": "apt", "options": { "packages": ["less", "vim"], "upgrade": false } },
            "files": { "site": { "site/page.html": { "mode": 33188, "content": { "sha256": "1" } } } },
            "indexes": { "http://me:secret@a.example/InRelease": "1" },
        });
        let mut after = before.clone();
        assert!(changes(&trace(&before), &trace(&after)).is_empty());
        after["stage"]["options"]["packages"] = json!(["less", "nano", "joe"]);
        after["files"]["site"]["site/page.html"]["content"]["sha256"] = json!("2");
        after["indexes"]["http://me:secret@a.example/InRelease"] = json!("2");
        let told: Vec<_> = changes(&trace(&before), &trace(&after)).into_iter().collect();
        assert_eq!(
            told,
            [
                "`packages.2` is another",
                "`packages.3` is another",
                "the archive has something else: http://a.example/InRelease",
                "the file site/page.html is another",
            ]
        );
        assert!(!format!("{:?}", trace(&after)).contains("nano"));
    }
}
