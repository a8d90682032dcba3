//! What the outputs are made of, beside the bytes: what a container says of itself.

use crate::output::Contents;
use crate::recipe::{Container, Recipe};
use oci_spec::image::{Config, ImageConfiguration};
use particle_vm_protocol::message::Built;
use particle_vm_protocol::{Base, Stage};

/// Labels that speak of the layers of an image that was made of an OSTree commit (ostree-rs-ext, "container/mod.rs"). What
/// is built here has one layer of its own.
const OF_LAYERS: [&str; 3] = ["ostree.commit", "ostree.diffid", "ostree.final-diffid"];

/// What outputs are made of the archives of a build that started from `base`, if it did from an image.
pub(super) fn contents(recipe: &Recipe, base: Option<&Base>, built: &Built) -> Contents {
    let mut container = recipe.output.container.clone().unwrap_or_default();
    let unnamed = container.entrypoint.is_empty() && container.command.is_empty();
    let inherited = base.map(|base| inherit(&mut container, &base.config)).unwrap_or_default();
    if recipe.stages.iter().any(|stage| matches!(stage.stage, Stage::Bootc(_))) {
        // By this label bootc and its tools know what they can install.
        container.labels.entry("containers.bootc".into()).or_insert_with(|| "1".into());
        if unnamed {
            (container.entrypoint, container.command) = (Vec::new(), vec!["/sbin/init".into()]);
        }
    }
    Contents {
        archives: built.archives.clone(),
        source_date: built.source_date.unwrap_or_default(),
        commit: built.commit.clone(),
        reference: container.tag.clone().unwrap_or_else(|| format!("{}:latest", recipe.name)),
        architecture: recipe.architecture.name().into(),
        container,
        inherited,
        key: None,
    }
}

/// What the recipe does not say of a container is as in the image that it starts from, with the configuration `config`: so
/// `FROM` has it, Containerfile(5). Gives back what that says, which is of use for what no recipe can say.
fn inherit(container: &mut Container, config: &str) -> Config {
    let image = ImageConfiguration::from_reader(config.as_bytes()).ok();
    let config = image.and_then(|image| image.config().clone()).unwrap_or_default();
    for (label, value) in config.labels().iter().flatten().filter(|(label, _)| !OF_LAYERS.contains(&label.as_str())) {
        container.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    let variables = config.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    for (name, value) in variables.filter(|(name, _)| !name.is_empty()) {
        container.environment.entry(name.into()).or_insert_with(|| value.into());
    }
    // Arguments go with the program that they are for.
    if container.entrypoint.is_empty() {
        container.entrypoint = config.entrypoint().clone().unwrap_or_default();
        if container.command.is_empty() {
            container.command = config.cmd().clone().unwrap_or_default();
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Source, parse};
    use particle_vm_protocol::{Backend, Engine};
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn base() -> String {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": {
                "Labels": { "containers.bootc": "1", "version": "1", "ostree.final-diffid": "sha256:00", "ostree.bootable": "1" },
                "Env": ["PATH=/bin", "LANG=C.UTF-8", "broken", "=x"],
                "Cmd": ["/sbin/init"],
                "User": "app",
            },
        });
        config.to_string()
    }

    #[test]
    fn a_container_is_as_the_one_it_starts_from() {
        let mut container = Container::default();
        let inherited = inherit(&mut container, &base());
        assert_eq!(inherited.user().as_deref(), Some("app"));
        let labels: Vec<_> = container.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
        assert_eq!(labels, ["containers.bootc=1", "ostree.bootable=1", "version=1"]);
        assert_eq!(container.environment.get("LANG").map(String::as_str), Some("C.UTF-8"));
        assert_eq!((container.environment.len(), container.command.as_slice()), (2, &["/sbin/init".to_owned()][..]));
    }

    #[test]
    fn what_the_recipe_says_comes_first() {
        let mut container = Container { entrypoint: vec!["/bin/sh".into()], ..Container::default() };
        container.labels.insert("version".into(), "2".into());
        container.environment.insert("LANG".into(), "de_DE.UTF-8".into());
        inherit(&mut container, &base());
        assert_eq!(
            (container.labels["version"].as_str(), container.environment["LANG"].as_str()),
            ("2", "de_DE.UTF-8")
        );
        assert_eq!((container.entrypoint.as_slice(), container.command.len()), (&["/bin/sh".to_owned()][..], 0));
    }

    #[test]
    fn arguments_are_for_the_program_of_the_base() {
        let base = base().replace("\"Cmd\"", "\"Entrypoint\":[\"/app\"],\"Cmd\"");
        let mut container = Container { command: vec!["--verbose".into()], ..Container::default() };
        inherit(&mut container, &base);
        assert_eq!((container.entrypoint[0].as_str(), container.command[0].as_str()), ("/app", "--verbose"));
    }

    #[test]
    fn a_bootable_container_starts_init() {
        let text = "name: x\nbase-image: oci:i\nengine: plain\nstages: [{ type: bootc }]\noutput: { formats: [oci] }\n";
        let recipe = parse(Source::new("r.yml", text), Path::new("."), &BTreeMap::new()).unwrap();
        let base = Base {
            engine: Engine::Plain,
            backend: Backend::Ostree,
            layers: Vec::new(),
            manifest: String::new(),
            digest: "sha256:00".into(),
            config: base().replace("/sbin/init", "bash"),
            created: 0,
            reference: "oci:i".into(),
            origin: String::new(),
        };
        let made = contents(&recipe, Some(&base), &Built::default());
        assert_eq!(made.container.command, ["/sbin/init"]);
    }

    #[test]
    fn a_broken_configuration_says_nothing() {
        let mut container = Container::default();
        inherit(&mut container, "{");
        assert_eq!(container, Container::default());
    }
}
