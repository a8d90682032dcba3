//! Packages of later stages, installed together with those of an earlier one.
//!
//! Each run of apt reads the package lists, makes its plan and runs the triggers of what it has installed: under
//! emulation that takes longer than to install a few packages. So the first stage that installs packages in a tree also
//! takes those of the stages after it, up to the first one that could tell the difference. A later stage finds its
//! packages there and does what else it has to do. The tree itself is made of its own packages alone, so that recipes
//! that begin with the same tree have the same one.
//!
//! Scripts of packages look at what stages have set: PostgreSQL writes the time zone into its configuration, a mail
//! server the host name, and a package's user may be there already. So past the first such stage only those packages are
//! taken that stages need for themselves, which do none of that.
//!
//! It is part of the protocol because the host has to know what a stage does to know it again.

use crate::plan::Plan;
use crate::stage::{Apt, Keymap, Stage, Users};
use serde::Serialize;

/// Below it are the ids that packages get for their users and groups (Debian Policy, 9.2.2).
const FIRST_USER_ID: u32 = 1000;

/// What later stages have to be done for them beside an earlier stage's packages.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ahead {
    /// Their packages.
    pub packages: Vec<String>,
    /// What has to be in `/etc/locale.gen` before a package is configured.
    pub locales: String,
    /// What debconf has to know before, in the form of debconf-set-selections(1).
    pub selections: String,
    /// The titles of the stages that have packages here. They are only told.
    #[serde(skip)]
    pub titles: Vec<String>,
    /// How long these stages may take together, in seconds.
    #[serde(skip)]
    pub seconds: u64,
    /// Whether a stage has been passed that other stages' packages must not be.
    #[serde(skip)]
    settled: bool,
}

impl Ahead {
    /// What can be taken from the stages after the one at `index`; nothing when that one installs no packages, or also
    /// those that they recommend.
    pub fn of(plan: &Plan, index: usize) -> Self {
        let mut ahead = Self::default();
        let takes = match plan.stages.get(index).map(|planned| &planned.stage) {
            Some(Stage::Apt(options)) => !options.recommends,
            Some(Stage::Kernel(_)) => true,
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
                let lines = options.lines();
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
                self.packages.push(Keymap::PACKAGE.into());
            }
            Stage::Bootloader(options) => {
                self.selections = options.selections().into();
                self.packages.extend(options.packages().iter().map(|package| (*package).to_owned()));
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
}

/// Whether packages can be installed with others: no versions, suites or removals, and nothing recommended.
fn is_plain(options: &Apt) -> bool {
    !options.recommends && !options.upgrade && options.packages.iter().all(|package| is_name(package))
}

/// Whether it is the name of a package (Debian Policy, 5.6.1), and nothing that apt-get(8) reads more into.
pub fn is_name(package: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    package.bytes().all(allowed) && package.len() > 1 && !package.ends_with(['+', '-'])
}

/// Whether a user gets an id that a package might take.
fn claims_system_ids(users: &Users) -> bool {
    users.users.values().any(|user| [user.uid, user.gid].into_iter().flatten().any(|id| id < FIRST_USER_ID))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    const STAGES: &str = r#"[
        {"type": "debootstrap", "options": {"suite": "trixie"}},
        {"type": "apt", "options": {"packages": ["dbus"]}},
        {"type": "locale", "options": {"language": "de_DE.UTF-8"}},
        {"type": "users", "options": {"users": {"a": {"uid": UID}}}},
        {"type": "bootloader", "options": {"type": "grub", "firmware": ["uefi"]}},
        {"type": "run", "options": {"script": "true"}},
        {"type": "apt", "options": {"packages": ["less"]}}
    ]"#;

    /// The packages that a kernel stage takes of the stages in `rest`.
    fn taken(rest: &str) -> Vec<String> {
        Ahead::of(&plan(&format!(r#"[{{"type": "kernel", "options": {{}}}}, {rest}]"#)), 0).packages
    }

    #[test]
    fn packages_are_taken_up_to_what_could_tell() {
        let plan = plan(&STAGES.replace("UID", "1000"));
        let ahead = Ahead::of(&plan, 1);
        assert_eq!(ahead.packages, ["locales", "grub-efi-amd64"]);
        assert_eq!(ahead.locales, "de_DE.UTF-8 UTF-8\n");
        assert!(ahead.selections.contains("grub2/update_nvram"));
        // Recipes that begin with the same tree have the same one.
        assert_eq!(Ahead::of(&plan, 0), Ahead::default());
    }

    #[test]
    fn a_system_id_of_a_user_comes_before_packages_take_it() {
        let ahead = Ahead::of(&plan(&STAGES.replace("UID", "120")), 1);
        assert_eq!(ahead.packages, ["locales"]);
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
    fn what_is_more_than_a_name_is_left_to_its_stage() {
        assert!(is_name("libstdc++6") && is_name("systemd-sysv"));
        assert!(!is_name("less/sid") && !is_name("less=1") && !is_name("less-") && !is_name("~n^x"));
    }
}
