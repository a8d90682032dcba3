//! Whether the package lists are those of the suites that were asked for.
//!
//! Debian's keys sign every suite there is, and apt does no more than warn when a mirror sends another one
//! (apt-pkg/acquire-item.cc, "Conflicting distribution").

use super::Site;
use crate::paths;
use crate::process::Command;
use particle_vm_protocol::{Failure, FailureKind, Stage};
use std::path::Path;

/// What is asked of each index: where its source stands, the suite there, and what the signed index says of itself.
const FORMAT: &str = "$(SOURCESENTRY)\t$(RELEASE)\t$(CODENAME)\t$(SUITE)";

/// Compare the lists in the tree that the recipe's sources without a keyring of their own have brought: what a third
/// party calls its suites is nobody's business but theirs.
pub(super) fn check(site: &Site<'_>) -> Result<(), Failure> {
    let is_debian = |name: &str| {
        site.plan.stages.iter().any(|planned| match &planned.stage {
            Stage::Debootstrap(options) => name == super::debootstrap::SOURCE && options.keyring.is_none(),
            Stage::Sources(options) => {
                options.sources.iter().any(|source| source.name == name && source.keyring.is_none())
            }
            _ => false,
        })
    };
    compare(&targets(site)?, |entry| file_stem(entry).is_some_and(is_debian))
}

/// Compare all lists in the tree.
pub(super) fn check_all(site: &Site<'_>) -> Result<(), Failure> {
    compare(&targets(site)?, |_| true)
}

/// The appliance's own apt answers: a tree need not have one.
fn targets(site: &Site<'_>) -> Result<String, Failure> {
    let command = Command::new("apt-get").arg("-o").arg(format!("Dir={}", paths::TREE));
    site.context.capture(&command.args(["indextargets", "--format", FORMAT]))
}

/// `NAME` of `/etc/apt/sources.list.d/NAME.sources:1`.
fn file_stem(entry: &str) -> Option<&str> {
    let (path, _) = entry.rsplit_once(':')?;
    Path::new(path).file_stem()?.to_str()
}

fn compare(targets: &str, is_strict: impl Fn(&str) -> bool) -> Result<(), Failure> {
    for line in targets.lines() {
        let mut fields = line.split('\t');
        // What an index does not say of itself stays as it stands in the format.
        let mut field = || fields.next().filter(|field| !field.starts_with("$(")).unwrap_or("unnamed");
        let (entry, wanted, codename, suite) = (field(), field(), field(), field());
        // `bookworm/updates` and the like; a path (`./`) is no name.
        let short = wanted.split('/').next().unwrap_or_default();
        let is_path = wanted.ends_with('/');
        if !is_path && ![codename, suite].iter().any(|found| [wanted, short].contains(found)) && is_strict(entry) {
            return Err(Failure {
                kind: FailureKind::Command,
                stage: None,
                message: format!("a mirror serves the suite `{codename}` in the place of `{wanted}`"),
                output: vec![format!("what was fetched for `{wanted}` is the index of another suite: `{codename}`")],
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "/scratch/tree/etc/apt/sources.list.d/debian.sources:1";

    #[test]
    fn a_suite_has_a_codename_and_a_role() {
        for fields in [
            "trixie\ttrixie\tstable",
            "stable\ttrixie\tstable",
            "trixie-updates\ttrixie-updates\tstable-updates",
            "buster/updates\tbuster\toldoldstable",
            "./\t$(CODENAME)\t$(SUITE)",
        ] {
            compare(&format!("{DEBIAN}\t{fields}\n"), |_| true).unwrap();
        }
    }

    #[test]
    fn another_suite_is_refused() {
        for fields in
            ["trixie\tbookworm\toldstable", "trixie\ttrixie-updates\tstable-updates", "trixie\t$(CODENAME)\t$(SUITE)"]
        {
            let failure = compare(&format!("{DEBIAN}\t{fields}\n"), |_| true).unwrap_err();
            assert!(failure.output[0].contains("is the index of another suite"), "{failure:?}");
        }
    }

    #[test]
    fn third_parties_name_their_suites_as_they_like() {
        let targets = format!("{DEBIAN}\ttrixie\ttrixie\tstable\n/etc/apt/sources.list.d/x.sources:1\tstable\tx\ty\n");
        compare(&targets, |entry| file_stem(entry) == Some("debian")).unwrap();
        compare(&targets, |entry| file_stem(entry) == Some("x")).unwrap_err();
    }
}
