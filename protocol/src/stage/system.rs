//! Options of the stages that configure the system.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Options of `locale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Locale {
    /// The default locale, `LANG`, for instance `en_US.UTF-8`. `C.UTF-8` needs nothing to be installed.
    pub language: String,
    /// Further locales to generate.
    #[serde(default)]
    pub generate: Vec<String>,
}

/// Locales that are part of glibc itself.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];

impl Locale {
    /// The locales that have to be generated.
    pub fn generated(&self) -> BTreeSet<&str> {
        let wanted = std::iter::once(&self.language).chain(&self.generate).map(String::as_str);
        wanted.filter(|name| !BUILT_IN.contains(name)).collect()
    }

    /// What `/etc/locale.gen` has to say when the package `locales` is installed, which then generates them at once.
    pub fn lines(&self) -> String {
        self.generated().into_iter().filter(|name| Self::is_name(name)).filter_map(Self::guess).collect()
    }

    /// The line of the list for a locale before the list of all is there: `en_US.UTF-8 UTF-8`. None without a charset,
    /// which only that list tells.
    pub fn guess(name: &str) -> Option<String> {
        let (_, charset) = name.split('@').next()?.split_once('.')?;
        Some(format!("{name} {charset}\n"))
    }

    /// Whether it may be a locale's name.
    pub fn is_name(name: &str) -> bool {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte))
    }
}

/// Options of `timezone`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Timezone {
    /// A name of the tz database, for instance `Europe/Berlin`.
    pub zone: String,
}

/// Options of `keymap`: the keyboard, keyboard(5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Keymap {
    /// Layout of XKB, for instance `de`; several with commas between them, `us,ru`.
    pub layout: String,
    /// Variant of the layout, for instance `nodeadkeys`; of several layouts one for each, `,phonetic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Model of the keyboard; without it, `pc105`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Options of XKB, for instance `grp:alt_shift_toggle`.
    #[serde(default)]
    pub options: Vec<String>,
}

impl Keymap {
    /// What sets the console's keyboard at boot. It brings keyboard-configuration(8), and the layouts.
    pub const PACKAGE: &str = "console-setup";

    /// The layouts, each with its variant; that is empty where it has none.
    pub fn layouts(&self) -> impl Iterator<Item = (&str, &str)> {
        let variants = self.variant.as_deref().unwrap_or_default().split(',').chain(std::iter::repeat(""));
        self.layout.split(',').zip(variants)
    }
}

/// Options of `hostname`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hostname {
    /// The host name, hostname(5).
    pub hostname: String,
}

/// Options of `users`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Users by name. One that exists, `root` or a user of a package's, is changed in what is said here and in nothing
    /// else.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    /// Groups, which are created before the users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// One group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name. One that exists stays, and its id has to be this one.
    pub name: String,
    /// Group id; without it, the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// One user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id; without it, the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Primary group id; without it, a group of the user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Supplementary groups. One that is missing is created as a system group.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Full name, GECOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Home folder; without it, `/home/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Login shell; without it, `/bin/bash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Password: a hash of crypt(5) (it begins with `$`), or plain text, which is hashed in the image.
    /// Without it, no password is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Public keys for `~/.ssh/authorized_keys`.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
}

/// Options of `systemd`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Systemd {
    /// Units to enable.
    #[serde(default)]
    pub enable: Vec<String>,
    /// Units to disable.
    #[serde(default)]
    pub disable: Vec<String>,
    /// Units to mask.
    #[serde(default)]
    pub mask: Vec<String>,
    /// Target to boot into, for instance `multi-user.target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_target: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charset_is_part_of_the_name() {
        assert_eq!(Locale::guess("en_US.UTF-8").unwrap(), "en_US.UTF-8 UTF-8\n");
        assert_eq!(Locale::guess("sr_RS.UTF-8@latin").unwrap(), "sr_RS.UTF-8@latin UTF-8\n");
        assert_eq!(Locale::guess("vi_VN"), None);
    }

    #[test]
    fn what_is_no_name_is_told() {
        assert!(
            Locale::is_name("ca_ES.UTF-8@valencia")
                && !Locale::is_name("en US")
                && !Locale::is_name("")
                && !Locale::is_name("../x")
        );
    }
}
