//! The stages of a build and their options, as a recipe writes them and as the agent runs them: one type for both.
//!
//! Paths in the options that name a file of the recipe's folder are relative to it; the host has checked them, and the
//! agent resolves them beneath the work share once more.

mod bootc;
mod bootloader;
mod files;
mod ostree;
mod packages;
mod system;

pub use bootc::{Bootc, BootcInstall, Bootupd, Composefs, InstallToFilesystem, PrepareRoot};
pub use bootloader::{Bootloader, BootloaderType, Firmware};
pub use files::{Copy, File, Files, MAX_DEPTH, MAX_READ, Run};
pub use ostree::{
    OstreeCommit, OstreeConfig, OstreeDeploy, OstreeInit, OstreePull, OstreeRemote, OstreeRemotes, RepoMode,
};
pub use packages::{Apt, Debootstrap, KEYRING_EXTENSIONS, Kernel, Source, Sources, Variant, keyring_extension};
pub use system::{Group, Hostname, Keymap, Locale, Systemd, Timezone, User, Users};

use serde::{Deserialize, Serialize};

/// One step of a build. The names are in kebab case. (The host turns the aliases that recipes may use into them.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "options", rename_all = "kebab-case")]
pub enum Stage {
    /// Make a Debian tree with mmdebstrap.
    Debootstrap(Debootstrap),
    /// Write the apt sources of the image.
    Sources(Sources),
    /// Install packages.
    Apt(Apt),
    /// Install a kernel and set its command line.
    Kernel(Kernel),
    /// Generate locales and set the default one.
    Locale(Locale),
    /// Set the time zone.
    Timezone(Timezone),
    /// Set the layout of the keyboard.
    Keymap(Keymap),
    /// Set the host name.
    Hostname(Hostname),
    /// Create groups, and create or change users.
    Users(Users),
    /// Write files whose content stands in the recipe.
    Files(Files),
    /// Copy files or folders from the recipe's folder.
    Copy(Copy),
    /// Run a script in the tree.
    Run(Run),
    /// Enable, disable and mask units, and set the default target.
    Systemd(Systemd),
    /// Install a bootloader.
    Bootloader(Bootloader),
    /// Give the tree the layout of a bootable container.
    Bootc(Bootc),
    /// Have the container image install itself.
    #[serde(rename = "bootc.install")]
    BootcInstall(InstallToFilesystem),
    /// Prepare bootupd: metadata of the bootloaders that it installs and updates.
    Bootupd(Bootupd),
    /// Make the OSTree repository of the build.
    #[serde(rename = "ostree.init")]
    OstreeInit(OstreeInit),
    /// Configure the OSTree repository of the build.
    #[serde(rename = "ostree.config")]
    OstreeConfig(OstreeConfig),
    /// Fetch commits into the OSTree repository of the build.
    #[serde(rename = "ostree.pull")]
    OstreePull(OstreePull),
    /// Configure the remotes that the system updates itself from.
    #[serde(rename = "ostree.remotes")]
    OstreeRemotes(OstreeRemotes),
    /// Commit the tree to the OSTree repository of the build.
    #[serde(rename = "ostree.commit")]
    OstreeCommit(OstreeCommit),
    /// Make a commit the system on the disk.
    #[serde(rename = "ostree.deploy")]
    OstreeDeploy(OstreeDeploy),
}

impl Stage {
    /// The name that recipes use, without aliases.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Debootstrap(_) => "debootstrap",
            Self::Sources(_) => "sources",
            Self::Apt(_) => "apt",
            Self::Kernel(_) => "kernel",
            Self::Locale(_) => "locale",
            Self::Timezone(_) => "timezone",
            Self::Keymap(_) => "keymap",
            Self::Hostname(_) => "hostname",
            Self::Users(_) => "users",
            Self::Files(_) => "files",
            Self::Copy(_) => "copy",
            Self::Run(_) => "run",
            Self::Systemd(_) => "systemd",
            Self::Bootloader(_) => "bootloader",
            Self::Bootc(_) => "bootc",
            Self::BootcInstall(_) => "bootc.install",
            Self::Bootupd(_) => "bootupd",
            Self::OstreeInit(_) => "ostree.init",
            Self::OstreeConfig(_) => "ostree.config",
            Self::OstreePull(_) => "ostree.pull",
            Self::OstreeRemotes(_) => "ostree.remotes",
            Self::OstreeCommit(_) => "ostree.commit",
            Self::OstreeDeploy(_) => "ostree.deploy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_named_by_its_type() {
        let json = r#"{"type": "timezone", "options": {"zone": "Europe/Berlin"}}"#;
        let stage: Stage = serde_json::from_str(json).unwrap();
        assert_eq!(stage.name(), "timezone");
        assert_eq!(serde_json::to_value(&stage).unwrap()["type"], "timezone");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let json = r#"{"type": "timezone", "options": {"zoen": "Europe/Berlin"}}"#;
        let error = serde_json::from_str::<Stage>(json).unwrap_err();
        assert!(error.to_string().contains("zoen"), "{error}");
    }
}
