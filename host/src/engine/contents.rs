//! What the outputs are made of, beside the bytes: what a container says of itself.

use crate::output::Contents;
use crate::recipe::{Container, Recipe};
use oci_spec::image::ImageConfiguration;
use particle_vm_protocol::message::Built;
use particle_vm_protocol::{Base, Stage};

/// Labels that speak of the layers of an image that was made of an OSTree commit (ostree-rs-ext, "container/mod.rs"). What
/// is built here has one layer of its own.
const OF_LAYERS: [&str; 3] = ["ostree.commit", "ostree.diffid", "ostree.final-diffid"];

/// What outputs are made of the archives of a build that started from `base`, if it did from an image.
pub(super) fn contents(recipe: &Recipe, base: Option<&Base>, built: &Built) -> Contents {
    let mut container = recipe.output.container.clone().unwrap_or_default();
    if recipe.stages.iter().any(|stage| matches!(stage.stage, Stage::Bootc(_))) {
        // By this label bootc and its tools know what they can install.
        container.labels.entry("containers.bootc".into()).or_insert_with(|| "1".into());
        if container.command.is_empty() && container.entrypoint.is_empty() {
            container.command.push("/sbin/init".into());
        }
    }
    if let Some(base) = base {
        inherit(&mut container, &base.config);
    }
    Contents {
        archives: built.archives.clone(),
        source_date: built.source_date.unwrap_or_default(),
        commit: built.commit.clone(),
        reference: container.tag.clone().unwrap_or_else(|| format!("{}:latest", recipe.name)),
        architecture: recipe.architecture.name().into(),
        container,
        key: None,
    }
}

/// What the recipe can say of a container and does not is as in the image that it starts from, with the configuration
/// `config`: so `FROM` has it, Containerfile(5).
fn inherit(container: &mut Container, config: &str) {
    let config = ImageConfiguration::from_reader(config.as_bytes()).ok();
    let Some(config) = config.as_ref().and_then(|config| config.config().as_ref()) else { return };
    for (label, value) in config.labels().iter().flatten().filter(|(label, _)| !OF_LAYERS.contains(&label.as_str())) {
        container.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    let variables = config.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    for (name, value) in variables.filter(|(name, _)| !name.is_empty()) {
        container.environment.entry(name.into()).or_insert_with(|| value.into());
    }
    // The one is of no use without the other.
    if container.entrypoint.is_empty() && container.command.is_empty() {
        container.entrypoint = config.entrypoint().clone().unwrap_or_default();
        container.command = config.cmd().clone().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base() -> String {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": {
                "Labels": { "containers.bootc": "1", "version": "1", "ostree.final-diffid": "sha256:00", "ostree.bootable": "1" },
                "Env": ["PATH=/bin", "LANG=C.UTF-8", "broken", "=x"],
                "Cmd": ["/sbin/init"],
            },
        });
        config.to_string()
    }

    #[test]
    fn a_container_is_as_the_one_it_starts_from() {
        let mut container = Container::default();
        inherit(&mut container, &base());
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
    fn a_broken_configuration_says_nothing() {
        let mut container = Container::default();
        inherit(&mut container, "{");
        assert_eq!(container, Container::default());
    }
}
