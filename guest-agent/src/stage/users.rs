//! `users`: create groups, and create or change users.

use super::{Site, accounts, wrong};
use crate::tree::{Attributes, Tree};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{Group, User, Users};
use std::io::Write;
use std::path::Path;

/// The shell of a new user that names none.
const SHELL: &str = "/bin/bash";

/// Create the groups, and create or change each user.
pub(super) fn perform(site: &mut Site<'_>, options: &Users) -> Result<(), Failure> {
    options.groups.iter().try_for_each(|group| make_group(site, group))?;
    options.users.iter().try_for_each(|(name, user)| {
        site.context.output(format!("user {name}"));
        make_groups(site, user)?;
        if accounts::user(site.tree()?, name)?.is_some() {
            change(site, name, user)
        } else {
            create(site, name, user)
        }?;
        if let Some(password) = &user.password {
            set_password(site, name, password)?;
        }
        if user.ssh_keys.is_empty() { Ok(()) } else { authorise(site, name, &user.ssh_keys) }
    })
}

/// Make a group, unless it is there.
fn make_group(site: &Site<'_>, group: &Group) -> Result<(), Failure> {
    let tree = site.tree()?;
    let holder = group.gid.map(|gid| accounts::group_with_id(tree, gid)).transpose()?.flatten();
    match new_group(group, accounts::group(tree, &group.name)?, holder.as_deref())? {
        Some(arguments) => {
            site.context.output(format!("group {}", group.name));
            site.context.run(&site.command("groupadd")?.args(arguments))
        }
        None => Ok(()),
    }
}

/// The arguments of groupadd(8) for a group; none when it is there. `there` is the id that the image's group of this name
/// has, and `holder` the image's group with this id.
fn new_group(group: &Group, there: Option<u32>, holder: Option<&str>) -> Result<Option<Vec<String>>, Failure> {
    let name = &group.name;
    match (there, group.gid, holder) {
        // Its files would stay those of the old id.
        (Some(there), Some(gid), _) if there != gid => {
            Err(wrong(format!("the image has a group `{name}` with the gid {there}, and the recipe wants {gid}")))
        }
        (Some(_), _, _) => Ok(None),
        (None, Some(gid), Some(holder)) => {
            Err(wrong(format!("the group `{name}` cannot have the gid {gid}: it is that of the image's `{holder}`")))
        }
        (None, gid, _) => {
            let id = gid.map(|gid| ["--gid".to_owned(), gid.to_string()]).into_iter().flatten();
            Ok(Some(id.chain(["--".to_owned(), name.clone()]).collect()))
        }
    }
}

/// Make the supplementary groups that are missing.
fn make_groups(site: &Site<'_>, user: &User) -> Result<(), Failure> {
    for group in &user.groups {
        if accounts::group(site.tree()?, group)?.is_none() {
            site.context.run(&site.command("groupadd")?.args(["--system", "--", group]))?;
        }
    }
    Ok(())
}

/// Make a user, with a home folder.
fn create(site: &Site<'_>, name: &str, user: &User) -> Result<(), Failure> {
    let tree = site.tree()?;
    let shell = user.shell.as_deref().unwrap_or(SHELL);
    check_shell(tree, name, shell)?;
    let mut command = site.command("useradd")?.args(["--create-home", "--shell", shell]);
    command = match user.gid {
        Some(gid) => {
            if accounts::group_with_id(tree, gid)?.is_none() {
                site.context.run(&site.command("groupadd")?.args(["--gid", &gid.to_string(), "--", name]))?;
            }
            command.args(["--gid", &gid.to_string()])
        }
        // A group of that name may be there already.
        None if accounts::group(tree, name)?.is_some() => command.args(["--gid", name]),
        None => command.arg("--user-group"),
    };
    if !user.groups.is_empty() {
        command = command.args(["--groups", &user.groups.join(",")]);
    }
    if let Some(home) = &user.home {
        command = command.args(["--home-dir", home]);
    }
    site.context.run(&command.args(common(user)).args(["--", name]))?;
    // A home that was there before is left to whoever had it. One that was made for a file of the recipe's was meant for
    // the user.
    if let Some(account) = accounts::user(tree, name)?
        && site
            .left
            .own
            .iter()
            .any(|path| Path::new(path).parent().is_some_and(|folder| folder.starts_with(&account.home)))
        && account.home != "/"
    {
        tree.give(&account.home, account.uid, account.gid)?;
    }
    Ok(())
}

