//! Installing packages of later stages with those of an earlier one, see [`particle_vm_protocol::ahead`].

use particle_vm_protocol::ahead::Ahead;
use particle_vm_protocol::{Failure, FailureKind, Plan};
use std::time::Duration;

/// What apt-get(8) says, in all its versions, when it cannot do what it is asked and has not begun to do it.
const REFUSALS: [&str; 6] = [
    "Unable to locate package",
    "Couldn't find any package",
    "has no installation candidate",
    "unmet dependencies",
    "Unable to satisfy dependencies",
    "Unable to correct problems",
];

/// What it says when it has begun.
const BEGUN: &str = "Sub-process ";

/// `failure` of an installation with the packages of `ahead`, with a word of whose they are.
pub(super) fn explain(ahead: &Ahead, failure: Failure) -> Failure {
    if ahead.titles.is_empty() {
        return failure;
    }
    let message = format!("{}\nthe packages of {} were part of it", failure.message, ahead.titles.join(", "));
    Failure { message, ..failure }
}

/// How long the stage at `index` may take: its own time, and that of the stages whose packages it takes.
pub(super) fn deadline(plan: &Plan, index: usize) -> Duration {
    let own = plan.stages.get(index).map_or(0, |planned| planned.deadline);
    Duration::from_secs(own.saturating_add(Ahead::of(plan, index).seconds))
}

/// Whether apt has refused an installation because of what was asked for, before it has changed anything. With fewer
/// packages it may go well.
pub(super) fn is_refusal(failure: &Failure) -> bool {
    let says = |words: &str| failure.output.iter().any(|line| line.contains(words));
    failure.kind == FailureKind::Command && REFUSALS.into_iter().any(says) && !says(BEGUN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::plan;

    #[test]
    fn who_takes_packages_has_the_time_for_them() {
        let plan = plan(
            r#"[
                {"type": "apt", "options": {"packages": ["dbus"]}},
                {"type": "locale", "options": {"language": "de_DE.UTF-8"}},
                {"type": "bootloader", "options": {"type": "grub", "firmware": ["uefi"]}},
                {"type": "run", "options": {"script": "true"}},
                {"type": "apt", "options": {"packages": ["less"]}}
            ]"#,
        );
        // Of its own, and of locale and bootloader.
        assert_eq!(deadline(&plan, 0).as_secs(), 3 * 60);
        assert_eq!(deadline(&plan, 3).as_secs(), 60);
        let failure = Failure { kind: FailureKind::Command, stage: None, message: "it failed".into(), output: vec![] };
        let message = explain(&Ahead::of(&plan, 0), failure).message;
        assert_eq!(message, "it failed\nthe packages of 2 locale, 3 bootloader were part of it");
    }

    #[test]
    fn only_what_apt_has_refused_is_tried_again() {
        let failure =
            |kind, line: &str| Failure { kind, stage: None, message: String::new(), output: vec![line.into()] };
        for line in [
            "E: Unable to locate package x",
            "E: Package 'x' has no installation candidate",
            "The following packages have unmet dependencies:",
        ] {
            assert!(is_refusal(&failure(FailureKind::Command, line)), "{line}");
            assert!(!is_refusal(&failure(FailureKind::Cancelled, line)), "{line}");
        }
        for line in [
            "E: Failed to fetch http://x",
            "E: The repository 'http://x trixie InRelease' is not signed.",
            "E: Sub-process /usr/bin/dpkg returned an error code (1)",
        ] {
            assert!(!is_refusal(&failure(FailureKind::Command, line)), "{line}");
        }
    }
}
