//! OSTree deployments, made by the `ostree` of the appliance: a container image, or a commit of the build's own repository,
//! becomes a commit in a repository on the disk, and that a deployment.

mod deploy;
mod escape;
mod filter;
mod import;
mod pull;
mod settings;

pub use deploy::{deploy, identify, mount};
pub use import::import;
pub use pull::pull;

use settings::Settings;

/// A commit in the repository of a sysroot.
#[derive(Debug)]
pub struct Commit {
    /// Its ref.
    reference: String,
    /// What it says about its installation.
    settings: Settings,
}
