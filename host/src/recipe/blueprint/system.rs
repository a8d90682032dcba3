//! What is said of the system as a whole: kernel, name, time zone, locale, services.

use super::keys::{Keys, Reader, get};
use super::make;
use crate::recipe::document::{Entry, Node};
use std::sync::Arc;

const KERNEL: Keys = Keys { taken: &["append"], refused: &[("name", "the kernel is the one of the container image")] };

const TIMEZONE: Keys = Keys {
    taken: &["timezone"],
    refused: &[("ntpservers", "write `/etc/systemd/timesyncd.conf` with `[[customizations.files]]`")],
};

const LOCALE: Keys = Keys::only(&["languages", "keyboard"]);

const SERVICES: Keys = Keys::only(&["enabled", "disabled", "masked"]);

/// `customizations.kernel`.
pub fn kernel(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let entry = get(customizations, "kernel")?;
    let append = get(reader.table("customizations.kernel", entry, &KERNEL)?, "append")?;
    let words = reader.text("append", append)?.split_whitespace();
    let words: Vec<_> = words.map(|word| make::text(word, &append.node.span)).collect();
    if words.is_empty() {
        return None;
    }
    let list = make::list(words, &append.node.span);
    Some(make::stage("kernel", &entry.key_span, vec![make::entry("cmdline", &append.key_span, list)]))
}

/// `customizations.hostname`.
pub fn hostname(_: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let entry = get(customizations, "hostname")?;
    Some(make::stage("hostname", &entry.key_span, vec![entry.clone()]))
}

/// `customizations.timezone`.
pub fn timezone(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let entry = get(customizations, "timezone")?;
    let zone = get(reader.table("customizations.timezone", entry, &TIMEZONE)?, "timezone")?;
    Some(make::stage("timezone", &entry.key_span, vec![make::renamed(zone, "zone")]))
}

/// `customizations.locale`: the first language is the one that is set.
pub fn locale(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let entry = get(customizations, "locale")?;
    let languages = get(reader.table("customizations.locale", entry, &LOCALE)?, "languages")?;
    let Some((first, others)) = languages.node.items().split_first() else {
        let help = "for instance `languages = [\"en_US.UTF-8\"]`";
        reader.advise(&languages.key_span, "`languages` is not a list of locales", help);
        return None;
    };
    let others = make::list(others.to_vec(), &languages.node.span);
    let options = [("language", Arc::clone(first)), ("generate", others)];
    let options = options.map(|(key, node)| make::entry(key, &languages.key_span, node));
    Some(make::stage("locale", &entry.key_span, options.into()))
}

/// `customizations.locale.keyboard`. Its other keys are looked at with the languages.
pub fn keymap(_: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let keyboard = get(&get(customizations, "locale")?.node, "keyboard")?;
    Some(make::stage("keymap", &keyboard.key_span, vec![make::renamed(keyboard, "layout")]))
}

/// `customizations.services`.
pub fn services(reader: &mut Reader<'_>, customizations: &Node) -> Option<Arc<Node>> {
    let entry = get(customizations, "services")?;
    let table = reader.table("customizations.services", entry, &SERVICES)?;
    let lists = [("enabled", "enable"), ("disabled", "disable"), ("masked", "mask")];
    let lists = lists.into_iter().filter_map(|(key, option)| Some(make::renamed(get(table, key)?, option)));
    let options: Vec<Entry> = lists.collect();
    // What is no list is told by whoever looks at the stage.
    let empty =
        |entry: &Entry| matches!(&entry.node.kind, crate::recipe::document::Kind::List(items) if items.is_empty());
    (!options.iter().all(empty)).then(|| make::stage("systemd", &entry.key_span, options))
}
