//! Packages of later stages, installed together with those of an earlier one.
//!
//! Each run of apt reads the package lists, makes its plan and runs the triggers of what it has installed: under
//! emulation that takes longer than to install a few packages. So a stage that installs packages also takes those of
//! the stages after it, up to the first one that could tell the difference. A later stage finds its packages there and
//! does what else it has to do.
//!
//! Scripts of packages look at what stages have set: PostgreSQL writes the time zone into its configuration, a mail
//! server the host name, and a package's user may be there already. So past the first such stage only those packages are
//! taken that stages need for themselves, which do none of that.

use super::{bootloader, debootstrap, keymap, locale};
use particle_vm_protocol::stage::{Apt, Users};
use particle_vm_protocol::{Failure, FailureKind, Plan, Stage};
use std::time::Duration;

/// Below it are the ids that packages get for their users and groups (Debian Policy, 9.2.2).
const FIRST_USER_ID: u32 = 1000;

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

/// What later stages have to be done for them beside an earlier stage's packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Their packages.
    pub(super) packages: Vec<String>,
    /// What has to be in `/etc/locale.gen` before a package is configured.
    pub(super) locales: String,
    /// What debconf has to know before, in the form of debconf-set-selections(1).
    pub(super) selections: &'static str,
    /// The titles of the stages that have packages here.
    titles: Vec<String>,
    /// How long these stages may take together, in seconds.
    seconds: u64,
    /// Whether a stage has been passed that other stages' packages must not be.
    settled: bool,
}

impl Ahead {
    /// What can be taken from the stages after the one at `index`; nothing when that one installs no packages, or also
    /// those that they recommend.
    pub(super) fn of(plan: &Plan, index: usize) -> Self {
        let mut ahead = Self::default();
        let takes = match plan.stages.get(index).map(|planned| &planned.stage) {
            Some(Stage::Debootstrap(options)) => debootstrap::has_apt(options.variant),
            Some(Stage::Apt(options)) => !options.recommends,
            _ => false,
        };
        for planned in plan.stages.iter().skip(index + 1).take_while(|_| takes) {
            let before = ahead.packages.len();
            let goes_on = ahead.take(&planned.stage);
            if ahead.packages.len() > before {
                ahead.titles.push(planned.title.clone());
                ahead.seconds = ahead.seconds.saturating_add(planned.deadline);
            }
            if !goes_on {
                break;
            }
        }
        ahead
    }

    /// Take what `stage` needs. False when the stages end with which this can be done.
    fn take(&mut self, stage: &Stage) -> bool {
        match stage {
            Stage::Apt(options) => {
                if self.settled || !is_plain(options) {
                    return false;
                }
                self.packages.extend(options.packages.iter().cloned());
            }
            Stage::Kernel(options) => self.packages.push(options.package.clone()),
            Stage::Locale(options) => {
                self.settled = true;
                let lines = locale::lines(options);
                if !lines.is_empty() {
                    self.locales += &lines;
                    self.packages.push("locales".into());
                }
            }
            Stage::Timezone(_) => {
                self.settled = true;
                self.packages.push("tzdata".into());
            }
            Stage::Keymap(_) => {
                self.settled = true;
                self.packages.push(keymap::PACKAGE.into());
            }
            Stage::Bootloader(options) => {
                self.selections = bootloader::selections(options);
                self.packages.extend(bootloader::packages(options).iter().map(|package| (*package).to_owned()));
            }
            Stage::Users(users) => {
                self.settled = true;
                return !claims_system_ids(users);
            }
            Stage::Hostname(_) | Stage::Systemd(_) => self.settled = true,
            // These have nothing to do with packages.
            Stage::OstreeInit(_)
            | Stage::OstreeConfig(_)
            | Stage::OstreePull(_)
            | Stage::OstreeRemotes(_)
            | Stage::OstreeCommit(_) => {}
            // What these change may change what any package does when it is installed.
            Stage::Debootstrap(_)
            | Stage::Sources(_)
            | Stage::Files(_)
            | Stage::Copy(_)
            | Stage::Run(_)
            | Stage::Bootc(_)
            | Stage::BootcInstall(_)
            | Stage::Bootupd(_)
            | Stage::OstreeDeploy(_) => {
                return false;
            }
        }
        true
    }

    /// `failure` of an installation with these packages, with a word of whose they are.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        if self.titles.is_empty() {
            return failure;
        }
        let message = format!("{}\nthe packages of {} were part of it", failure.message, self.titles.join(", "));
        Failure { message, ..failure }
    }
}

