//! Names of stages in osbuild and in its Debian derivatives, for people who bring recipes along.

/// Aliases and the types that they mean.
const ALIASES: &[(&str, &str)] = &[
    ("org.osbuild.debian.debootstrap", "debootstrap"),
    ("org.osbuild.debootstrap", "debootstrap"),
    ("org.osbuild.debian.sources", "sources"),
    ("org.osbuild.apt.sources", "sources"),
    ("org.osbuild.debian.apt", "apt"),
    ("org.osbuild.debian.apt-install", "apt"),
    ("org.osbuild.apt", "apt"),
    ("org.osbuild.debian.kernel", "kernel"),
    ("org.osbuild.kernel", "kernel"),
    ("org.osbuild.debian.locale", "locale"),
    ("org.osbuild.locale", "locale"),
    ("org.osbuild.debian.timezone", "timezone"),
    ("org.osbuild.timezone", "timezone"),
    ("org.osbuild.debian.keymap", "keymap"),
    ("org.osbuild.keymap", "keymap"),
    ("org.osbuild.debian.hostname", "hostname"),
    ("org.osbuild.hostname", "hostname"),
    ("org.osbuild.debian.users", "users"),
    ("org.osbuild.users", "users"),
    ("org.osbuild.files", "files"),
    ("org.osbuild.copy", "copy"),
    ("org.osbuild.run", "run"),
    ("org.osbuild.script", "run"),
    ("org.osbuild.debian.systemd", "systemd"),
    ("org.osbuild.systemd", "systemd"),
    ("org.osbuild.bootloader", "bootloader"),
    ("org.osbuild.debian.grub", "bootloader"),
    ("org.osbuild.debian.grub2", "bootloader"),
    ("org.osbuild.grub2", "bootloader"),
    ("org.osbuild.bootc", "bootc"),
    ("org.osbuild.bootc.install.config", "bootc"),
    ("org.osbuild.bootc.install-to-filesystem", "bootc.install"),
    ("org.osbuild.bootupd", "bootupd"),
    ("org.osbuild.bootupd.gen-metadata", "bootupd"),
    ("org.osbuild.ostree.init", "ostree.init"),
    ("org.osbuild.ostree.config", "ostree.config"),
    ("org.osbuild.ostree.pull", "ostree.pull"),
    ("org.osbuild.ostree.remotes", "ostree.remotes"),
    ("org.osbuild.ostree.commit", "ostree.commit"),
    ("org.osbuild.ostree.deploy", "ostree.deploy"),
];

/// The type of stage that `name` is or means.
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, stage)| stage)
}

/// The aliases of a type of stage.
pub fn of(stage: &str) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(_, name)| *name == stage).map(|(alias, _)| *alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_means_a_stage() {
        for (alias, stage) in ALIASES {
            assert!(super::super::schema::stage_types().any(|known| known.name == *stage), "{alias} -> {stage}");
            assert_eq!(canonical(alias), *stage);
        }
        assert_eq!(canonical("nonsense"), "nonsense");
    }
}
