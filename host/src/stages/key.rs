//! The key of a stage: a digest of everything that what it makes follows from.

use super::files::{Entry, Files};
use super::indexes;
use crate::plan::Planned;
use crate::recipe::Recipe;
use particle_vm_protocol::ahead::Ahead;
use particle_vm_protocol::{BUILD_ID, Engine, Plan, Stage};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// It grows when the same keys would stand for something else.
const VERSION: u32 = 1;

/// The key of a stage; also of what comes before the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Key {
    pub(super) fn of(ingredients: &impl Serialize) -> Self {
        // Strings, numbers, lists and maps in the order of their keys: nothing that could not be written.
        let text = serde_json::to_vec(ingredients).unwrap_or_default();
        Self(hex::encode(Sha256::digest(text)))
    }
}

/// What all stages follow from.
#[derive(Debug, Serialize)]
pub(super) struct Start<'a> {
    version: u32,
    /// Digest of the agent that runs the stages.
    agent: &'static str,
    /// Digest of what they run in.
    appliance: &'a str,
    architecture: &'a str,
    apt_conf: &'a [String],
    /// Digest of the container image that the tree is made of.
    base: Option<&'a str>,
    /// Size of the disk that they work on.
    scratch_bytes: u64,
    /// The hosts that they may reach.
    allow: &'a [String],
}

impl<'a> Start<'a> {
    pub(super) fn new(planned: &'a Planned, appliance: &'a str) -> Self {
        let plan = &planned.plan;
        Self {
            version: VERSION,
            agent: BUILD_ID,
            appliance,
            architecture: &plan.architecture,
            apt_conf: &plan.apt_conf,
            base: plan.base.as_ref().map(|base| base.digest.as_str()),
            scratch_bytes: planned.needs.scratch_bytes,
            allow: &planned.allow,
        }
    }
}

/// What one stage follows from.
#[derive(Serialize)]
struct Ingredients<'a> {
    stage: &'a Stage,
    /// What it does for later ones.
    ahead: Ahead,
    files: BTreeMap<&'a str, &'a BTreeMap<String, Entry>>,
    indexes: BTreeMap<&'a str, &'a str>,
    surroundings: Value,
}

/// How many of the first stages follow from what can be known before they run.
pub(super) fn knowable(recipe: &Recipe, plan: &Plan) -> usize {
    match plan.base.as_ref().map(|base| base.engine) {
        // The stages of a deployment work on its disk.
        Some(Engine::NativeOstree | Engine::Bootc) => return 0,
        Some(Engine::Plain) | None => {}
    }
    let stages = recipe.stages.iter().zip(&plan.stages);
    stages.take_while(|(written, planned)| written.cache && is_knowable(&planned.stage, plan)).count()
}

fn is_knowable(stage: &Stage, plan: &Plan) -> bool {
    match stage {
        // What is there when it runs, and nobody can tell before.
        Stage::OstreePull(_) => false,
        // They are ways to a deployment.
        Stage::OstreeDeploy(_) | Stage::BootcInstall(_) => false,
        // From the sources of the image, which only the guest can read.
        Stage::Apt(_)
        | Stage::Kernel(_)
        | Stage::Locale(_)
        | Stage::Keymap(_)
        | Stage::Timezone(_)
        | Stage::Bootloader(_)
        | Stage::Bootupd(_) => plan.base.is_none(),
        _ => true,
    }
}

/// The keys of the first `count` stages of `plan`, with what they follow from beside the key before them, as far as the indexes of their packages are known.
pub(super) fn keys(
    start: &Start<'_>,
    plan: &Plan,
    count: usize,
    files: &Files,
    digests: &BTreeMap<String, String>,
) -> Vec<(Key, Value)> {
    let mut keys: Vec<(Key, Value)> = Vec::new();
    let mut before = Key::of(start);
    for (index, planned) in plan.stages.iter().enumerate().take(count) {
        let stage = &planned.stage;
        let urls = indexes::of(stage);
        let indexes: BTreeMap<_, _> =
            urls.iter().filter_map(|url| Some((url.as_str(), digests.get(url)?.as_str()))).collect();
        if indexes.len() < urls.len() {
            break;
        }
        let ingredients = written(&Ingredients {
            stage,
            ahead: Ahead::of(plan, index),
            files: files.of(stage),
            indexes,
            surroundings: surroundings(plan, stage),
        });
        before = Key::of(&(&before.0, &ingredients));
        keys.push((before.clone(), ingredients));
    }
    keys
}

/// What something follows from, as JSON.
pub(super) fn written(ingredients: &impl Serialize) -> Value {
    // Strings, numbers, lists and maps with names: nothing that could not be written.
    serde_json::to_value(ingredients).unwrap_or_default()
}

