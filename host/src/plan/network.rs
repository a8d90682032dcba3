//! The hosts that a build may reach.

use super::*;
use url::Url;

/// The hosts of the mirrors in `stages`, and what the recipe allows beside them.
///
/// # Errors
/// When a mirror's URL names no host; the checks of the recipe and of the host's mirror come before.
pub fn allow_list(recipe: &Recipe, stages: &[PlannedStage]) -> Result<Vec<String>, PlanError> {
    let mut allow = Vec::new();
    for (index, planned) in stages.iter().enumerate() {
        let urls = match &planned.stage {
            Stage::Debootstrap(options) => options.mirror.iter().collect(),
            Stage::OstreePull(options) => options.url.iter().collect(),
            Stage::Sources(options) => options.sources.iter().flat_map(|source| &source.uris).collect(),
            _ => Vec::new(),
        };
        for url in urls {
            let host = host(url).ok_or_else(|| {
                let finding =
                    recipe.finding(&Path::root().key("stages").index(index), format!("`{url}` names no host"));
                Findings::from(finding.help("a mirror is a URL that begins with `http://` or `https://`"))
            })?;
            allow.push(host);
        }
    }
    allow.extend(recipe.network.allow.iter().cloned());
    allow.sort_unstable();
    allow.dedup();
    Ok(allow)
}

/// `host`, or `host:port` for another port than 80 and 443.
fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.to_owned();
    Some(match url.port().filter(|port| ![80, 443].contains(port)) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn mirrors_and_what_the_recipe_allows_can_be_reached_and_nothing_else() {
        let text = "name: x
network: { allow: ['*.cdn.example.org', api.example.org, deb.example.org, 'files.example.org:8080'] }
stages:
  - { type: debootstrap, options: { suite: trixie, mirror: 'http://deb.example.org/debian' } }
  - type: sources
    options: { sources: [{ name: more, uris: ['https://more.example.org:8443/debian'], suites: [trixie] }] }
  - { type: ostree.pull, options: { url: 'https://commits.example.org/repo', refs: [a/b], unsigned: true } }
disk: { size: 4GiB }
";
        let source = crate::recipe::Source::new("r.yml", text);
        let recipe = crate::recipe::parse(source, std::path::Path::new("."), &BTreeMap::new()).unwrap();
        let planned = plan(&recipe, &HostFacts::default(), &Overrides::default()).unwrap();
        assert_eq!(
            planned.allow,
            [
                "*.cdn.example.org",
                "api.example.org",
                "commits.example.org",
                "deb.example.org",
                "files.example.org:8080",
                "more.example.org:8443"
            ]
        );
    }
}