/// How long the stage at `index` may take: its own time, and that of the stages whose packages it takes.
pub(super) fn deadline(plan: &Plan, index: usize) -> Duration {
    let own = plan.stages.get(index).map_or(0, |planned| planned.deadline);
    Duration::from_secs(own.saturating_add(Ahead::of(plan, index).seconds))
}

/// Whether packages can be installed with others: no versions, suites or removals, and nothing recommended.
fn is_plain(options: &Apt) -> bool {
    !options.recommends && !options.upgrade && options.packages.iter().all(|package| is_name(package))
}

/// Whether it is the name of a package (Debian Policy, 5.6.1), and nothing that apt-get(8) reads more into.
pub(super) fn is_name(package: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    package.bytes().all(allowed) && package.len() > 1 && !package.ends_with(['+', '-'])
}

/// Whether a user gets an id that a package might take.
fn claims_system_ids(users: &Users) -> bool {
    users.users.values().any(|user| [user.uid, user.gid].into_iter().flatten().any(|id| id < FIRST_USER_ID))
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

    const STAGES: &str = r#"[
        {"type": "debootstrap", "options": {"suite": "trixie"}},
        {"type": "apt", "options": {"packages": ["dbus"]}},
        {"type": "locale", "options": {"language": "de_DE.UTF-8"}},
        {"type": "users", "options": {"users": {"a": {"uid": UID}}}},
        {"type": "bootloader", "options": {"type": "grub", "firmware": ["uefi"]}},
        {"type": "run", "options": {"script": "true"}},
        {"type": "apt", "options": {"packages": ["less"]}}
    ]"#;

    /// The packages that a debootstrap stage takes of the stages in `rest`.
    fn taken(rest: &str) -> Vec<String> {
        Ahead::of(&plan(&format!(r#"[{{"type": "debootstrap", "options": {{"suite": "trixie"}}}}, {rest}]"#)), 0)
            .packages
    }

    #[test]
    fn packages_are_taken_up_to_what_could_tell() {
        let ahead = Ahead::of(&plan(&STAGES.replace("UID", "1000")), 0);
        assert_eq!(ahead.packages, ["dbus", "locales", "grub-efi-amd64"]);
        assert_eq!(ahead.locales, "de_DE.UTF-8 UTF-8\n");
        assert!(ahead.selections.contains("grub2/update_nvram"));
    }

    #[test]
    fn a_system_id_of_a_user_comes_before_packages_take_it() {
        let ahead = Ahead::of(&plan(&STAGES.replace("UID", "120")), 0);
        assert_eq!(ahead.packages, ["dbus", "locales"]);
        assert_eq!(Ahead::of(&plan(&STAGES.replace("UID", "1000")), 5), Ahead::default());
    }

    #[test]
    fn packages_see_what_the_stages_before_them_have_set() {
        let kernel = r#"{"type": "kernel", "options": {"package": "linux-image-amd64"}}"#;
        let apt = r#"{"type": "apt", "options": {"packages": ["postgresql"]}}"#;
        for setting in [
            r#"{"type": "timezone", "options": {"zone": "Europe/Berlin"}}"#,
            r#"{"type": "hostname", "options": {"hostname": "a"}}"#,
            r#"{"type": "locale", "options": {"language": "C.UTF-8"}}"#,
            r#"{"type": "users", "options": {"users": {"postgres": {}}}}"#,
            r#"{"type": "systemd", "options": {"mask": ["postgresql.service"]}}"#,
        ] {
            let packages = taken(&format!("{setting}, {kernel}, {apt}, {kernel}"));
            assert!(!packages.contains(&"postgresql".to_owned()), "{setting}");
            assert_eq!(packages.last().unwrap(), "linux-image-amd64", "{setting}");
        }
        assert_eq!(taken(&format!("{kernel}, {apt}")), ["linux-image-amd64", "postgresql"]);
    }

    #[test]
    fn who_takes_packages_has_the_time_for_them() {
        let plan = plan(&STAGES.replace("UID", "1000"));
        // Of its own, and of apt, locale and bootloader.
        assert_eq!(deadline(&plan, 0).as_secs(), 4 * 60);
        assert_eq!(deadline(&plan, 5).as_secs(), 60);
        let failure = Failure { kind: FailureKind::Command, stage: None, message: "it failed".into(), output: vec![] };
        let message = Ahead::of(&plan, 0).explain(failure).message;
        assert_eq!(message, "it failed\nthe packages of 2 apt, 3 locale, 5 bootloader were part of it");
    }

    #[test]
    fn what_is_more_than_a_name_is_left_to_its_stage() {
        assert!(is_name("libstdc++6") && is_name("systemd-sysv"));
        assert!(!is_name("less/sid") && !is_name("less=1") && !is_name("less-") && !is_name("~n^x"));
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