/// What a stage looks at beside its options: settings of boot loaders name the disk and the arguments of the kernel.
fn surroundings(plan: &Plan, stage: &Stage) -> Value {
    match stage {
        Stage::Bootloader(_) | Stage::Bootc(_) | Stage::Bootupd(_) => {
            let kernels = plan.stages.iter().filter(|planned| matches!(planned.stage, Stage::Kernel(_)));
            let kernels: Vec<_> = kernels.map(|planned| &planned.stage).collect();
            json!([plan.name, plan.disk, plan.bootloader, plan.root_argument, kernels])
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HostFacts, Overrides, plan};
    use crate::recipe::{Source, parse};

    const RECIPE: &str = "name: x
stages:
  - { type: debootstrap, options: { suite: trixie } }
  - { type: apt, options: { packages: [dbus] } }
  - { type: kernel, options: { cmdline: [quiet] } }
  - { type: bootloader, options: { type: grub } }
  - { type: copy, options: { source: motd, destination: /etc/ } }
  - { type: hostname, options: { hostname: a } }
disk: { size: 4GiB }
";

    struct Known {
        appliance: &'static str,
        index: &'static str,
        motd: &'static str,
    }

    const KNOWN: Known = Known { appliance: "1", index: "2", motd: "hello" };

    async fn keys_of(text: &str, known: &Known) -> Vec<Key> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("motd"), known.motd).unwrap();
        let recipe = parse(Source::new("r.yml", text), folder.path(), &BTreeMap::new()).unwrap();
        let mirror = Some("http://deb.example.org/debian".into());
        let planned = plan(&recipe, &HostFacts { mirror, ..HostFacts::default() }, &Overrides::default()).unwrap();
        let files = super::super::files::Reading::start(&recipe).finish().await.unwrap();
        let count = knowable(&recipe, &planned.plan);
        let urls = planned.plan.stages.iter().flat_map(|planned| indexes::of(&planned.stage));
        let digests = urls.map(|url| (url, known.index.to_owned())).collect();
        let start = Start::new(&planned, known.appliance);
        keys(&start, &planned.plan, count, &files, &digests).into_iter().map(|(key, _)| key).collect()
    }

    /// How many of the first stages are the same after `change`.
    async fn same(from: &str, to: &str) -> usize {
        assert!(RECIPE.contains(from), "{from}");
        let before = keys_of(RECIPE, &KNOWN).await;
        let after = keys_of(&RECIPE.replace(from, to), &KNOWN).await;
        before.iter().zip(&after).take_while(|(before, after)| before == after).count()
    }

    #[tokio::test]
    async fn a_key_changes_with_what_its_stage_follows_from() {
        assert_eq!(keys_of(RECIPE, &KNOWN).await.len(), 6);
        assert_eq!(keys_of(RECIPE, &KNOWN).await, keys_of(RECIPE, &KNOWN).await);
        for (from, to, first) in [
            ("suite: trixie", "suite: bookworm", 0),
            ("\nstages:", "\nnetwork: { allow: [x.example] }\nstages:", 0),
            ("packages: [dbus]", "packages: [dbus, less]", 1),
            // Its package is installed with those before it.
            ("type: grub", "type: systemd-boot", 1),
            // Its arguments are written with the settings of the boot loader.
            ("cmdline: [quiet]", "cmdline: [debug]", 2),
            ("size: 4GiB", "size: 4GiB, filesystem: xfs", 3),
            ("destination: /etc/", "destination: /srv/", 4),
            ("hostname: a", "hostname: b", 5),
            // Nothing that a stage sees.
            ("\ndisk:", "\ndescription: another\ndisk:", 6),
        ] {
            assert_eq!(same(from, to).await, first, "{from}");
        }
        let before = keys_of(RECIPE, &KNOWN).await;
        for (known, first) in [
            (Known { appliance: "9", ..KNOWN }, 0),
            (Known { index: "9", ..KNOWN }, 0),
            (Known { motd: "hullo", ..KNOWN }, 4),
        ] {
            let after = keys_of(RECIPE, &known).await;
            assert_eq!(before.iter().zip(&after).take_while(|(before, after)| before == after).count(), first);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_known_ends_the_keys() {
        let one = RECIPE.replace("{ type: hostname,", "{ type: hostname, cache: false,");
        assert_eq!(keys_of(&one, &KNOWN).await.len(), 5);
        let pull = "{ type: ostree.pull, options: { url: 'http://x.example/', refs: [r], unsigned: true } }";
        let two = RECIPE.replace("  - { type: kernel", &format!("  - {pull}\n  - {{ type: kernel"));
        assert_eq!(keys_of(&two, &KNOWN).await.len(), 2);
    }
}
