//! The user and group databases of the tree.

use super::wrong;
use crate::tree::Tree;
use particle_vm_protocol::Failure;

/// An entry of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// User id.
    pub(super) uid: u32,
    /// Primary group id.
    pub(super) gid: u32,
    /// Home folder.
    pub(super) home: String,
}

/// The user called `name`.
pub(super) fn user(tree: &Tree, name: &str) -> Result<Option<Account>, Failure> {
    Ok(find_user(&tree.read_text("/etc/passwd")?, name))
}

/// The id of the group called `name`.
pub(super) fn group(tree: &Tree, name: &str) -> Result<Option<u32>, Failure> {
    Ok(find_group(&tree.read_text("/etc/group")?, name))
}

/// The name of the group with an id.
pub(super) fn group_with_id(tree: &Tree, id: u32) -> Result<Option<String>, Failure> {
    let text = tree.read_text("/etc/group")?;
    let id = id.to_string();
    let name = text.lines().find(|line| line.split(':').nth(2) == Some(&id)).and_then(|line| line.split(':').next());
    Ok(name.map(str::to_owned))
}

/// User and group ids of an owner that is written as names or numbers.
pub(super) fn owner(tree: &Tree, owner: &str, owning_group: &str) -> Result<(u32, u32), Failure> {
    let uid = match owner.parse() {
        Ok(uid) => uid,
        Err(_) => user(tree, owner)?.ok_or_else(|| wrong(format!("the image has no user `{owner}`")))?.uid,
    };
    let gid = match owning_group.parse() {
        Ok(gid) => gid,
        Err(_) => {
            group(tree, owning_group)?.ok_or_else(|| wrong(format!("the image has no group `{owning_group}`")))?
        }
    };
    Ok((uid, gid))
}

/// Permissions that are written in octal.
pub(super) fn mode(text: &str) -> Result<u32, Failure> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| wrong(format!("`{text}` are no permissions; write them in octal, for instance \"0644\"")))
}

fn find_user(passwd: &str, name: &str) -> Option<Account> {
    let fields: Vec<_> = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name)?;
    let [_, _, uid, gid, _, home, _] = fields[..] else { return None };
    Some(Account { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.to_owned() })
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndeb:x:1000:1001:,,,:/home/deb:/bin/sh\nbroken\n";
        assert_eq!(find_user(passwd, "deb"), Some(Account { uid: 1000, gid: 1001, home: "/home/deb".into() }));
        assert_eq!(find_user(passwd, "de"), None);
        assert_eq!(find_user(passwd, "broken"), None);
        assert_eq!(find_group("root:x:0:\nsudo:x:27:deb\n", "sudo"), Some(27));
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("0755").unwrap(), 0o755);
        assert!(mode("9").is_err() && mode("17777").is_err() && mode("").is_err());
    }
}
