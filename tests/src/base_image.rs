//! The container image that tests and benchmarks start from.

use crate::{Place, measured, place};
use std::sync::LazyLock;
use std::time::Duration;

/// A whole build under emulation, with another one beside it.
const BUILD: Duration = Duration::from_secs(3600);

/// `recipes/particle-os-base.yml`, built once, as `base-image` has it. Another one, a layout with a tag or an archive, can
/// be named with `PARTICLE_VM_TEST_BASE`.
///
/// # Panics
/// When it cannot be built, and when whoever came first could not build it.
pub fn base_image() -> &'static str {
    static BASE: LazyLock<String> =
        LazyLock::new(|| std::env::var("PARTICLE_VM_TEST_BASE").unwrap_or_else(|_| build()));
    &BASE
}

/// Build it, to a place where the next run puts its own: nothing is left of a static at the end of a program.
fn build() -> String {
    let place = Place::new();
    let recipe = place::root().join("recipes/particle-os-base.yml");
    let built = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
    measured("particle-os-base", "seconds to build", built.took.as_secs_f64());
    let image = place::base().join("particle-os-base.oci.tar");
    std::fs::rename(place.out().join("particle-os-base.oci.tar"), &image).unwrap();
    format!("oci-archive:{}", image.display())
}
