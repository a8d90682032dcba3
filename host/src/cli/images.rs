//! Options of the verbs that fetch container images.

use crate::recipe::Size;
use crate::source;
use clap::Args;
use std::path::PathBuf;

/// How container images are fetched.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Container images")]
pub struct Images {
    /// File with the credentials of registries, instead of those that podman, skopeo and docker use
    ///
    /// Without it: $REGISTRY_AUTH_FILE, or the first of $XDG_RUNTIME_DIR/containers/auth.json,
    /// ~/.config/containers/auth.json and ~/.docker/config.json that knows the registry; credential helpers too.
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,

    /// Speak plain http to the registry; anybody on the way can read and change what is sent
    ///
    /// A registry on this machine needs no such word.
    #[arg(long)]
    pub plain_http: bool,

    /// Most that the layers of an image may unpack to [default: 64GiB]
    #[arg(long, value_name = "SIZE", env = "PARTICLE_VM_MAX_IMAGE_SIZE")]
    pub max_image_size: Option<Size>,
}

impl Images {
    /// What the fetching goes by.
    pub fn options(&self) -> source::Options {
        source::Options {
            authfile: self.authfile.clone(),
            plain_http: self.plain_http,
            max_size: self.max_image_size.map_or(source::MAX_SIZE, |size| size.0),
            ..source::Options::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_one_that_the_help_names() {
        assert_eq!("64GiB".parse::<Size>().unwrap().0, Images::default().options().max_size);
    }
}
