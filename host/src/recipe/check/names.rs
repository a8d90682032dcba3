//! The forms that names have.

/// Whether `text` begins with one of `first` and goes on with `rest`, and has at most `most` characters.
fn spelled(text: &str, most: usize, first: fn(char) -> bool, rest: fn(char) -> bool) -> bool {
    let mut characters = text.chars();
    text.len() <= most && characters.next().is_some_and(first) && characters.all(rest)
}

fn small(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Name of an image: part of file names, and safe in URLs and on a command line.
pub fn image(name: &str) -> bool {
    spelled(name, 63, small, |c| small(c) || matches!(c, '.' | '_' | '-'))
}

/// Name of a binary package, Debian Policy 5.6.1.
pub fn package(name: &str) -> bool {
    name.len() >= 2 && spelled(name, 128, small, |c| small(c) || matches!(c, '+' | '-' | '.'))
}

/// A package as apt-get(8) takes it: `name`, `name:architecture`, `name=version`, `name/suite`, `name-`.
pub fn package_request(request: &str) -> bool {
    let (name, version) = match request.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (request, None),
    };
    let (name, target) = match name.split_once('/') {
        Some((name, target)) => (name, Some(target)),
        None => (name, None),
    };
    let name = if version.is_none() && target.is_none() { name.strip_suffix('-').unwrap_or(name) } else { name };
    let (name, architecture) = name.split_once(':').map_or((name, None), |(name, own)| (name, Some(own)));
    package(name)
        && architecture.is_none_or(|own| spelled(own, 32, small, |c| small(c) || c == '-'))
        && version.is_none_or(self::version)
        && target.is_none_or(suite)
}

/// A version, deb-version(7).
fn version(version: &str) -> bool {
    spelled(
        version,
        128,
        |c| c.is_ascii_digit(),
        |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | ':' | '~'),
    )
}

/// A suite of an archive: `trixie`, `stable/updates`, or the path of a flat archive, `./`.
pub fn suite(suite: &str) -> bool {
    spelled(
        suite,
        128,
        |c| small(c) || c == '.',
        |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '+' | '-'),
    ) && !suite.split('/').any(|part| part == "..")
}

/// A component of an archive: `main`, `non-free-firmware`.
pub fn component(component: &str) -> bool {
    spelled(component, 64, small, |c| small(c) || matches!(c, '.' | '_' | '/' | '-'))
}

/// Name of a file in `sources.list.d` without its ending; apt ignores others (sources.list(5)).
pub fn source(name: &str) -> bool {
    spelled(name, 64, |c| c.is_ascii_alphanumeric(), |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The character sets of Debian's locales (`SUPPORTED` of glibc).
const CHARSETS: [&str; 32] = [
    "UTF-8",
    "ARMSCII-8",
    "BIG5",
    "BIG5-HKSCS",
    "CP1251",
    "CP1255",
    "EUC-JP",
    "EUC-KR",
    "EUC-TW",
    "GB18030",
    "GB2312",
    "GBK",
    "GEORGIAN-PS",
    "ISO-8859-1",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-5",
    "ISO-8859-6",
    "ISO-8859-7",
    "ISO-8859-8",
    "ISO-8859-9",
    "ISO-8859-10",
    "ISO-8859-13",
    "ISO-8859-14",
    "ISO-8859-15",
    "KOI8-R",
    "KOI8-T",
    "KOI8-U",
    "PT154",
    "RK1048",
    "TCVN5712-1",
    "TIS-620",
];

/// A locale with its character set, locale.gen(5): `de_DE.UTF-8`, `ca_ES.UTF-8@valencia`; `C` and `POSIX` have none.
pub fn locale(locale: &str) -> bool {
    if matches!(locale, "C" | "POSIX" | "C.UTF-8") {
        return true;
    }
    let (locale, modifier) = locale.split_once('@').map_or((locale, None), |(locale, own)| (locale, Some(own)));
    let Some((region, charset)) = locale.split_once('.') else { return false };
    let (language, territory) = region.split_once('_').map_or((region, None), |(own, rest)| (own, Some(rest)));
    (2..=3).contains(&language.len())
        && language.chars().all(|c| c.is_ascii_lowercase())
        && territory.is_none_or(|own| own.len() == 2 && own.chars().all(|c| c.is_ascii_uppercase()))
        && CHARSETS.contains(&charset)
        && modifier.is_none_or(|own| spelled(own, 32, small, small))
}

/// A host name, hostname(5) and RFC 1123: labels of letters, digits and hyphens, 64 characters at most.
pub fn host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 64 && name.split('.').all(label)
}

/// Name of a user or a group, useradd(8): portable, and never a number.
pub fn user(name: &str) -> bool {
    spelled(name, 32, |c| c.is_ascii_lowercase() || c == '_', |c| small(c) || matches!(c, '_' | '-'))
}

/// A user or a group by name or number.
pub fn owner(owner: &str) -> bool {
    user(owner) || owner.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

/// Permissions in octal: `644`, `0644`, `4755`.
pub fn mode(mode: &str) -> bool {
    (3..=4).contains(&mode.len()) && mode.chars().all(|c| ('0'..='7').contains(&c))
        || mode.len() == 5 && mode.starts_with('0') && self::mode(&mode[1..])
}

/// Name of an environment variable or of a variable of a recipe.
pub fn variable(name: &str) -> bool {
    spelled(name, 64, |c| c.is_ascii_alphabetic() || c == '_', |c| c.is_ascii_alphanumeric() || c == '_')
}

/// A unit of systemd, systemd.unit(5). systemctl takes a name without a type for a service.
pub fn unit(name: &str) -> bool {
    const TYPES: [&str; 10] =
        ["service", "socket", "timer", "target", "path", "mount", "automount", "swap", "slice", "device"];
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let typed = name.rsplit_once('.').is_none_or(|(front, kind)| !front.is_empty() && TYPES.contains(&kind));
    spelled(name, 255, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '\\'), legal) && typed
}

/// Name of a container: `[HOST[:PORT]/]NAME[:TAG]`, as Docker and podman take it (distribution's reference grammar).
pub fn image_reference(reference: &str) -> bool {
    let (name, tag) = match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, None),
    };
    fn word(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_'
    }
    let tagged = tag.is_none_or(|tag| spelled(tag, 128, word, |c| word(c) || matches!(c, '.' | '-')));
    // Letters and digits, with one `.`, one or two `_`, or any number of `-` between them.
    let component = |part: &str| {
        let separators = part.split(small).filter(|between| !between.is_empty());
        part.starts_with(small)
            && part.ends_with(small)
            && separators.into_iter().all(|own| matches!(own, "." | "_" | "__") || own.chars().all(|c| c == '-'))
    };
    let parts: Vec<_> = name.split('/').collect();
    let domain = parts.len() > 1 && parts[0].contains(['.', ':']) || parts[0] == "localhost" && parts.len() > 1;
    let path = if domain { &parts[1..] } else { &parts[..] };
    let domain = !domain || parts[0].chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'));
    tagged && domain && name.len() <= 255 && path.iter().all(|part| component(part))
}

