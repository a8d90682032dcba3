//! Packages of later stages, installed together with those of an earlier one.
//!
//! Each run of apt reads the package lists, makes its plan and runs the triggers of what it has installed: under
//! emulation that takes longer than to install a few packages. So a stage that installs packages also takes those of
//! the stages after it, up to the first one that could tell the difference. A later stage finds its packages there and
//! does what else it has to do.

use super::{bootloader, locale};
use particle_vm_protocol::stage::{Apt, Users};
use particle_vm_protocol::{Failure, FailureKind, Plan, Stage};

/// Below it are the ids that packages get for their users and groups (Debian Policy, 9.2.2).
const FIRST_USER_ID: u32 = 1000;

/// What later stages have to be done for them beside an earlier stage's packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Their packages.
    pub(super) packages: Vec<String>,
    /// What has to be in `/etc/locale.gen` before a package is configured.
    pub(super) locales: String,
    /// What debconf has to know before, in the form of debconf-set-selections(1).
    pub(super) selections: &'static str,
}

impl Ahead {
    /// What can be taken from the stages after the one at `index`, which installs packages without those that they
    /// recommend.
    pub(super) fn of(plan: &Plan, index: usize) -> Self {
        let mut ahead = Self::default();
        for planned in plan.stages.iter().skip(index + 1) {
            if !ahead.take(&planned.stage) {
                break;
            }
        }
        ahead
    }

    /// Take what `stage` needs. False when the stages end with which this can be done.
    fn take(&mut self, stage: &Stage) -> bool {
        match stage {
            Stage::Apt(options) => {
                if !is_plain(options) {
                    return false;
                }
                self.packages.extend(options.packages.iter().cloned());
            }
            Stage::Kernel(options) => self.packages.push(options.package.clone()),
            Stage::Locale(options) => {
                let lines = locale::lines(options);
                if !lines.is_empty() {
                    self.locales += &lines;
                    self.packages.push("locales".into());
                }
            }
            Stage::Timezone(_) => self.packages.push("tzdata".into()),
            Stage::Bootloader(options) => {
                self.selections = bootloader::selections(options);
                self.packages.extend(bootloader::packages(options).iter().map(|package| (*package).to_owned()));
            }
            Stage::Users(users) => return !claims_system_ids(users),
            Stage::Hostname(_) | Stage::Systemd(_) => {}
            // What these change may change what packages do when they are installed.
            Stage::Debootstrap(_) | Stage::Sources(_) | Stage::Files(_) | Stage::Copy(_) | Stage::Run(_) => {
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
pub(super) fn is_name(package: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    package.bytes().all(allowed) && package.len() > 1 && !package.ends_with(['+', '-'])
}

/// Whether a user gets an id that a package might take.
fn claims_system_ids(users: &Users) -> bool {
    users.users.values().any(|user| [user.uid, user.gid].into_iter().flatten().any(|id| id < FIRST_USER_ID))
}

/// Whether a failed installation may have failed because of a package, and not because of what is around it.
pub(super) fn may_be_to_blame(failure: &Failure) -> bool {
    let of_the_network = |line: &String| line.contains("Failed to fetch") || line.contains("Unable to fetch");
    failure.kind == FailureKind::Command && !failure.output.iter().any(of_the_network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use particle_vm_protocol::PlannedStage;

    fn plan(stages: &str) -> Plan {
        let stages: Vec<Stage> = serde_json::from_str(stages).unwrap();
        let planned = |stage| PlannedStage { title: String::new(), deadline: 1, stage };
        let disk = particle_vm_protocol::Disk {
            size: 0,
            sector_size: Default::default(),
            uuid: String::new(),
            partitions: Vec::new(),
        };
        Plan {
            name: String::new(),
            architecture: "amd64".into(),
            stages: stages.into_iter().map(planned).collect(),
            disk,
            apt_conf: Vec::new(),
        }
    }

    const STAGES: &str = r#"[
        {"type": "debootstrap", "options": {"suite": "trixie"}},
        {"type": "apt", "options": {"packages": ["dbus"]}},
        {"type": "locale", "options": {"language": "de_DE.UTF-8"}},
        {"type": "users", "options": {"users": {"a": {"uid": UID}}}},
        {"type": "bootloader", "options": {"type": "grub", "firmware": ["uefi"]}},
        {"type": "run", "options": {"script": "true"}},
        {"type": "apt", "options": {"packages": ["less"]}}
    ]"#;

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
        assert_eq!(Ahead::of(&plan(&STAGES.replace("UID", "1000")), 5).packages, ["less"]);
    }

    #[test]
    fn what_is_more_than_a_name_is_left_to_its_stage() {
        assert!(is_name("libstdc++6") && is_name("systemd-sysv"));
        assert!(!is_name("less/sid") && !is_name("less=1") && !is_name("less-") && !is_name("~n^x"));
    }

    #[test]
    fn a_mirror_that_is_down_is_not_asked_twice() {
        let failure =
            |kind, line: &str| Failure { kind, stage: None, message: String::new(), output: vec![line.into()] };
        assert!(may_be_to_blame(&failure(FailureKind::Command, "E: Unable to locate package x")));
        assert!(!may_be_to_blame(&failure(FailureKind::Command, "E: Failed to fetch http://x")));
        assert!(!may_be_to_blame(&failure(FailureKind::Cancelled, "")));
    }
}
