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

/// Generate and set.
pub(super) fn perform(site: &mut Site<'_>, options: &Locale) -> Result<(), Failure> {
    for name in std::iter::once(&options.language).chain(&options.generate) {
        if !Locale::is_name(name) {
            return Err(wrong(format!("`{name}` is no name of a locale; one looks like `en_US.UTF-8`")));
        }
    }
    set_default(site.tree()?, &options.language)?;
    let names = options.generated();
    if names.is_empty() { Ok(()) } else { generate(site, &names) }
}

/// Write lines for locale-gen(8) into a tree without the package, beside those that are there.
pub(super) fn prepare(site: &Site<'_>, lines: &str) -> Result<(), Failure> {
    let tree = site.tree()?;
    if !lines.is_empty() && !tree.is_file(SUPPORTED) {
        tree.write(LOCALE_GEN, add(&tree.read_text(LOCALE_GEN)?, lines.lines()), 0o644)?;
    }
    Ok(())
}

/// A list with the lines that it lacks.
fn add<'a>(list: &str, lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = list.to_owned();
    for line in lines {
        if !list.lines().any(|listed| listed.trim() == line) {
            if !list.is_empty() && !list.ends_with('\n') {
                list.push('\n');
            }
            list += &format!("{line}\n");
        }
    }
    list
}

/// Generate locales, installing what does it.
fn generate(site: &mut Site<'_>, names: &BTreeSet<&str>) -> Result<(), Failure> {
    if site.in_deployment {
        return check(site, names);
    }
    let lines: String = names.iter().filter_map(|name| Locale::guess(name)).collect();
    prepare(site, &lines)?;
    apt::install(site, &["locales"], false)?;
    write_list(site.tree()?, names)?;
    let there = there(site)?;
    if names.iter().any(|name| !there.contains(&normal(name))) {
        let command = site.command("locale-gen")?;
        site.context.run(&command)?;
    }
    Ok(())
}

/// The locales that the tree has.
fn there(site: &Site<'_>) -> Result<BTreeSet<String>, Failure> {
    let command = site.command("locale")?.arg("-a");
    Ok(site.context.capture(&command)?.lines().map(normal).collect())
}

/// Those of a deployment come with its image.
fn check(site: &Site<'_>, names: &BTreeSet<&str>) -> Result<(), Failure> {
    let there = there(site)?;
    match names.iter().find(|name| !there.contains(&normal(name))) {
        Some(name) => Err(wrong(format!(
            "the image has no locale `{name}`, and it cannot be generated: /usr is read-only; generate it in the container \
             image, or use `C.UTF-8`"
        ))),
        None => Ok(()),
    }
}

/// Put the locales into the list of locale-gen(8), beside those that are in it.
fn write_list(tree: &Tree, names: &BTreeSet<&str>) -> Result<(), Failure> {
    let supported = tree.read_text(SUPPORTED)?;
    let line = |name: &&str| {
        line(&supported, name).ok_or_else(|| {
            let known = supported.lines().filter_map(|line| line.split(' ').next());
            wrong(format!("there is no locale `{name}`{}", near::hint(name, known)))
        })
    };
    let lines: Vec<_> = names.iter().map(line).collect::<Result<_, Failure>>()?;
    let mut list = tree.read_text(LOCALE_GEN)?;
    for wrong in names.iter().filter_map(|name| Locale::guess(name)).filter(|guess| !lines.contains(&guess.trim_end()))
    {
        list = list.replace(&wrong, "");
    }
    Ok(tree.write(LOCALE_GEN, add(&list, lines), 0o644)?)
}

/// What the list of all locales has for a name. Many have no charset in their name there, because they have one only:
/// `vi_VN UTF-8`. In both forms glibc finds what is generated.
fn line<'a>(supported: &'a str, name: &str) -> Option<&'a str> {
    let find = |name: &str, charset: Option<&str>| {
        supported.lines().map(str::trim).find(|line| match line.split_once(' ') {
            Some((listed, its)) => listed == name && charset.is_none_or(|charset| charset == its),
            None => false,
        })
    };
    find(name, None).or_else(|| {
        let (region, rest) = name.split_once('.')?;
        let (charset, modifier) =
            rest.split_once('@').map_or((rest, ""), |(charset, _)| (charset, &rest[charset.len()..]));
        find(&format!("{region}{modifier}"), Some(charset))
    })
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
    fn a_locale_with_one_charset_is_listed_without_it() {
        let supported = "de_DE.UTF-8 UTF-8\nde_DE ISO-8859-1\nsr_RS@latin UTF-8\nvi_VN UTF-8\n";
        assert_eq!(line(supported, "de_DE.UTF-8"), Some("de_DE.UTF-8 UTF-8"));
        assert_eq!(line(supported, "de_DE"), Some("de_DE ISO-8859-1"));
        assert_eq!(line(supported, "vi_VN.UTF-8"), Some("vi_VN UTF-8"));
        assert_eq!(line(supported, "vi_VN"), Some("vi_VN UTF-8"));
        assert_eq!(line(supported, "sr_RS.UTF-8@latin"), Some("sr_RS@latin UTF-8"));
        assert_eq!(line(supported, "vi_VN.ISO-8859-1"), None);
    }

    #[test]
    fn what_the_list_has_stays() {
        assert_eq!(add("fr_FR.UTF-8 UTF-8", ["de_DE.UTF-8 UTF-8"]), "fr_FR.UTF-8 UTF-8\nde_DE.UTF-8 UTF-8\n");
        assert_eq!(add("a B\n", ["a B"]), "a B\n");
    }
}
