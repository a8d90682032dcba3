//! `locale`: generate locales and set the default one.

use super::{Site, apt, wrong};
use crate::near;
use crate::tree::Tree;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Locale;
use std::collections::BTreeSet;

/// Every locale that glibc can generate, as `name charset`; it comes with the package `locales`.
const SUPPORTED: &str = "/usr/share/i18n/SUPPORTED";

/// What locale-gen(8) generates.
const LOCALE_GEN: &str = "/etc/locale.gen";

/// The default locale: locale.conf(5), which systemd reads.
const SYSTEMD: &str = "/etc/locale.conf";

/// The default locale where Debian's PAM configuration has it.
const PAM: &str = "/etc/default/locale";

/// Locales that are part of glibc itself.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];

/// Generate and set.
pub(super) fn perform(site: &mut Site<'_>, options: &Locale) -> Result<(), Failure> {
    for name in std::iter::once(&options.language).chain(&options.generate) {
        if !is_name(name) {
            return Err(wrong(format!("`{name}` is no name of a locale; one looks like `en_US.UTF-8`")));
        }
    }
    set_default(site.tree()?, &options.language)?;
    let names = generated(options);
    if names.is_empty() { Ok(()) } else { generate(site, &names) }
}

/// The locales that have to be generated.
fn generated(options: &Locale) -> BTreeSet<&str> {
    let wanted = std::iter::once(&options.language).chain(&options.generate).map(String::as_str);
    wanted.filter(|name| !BUILT_IN.contains(name)).collect()
}

/// What [`LOCALE_GEN`] has to say when the package `locales` is installed, which then generates them at once.
pub(super) fn lines(options: &Locale) -> String {
    generated(options).into_iter().filter(|name| is_name(name)).map(guess).collect()
}

/// Write such lines into a tree without the package.
pub(super) fn prepare(site: &Site<'_>, lines: &str) -> Result<(), Failure> {
    let tree = site.tree()?;
    if !lines.is_empty() && !tree.is_file(SUPPORTED) {
        tree.write(LOCALE_GEN, lines, 0o644)?;
    }
    Ok(())
}

/// Generate locales, installing what does it.
fn generate(site: &mut Site<'_>, names: &BTreeSet<&str>) -> Result<(), Failure> {
    let lines: String = names.iter().map(|name| guess(name)).collect();
    prepare(site, &lines)?;
    apt::install(site, &["locales"], false)?;
    write_list(site.tree()?, names)?;
    let command = site.command("locale")?.arg("-a");
    let there = site.context.capture(&command)?;
    let there: BTreeSet<_> = there.lines().map(normal).collect();
    if names.iter().any(|name| !there.contains(&normal(name))) {
        let command = site.command("locale-gen")?;
        site.context.run(&command)?;
    }
    Ok(())
}

/// Put the locales into the list of locale-gen(8), beside those that are in it.
fn write_list(tree: &Tree, names: &BTreeSet<&str>) -> Result<(), Failure> {
    let supported = tree.read_text(SUPPORTED)?;
    let mut list = tree.read_text(LOCALE_GEN)?;
    for name in names {
        let Some(line) = supported.lines().map(str::trim).find(|line| line.split(' ').next() == Some(*name)) else {
            let known = supported.lines().filter_map(|line| line.split(' ').next());
            return Err(wrong(format!("there is no locale `{name}`{}", near::hint(name, known))));
        };
        if !list.lines().any(|listed| listed.trim() == line) {
            if !list.is_empty() && !list.ends_with('\n') {
                list.push('\n');
            }
            list += &format!("{line}\n");
        }
    }
    Ok(tree.write(LOCALE_GEN, list, 0o644)?)
}

/// The line of the list for a locale before the list of all is there: `en_US.UTF-8 UTF-8`.
fn guess(name: &str) -> String {
    let without_modifier = name.split('@').next().unwrap_or(name);
    let charset = without_modifier.split_once('.').map_or("ISO-8859-1", |(_, charset)| charset);
    format!("{name} {charset}\n")
}

/// The form in which `locale -a` writes it: `en_US.utf8`.
fn normal(name: &str) -> String {
    let (name, modifier) = name.split_once('@').map_or((name, None), |(name, modifier)| (name, Some(modifier)));
    let mut normal = name.to_owned();
    if let Some((language, charset)) = name.split_once('.') {
        let charset: String = charset.chars().filter(char::is_ascii_alphanumeric).collect();
        normal = format!("{language}.{}", charset.to_ascii_lowercase());
    }
    modifier.map_or(normal.clone(), |modifier| format!("{normal}@{modifier}"))
}

/// Set the default where services and where logins take it from. One of the two files is a link to the other; which
/// one, is what the release's own `update-locale` expects: Debian 13 moved it to locale.conf(5).
fn set_default(tree: &Tree, language: &str) -> Result<(), Failure> {
    let setting = format!("LANG={language}\n");
    let legacy = tree.link_target(PAM).is_none() && release(tree)?.is_some_and(|release| release < 13);
    if legacy {
        tree.write(PAM, setting, 0o644)?;
        tree.symlink("default/locale", SYSTEMD)?;
    } else {
        tree.write(SYSTEMD, setting, 0o644)?;
        tree.symlink("../locale.conf", PAM)?;
    }
    Ok(())
}

/// Debian's release in os-release(5); testing and unstable have none.
fn release(tree: &Tree) -> Result<Option<u32>, Failure> {
    let text = tree.read_text("/etc/os-release")?;
    let version = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    Ok(version.and_then(|version| version.trim_matches('"').parse().ok()))
}

/// Whether it may be a locale's name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_glibc_does() {
        assert_eq!(normal("en_US.UTF-8"), "en_US.utf8");
        assert_eq!(normal("de_DE.ISO-8859-15@euro"), "de_DE.iso885915@euro");
        assert_eq!(normal("de_DE"), "de_DE");
    }

    #[test]
    fn the_charset_is_part_of_the_name() {
        assert_eq!(guess("en_US.UTF-8"), "en_US.UTF-8 UTF-8\n");
        assert_eq!(guess("sr_RS.UTF-8@latin"), "sr_RS.UTF-8@latin UTF-8\n");
        assert_eq!(guess("en_US"), "en_US ISO-8859-1\n");
    }

    #[test]
    fn what_is_no_name_is_told() {
        assert!(is_name("ca_ES.UTF-8@valencia") && !is_name("en US") && !is_name("") && !is_name("../x"));
    }
}
