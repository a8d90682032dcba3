//! `customizations.user` and `customizations.group`.

use super::keys::{Keys, Reader, entries, get};
use super::make;
use crate::recipe::document::{Entry, Node};
use std::sync::Arc;

const USER: &str = "customizations.user";
const GROUP: &str = "customizations.group";

const USER_KEYS: Keys = Keys {
    taken: &["name", "description", "password", "key", "home", "shell", "groups", "uid", "gid"],
    refused: &[
        ("expiredate", "accounts of an image do not expire; run `chage` in the booted system"),
        ("force_password_reset", "run `chage --lastday 0 NAME` in the booted system"),
    ],
};

const GROUP_KEYS: Keys = Keys::only(&["name", "gid"]);

/// The stage that makes them all, if there are any.
pub fn stage(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let (users, groups) = (get(customizations, "user"), get(customizations, "group"));
    let place = users.or(groups)?.key_span.clone();
    let mut options = Vec::new();
    if let Some(groups) = groups {
        let mut tables = Vec::new();
        for table in reader.tables(GROUP, groups, &GROUP_KEYS) {
            let Some(name) = reader.required(GROUP, table, "name") else { continue };
            let own = std::iter::once(name).chain(get(table, "gid")).cloned().collect();
            tables.push(make::mapping(own, &table.span));
        }
        options.push(make::entry("groups", &groups.key_span, make::list(tables, &groups.node.span)));
    }
    if let Some(users) = users {
        let mut named: Vec<Entry> = Vec::new();
        for table in reader.tables(USER, users, &USER_KEYS) {
            let Some(entry) = user(reader, table) else { continue };
            administrator(reader, table, groups);
            if named.iter().any(|other| other.key == entry.key) {
                let message = format!("the user `{}` is given a second time", entry.key);
                reader.advise(&entry.key_span, message, "put all that is said of a user into one table");
            } else {
                named.push(entry);
            }
        }
        options.push(make::entry("users", &users.key_span, make::mapping(named, &users.node.span)));
    }
    let nothing = options.iter().all(|entry| entry.node.items().is_empty() && entry.node.entries().is_empty());
    (!nothing).then(|| make::stage("users", &place, options))
}

/// Blueprints put administrators into the group `wheel`, which has no rights in Debian and is not there: it is to be
/// made by those who mean it.
fn administrator(reader: &mut Reader<'_>, user: &Node, groups: Option<&Entry>) {
    let made = |group: &Arc<Node>| get(group, "name").is_some_and(|name| name.node.text() == Some("wheel"));
    if groups.is_some_and(|groups| groups.node.items().iter().any(made)) {
        return;
    }
    let own = get(user, "groups").map(|groups| groups.node.items()).unwrap_or_default();
    if let Some(wheel) = own.iter().find(|group| group.text() == Some("wheel")) {
        let help = "write `sudo`, or make the group with `[[customizations.group]]`";
        reader.advise(&wheel.span, "Debian has no group `wheel`; its administrators are in `sudo`", help);
    }
}

/// A user by its name.
fn user(reader: &mut Reader<'_>, table: &Node) -> Option<Entry> {
    let written = reader.required(USER, table, "name")?;
    let name = reader.text("name", written)?;
    let options = entries(table).filter_map(|entry| match entry.key.as_str() {
        "key" => {
            let key = make::list(vec![Arc::clone(&entry.node)], &entry.node.span);
            Some(make::entry("ssh_keys", &entry.key_span, key))
        }
        key if key != "name" && USER_KEYS.taken.contains(&key) => Some(entry.clone()),
        _ => None,
    });
    Some(make::entry(name, &written.node.span, make::mapping(options.collect(), &table.span)))
}
