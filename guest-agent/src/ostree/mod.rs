//! Container images as OSTree deployments, made by the `ostree` of the appliance: the image becomes a commit in a
//! repository on the disk, and the commit a deployment.

mod deploy;
mod escape;
mod filter;
mod import;
mod settings;

pub use deploy::{deploy, mount};
pub use import::import;
