//! `customizations.files` and `customizations.directories`.

use super::keys::{Keys, Reader, entries, get};
use super::make;
use crate::recipe::check::names;
use crate::recipe::document::{Entry, Kind, Node};
use crate::recipe::fit::is_writable;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FILES: &str = "customizations.files";
const DIRECTORIES: &str = "customizations.directories";

const FILE_KEYS: Keys = Keys {
    taken: &["path", "data", "mode", "user", "group"],
    refused: &[("uri", "the build reads no file from elsewhere; write its content as `data`")],
};

const DIRECTORY_KEYS: Keys = Keys::only(&["path", "mode", "user", "group", "ensure_parents"]);

/// The stage that writes the files, if there are any.
pub fn files(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let list = get(customizations, "files")?;
    let mut files: Vec<Entry> = Vec::new();
    for table in reader.tables(FILES, list, &FILE_KEYS) {
        let Some((written, path)) = path(reader, FILES, table) else { continue };
        if files.iter().any(|other| other.key == path) {
            let message = format!("the file `{path}` is given a second time");
            reader.advise(&written.node.span, message, "keep one of them");
            continue;
        }
        let options = entries(table).filter_map(|entry| match entry.key.as_str() {
            "data" => Some(make::renamed(entry, "content")),
            "mode" => mode(reader, entry).map(|_| entry.clone()),
            "user" => Some(Entry { node: owner(&entry.node), ..make::renamed(entry, "owner") }),
            "group" => Some(Entry { node: owner(&entry.node), ..entry.clone() }),
            _ => None,
        });
        let mut options: Vec<_> = options.collect();
        if get(table, "data").is_none() {
            options.push(make::entry("content", &written.key_span, make::text("", &written.node.span)));
        }
        files.push(make::entry(path, &written.node.span, make::mapping(options, &table.span)));
    }
    let options = make::entry("files", &list.key_span, make::mapping(files, &list.node.span));
    (!options.node.entries().is_empty()).then(|| make::stage("files", &list.key_span, vec![options]))
}

/// The stage that makes the folders, if there are any: a script, because no stage makes an empty one.
pub fn directories(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let list = get(customizations, "directories")?;
    let files = get(customizations, "files").map(|files| files.node.items()).unwrap_or_default();
    let files: Vec<_> = files.iter().filter_map(|file| get(file, "path")?.node.text()).map(Path::new).collect();
    // Each before what lies in it.
    let mut folders = BTreeMap::new();
    for table in reader.tables(DIRECTORIES, list, &DIRECTORY_KEYS) {
        let Some((written, path)) = path(reader, DIRECTORIES, table) else { continue };
        let Some(lines) = directory(reader, table, written, path) else { continue };
        let path = Path::new(path);
        if files.iter().any(|file| path.starts_with(file)) {
            let message = format!("`{}` is a file by `{FILES}`, or lies in one", path.display());
            reader.advise(&written.node.span, message, "keep one of them");
        } else if folders.insert(path, lines).is_some() {
            let message = format!("the folder `{}` is given a second time", path.display());
            reader.advise(&written.node.span, message, "keep one of them");
        }
    }
    let script: String = folders.into_values().collect();
    let options = make::entry("script", &list.key_span, make::text(script.clone(), &list.key_span));
    (!script.is_empty()).then(|| make::stage("run", &list.key_span, vec![options]))
}

/// The lines that make one folder. What they are made of is looked at before: nobody looks at a script.
fn directory(reader: &mut Reader<'_>, table: &Node, written: &Entry, path: &str) -> Option<String> {
    let span = &written.node.span;
    if !names::absolute(path) || path.trim_end_matches('/').is_empty() {
        reader.advise(span, format!("`{path}` is not an absolute path of a folder"), "for instance `/etc/app`");
        return None;
    }
    if !is_writable(path) {
        let message = format!("`{path}` is read-only in a system that is deployed from a container image");
        reader.advise(span, message, "make it in the container image, or beneath `/etc` or `/var`");
        return None;
    }
    if ["/tmp", "/run"].iter().any(|place| Path::new(path).starts_with(place)) {
        let help = "make it at each boot, with a file in `/etc/tmpfiles.d`";
        reader.advise(span, format!("`{path}` is lost: something else is mounted there"), help);
        return None;
    }
    let parents = get(table, "ensure_parents").is_some_and(|entry| match &entry.node.kind {
        Kind::Scalar { value: Value::Bool(parents), .. } => *parents,
        _ => {
            reader.advise(&entry.node.span, "`ensure_parents` is `true` or `false`", "write it without quotes");
            false
        }
    });
    let mode = get(table, "mode").and_then(|entry| mode(reader, entry));
    let mut owners = Vec::new();
    for (key, program) in [("user", "chown"), ("group", "chgrp")] {
        let Some(entry) = get(table, key) else { continue };
        let node = owner(&entry.node);
        match node.text().filter(|name| names::owner(name)) {
            Some(name) => owners.push(format!("{program} {name}")),
            None => {
                let help = "a name of the image, or a number";
                reader.advise(&entry.node.span, format!("`{key}` does not name one"), help);
            }
        }
    }
    // It has no NUL, which is all that cannot be quoted.
    let place = shlex::try_quote(path.trim_end_matches('/')).ok()?;
    let make = if parents { "mkdir --parents" } else { "mkdir" };
    let changes = mode.map(|mode| format!("chmod {mode}")).into_iter().chain(owners);
    let changes: String = changes.map(|change| format!("{change} {place}\n")).collect();
    Some(format!("test -d {place} || {make} {place}\n{changes}"))
}

fn path<'n>(reader: &mut Reader<'_>, what: &str, table: &'n Node) -> Option<(&'n Entry, &'n str)> {
    let entry = reader.required(what, table, "path")?;
    Some((entry, reader.text("path", entry)?))
}

/// Permissions in octal digits. A number would be one in decimal digits, which nobody means.
fn mode<'n>(reader: &mut Reader<'_>, entry: &'n Entry) -> Option<&'n str> {
    let mode = entry.node.text().filter(|mode| names::mode(mode));
    if mode.is_none() {
        let help = "permissions are octal digits in quotes, like `\"0644\"` or `\"0755\"`";
        reader.advise(&entry.node.span, "this is not a file mode", help);
    }
    mode
}

/// A user or a group: a name, or a number, which recipes have as text.
fn owner(node: &Arc<Node>) -> Arc<Node> {
    match &node.kind {
        Kind::Scalar { value: Value::Number(number), .. } => make::text(number.to_string(), &node.span),
        _ => Arc::clone(node),
    }
}