/// Change a user that is there: what is said of it, and nothing else.
fn change(site: &Site<'_>, name: &str, user: &User) -> Result<(), Failure> {
    let mut options = common(user);
    if let Some(shell) = &user.shell {
        check_shell(site.tree()?, name, shell)?;
        options.extend(["--shell".to_owned(), shell.clone()]);
    }
    if let Some(gid) = user.gid {
        options.extend(["--gid".to_owned(), gid.to_string()]);
    }
    if !user.groups.is_empty() {
        options.extend(["--append".to_owned(), "--groups".to_owned(), user.groups.join(",")]);
    }
    if let Some(home) = &user.home {
        options.extend(["--move-home".to_owned(), "--home".to_owned(), home.clone()]);
    }
    if options.is_empty() {
        return Ok(());
    }
    site.context.run(&site.command("usermod")?.args(options).args(["--", name]))?;
    // It moves a home, and makes none where there was none to move.
    if user.home.is_some()
        && let Some(account) = accounts::user(site.tree()?, name)?
    {
        site.tree()?.make_folder(&account.home, Attributes { mode: 0o700, uid: account.uid, gid: account.gid })?;
    }
    Ok(())
}

/// The options that useradd(8) and usermod(8) have in common.
fn common(user: &User) -> Vec<String> {
    let uid = user.uid.map(|uid| ["--uid".to_owned(), uid.to_string()]);
    let comment = user.description.clone().map(|comment| ["--comment".to_owned(), comment]);
    uid.into_iter().chain(comment).flatten().collect()
}

fn check_shell(tree: &Tree, name: &str, shell: &str) -> Result<(), Failure> {
    if tree.is_file(shell) {
        return Ok(());
    }
    Err(wrong(format!("the shell `{shell}` of the user `{name}` is not in the image")))
}

/// Set a password. It goes through a pipe, never through a command line, which everyone can read.
fn set_password(site: &Site<'_>, name: &str, password: &str) -> Result<(), Failure> {
    if password.contains(['\n', '\0']) {
        return Err(wrong(format!("the password of `{name}` has a line break in it")));
    }
    let mut command = site.command("chpasswd")?;
    // crypt(5): the prefix of every hash.
    if password.starts_with('$') {
        command = command.arg("--encrypted");
    }
    site.context.run(&command.input(format!("{name}:{password}\n")))
}

/// Add public keys to those that a user may log in with.
fn authorise(site: &Site<'_>, name: &str, keys: &[String]) -> Result<(), Failure> {
    let tree = site.tree()?;
    let account = accounts::user(tree, name)?.ok_or_else(|| wrong(format!("the user `{name}` is not there")))?;
    let folder = format!("{}/.ssh", account.home.trim_end_matches('/'));
    let path = format!("{folder}/authorized_keys");
    let before = tree.read_text(&path)?;
    let own = |mode| Attributes { mode, uid: account.uid, gid: account.gid };
    tree.make_folder(&folder, own(0o700))?;
    // One that was there may be root's, which keeps the ssh server from reading it as the user.
    tree.give(&folder, account.uid, account.gid)?;
    let mut file = tree.create(&path, own(0o600))?;
    file.write_all(merge(&before, keys).as_bytes()).map_err(|error| wrong(format!("cannot write `{path}`: {error}")))
}

/// The keys that are there and those that are new, one on each line.
fn merge(before: &str, keys: &[String]) -> String {
    let mut lines: Vec<_> = before.lines().collect();
    for key in keys.iter().flat_map(|key| key.lines()).map(str::trim).filter(|key| !key.is_empty()) {
        if !lines.contains(&key) {
            lines.push(key);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once() {
        let keys = ["ssh-ed25519 AAAA a\n".to_owned(), "ssh-ed25519 BBBB b".to_owned()];
        assert_eq!(merge("ssh-ed25519 BBBB b\n", &keys), "ssh-ed25519 BBBB b\nssh-ed25519 AAAA a\n");
    }

    #[test]
    fn a_group_is_made_once_and_keeps_its_id() {
        let group = |gid| Group { name: "data".into(), gid };
        let made = |arguments: &[&str]| Some(arguments.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(new_group(&group(None), None, None).unwrap(), made(&["--", "data"]));
        assert_eq!(new_group(&group(Some(7)), None, None).unwrap(), made(&["--gid", "7", "--", "data"]));
        assert_eq!(new_group(&group(None), Some(5), None).unwrap(), None);
        assert_eq!(new_group(&group(Some(7)), Some(7), Some("data")).unwrap(), None);
        assert!(new_group(&group(Some(7)), Some(5), None).unwrap_err().message.contains("with the gid 5"));
        assert!(new_group(&group(Some(7)), None, Some("tape")).unwrap_err().message.contains("the image's `tape`"));
    }

    #[test]
    fn only_what_is_said_becomes_an_option() {
        assert!(common(&User::default()).is_empty());
        let user = User { uid: Some(7), description: Some("A B".into()), ..User::default() };
        assert_eq!(common(&user), ["--uid", "7", "--comment", "A B"]);
    }
}
