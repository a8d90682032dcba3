//! The container image that tests and benchmarks start from.

use crate::{Place, measured, place};
use std::sync::OnceLock;
use std::time::Duration;

/// A whole build under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// `recipes/particle-os-base.yml`, built once, as `base-image` has it. Another one, a layout with a tag or an archive, can
/// be named with `PARTICLE_VM_TEST_BASE`.
///
/// # Panics
/// When it cannot be built.
pub fn base_image() -> &'static str {
    static BASE: OnceLock<Result<String, String>> = OnceLock::new();
    // Whoever comes second after a failure does not build it again.
    let base = BASE.get_or_init(|| std::env::var("PARTICLE_VM_TEST_BASE").or_else(|_| build()));
    base.as_ref().unwrap_or_else(|failure| panic!("the base image is not built:\n{failure}"))
}

/// Build it, to a place where the next run puts its own: nothing is left of a static at the end of a program.
fn build() -> Result<String, String> {
    let place = Place::new();
    let recipe = place::root().join("recipes/particle-os-base.yml");
    let built = place.start_build(&recipe, &[]).finish(BUILD);
    if built.code != 0 {
        return Err(built.stderr);
    }
    measured("particle-os-base", "seconds to build", built.took.as_secs_f64());
    let image = place::base().join("particle-os-base.oci.tar");
    std::fs::rename(place.out().join("particle-os-base.oci.tar"), &image).unwrap();
    Ok(format!("oci-archive:{}", image.display()))
}