/// A ref of OSTree (ostree_validate_rev), or a checksum.
pub fn ostree_ref(name: &str) -> bool {
    let part = |part: &str| {
        spelled(
            part,
            255,
            |c| c.is_ascii_alphanumeric() || matches!(c, '_'),
            |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
        )
    };
    // With `refs/heads/` before it, it is a path in a header of tar.
    name.len() <= 200 && name.split('/').all(part)
}

/// An absolute path with nothing in it that has to be resolved.
pub fn absolute(path: &str) -> bool {
    let parts = path.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    path.len() < 4096
        && !path.contains(char::is_control)
        && parts.is_some_and(|parts| parts.is_empty() || !parts.split('/').any(|part| matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort_out(check: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for name in good {
            assert!(check(name), "{name} is refused");
        }
        for name in bad {
            assert!(!check(name), "{name} is accepted");
        }
    }

    #[test]
    fn names_have_their_forms() {
        sort_out(image, &["a", "debian-13.1_x"], &["", "A", "-a", "../a", "a b", &"a".repeat(64)]);
        sort_out(
            package_request,
            &["vim", "g++", "libc6:i386", "vim=2:9.1.1230-2", "vim/trixie-backports", "nano-"],
            &["", "v", "Vim", "-o", "vim nano", "vim=", "vim/", "?essential", "vim;id"],
        );
        sort_out(suite, &["trixie", "trixie-security", "stable/updates", "./"], &["", "-x", "../x", "tr ixie"]);
        sort_out(
            locale,
            &["C.UTF-8", "en_US.UTF-8", "eo.UTF-8", "ca_ES.UTF-8@valencia"],
            &["", "en_US", "en-US.UTF-8", "de_DE.UTF-9"],
        );
        sort_out(host, &["a", "web1.example.org", "A-1"], &["", "-a", "a-", "a..b", "a_b", &"a".repeat(65)]);
        sort_out(user, &["deb", "_apt", "www-data"], &["", "Deb", "1000", "-x", "a:b", &"a".repeat(33)]);
        sort_out(owner, &["root", "0", "1000"], &["", "-1", "4294967295", "a b"]);
        sort_out(mode, &["644", "0644", "04755"], &["", "64", "888", "u+x", "14755"]);
        sort_out(unit, &["ssh", "ssh.service", "getty@tty1.service"], &["", "-x", "a b.service", "ssh.servce"]);
        sort_out(absolute, &["/", "/etc", "/etc/"], &["", "etc", "/etc/../x", "/./x", "//x", "/a//b", "/a\nb"]);
        sort_out(
            image_reference,
            &["a", "particle-os:13", "localhost/a__b:X", "r.example.org:5000/a/b:1.0", "a/b"],
            &["", "A", "a..b", "a:", "a:b/c:", "-a", "a b", "r.example.org/", "a@sha256:00"],
        );
        sort_out(ostree_ref, &["particle/13/amd64", "a", "_a.b-c"], &["", "/a", "a/", "a//b", "-a", "a:b", "a/../b"]);
        sort_out(variable, &["A", "_a1"], &["", "1A", "A-B"]);
    }
}
