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
    static BASE: OnceLock<(String, Option<Place>)> = OnceLock::new();
    let (reference, _place) = BASE.get_or_init(|| {
        if let Ok(reference) = std::env::var("PARTICLE_VM_TEST_BASE") {
            return (reference, None);
        }
        let place = Place::new();
        let recipe = place::root().join("recipes/particle-os-base.yml");
        let built = place.start_build(&recipe, &[]).finish(BUILD).exits(0);
        measured("particle-os-base", "seconds to build", built.took.as_secs_f64());
        (format!("oci-archive:{}", place.out().join("particle-os-base.oci.tar").display()), Some(place))
    });
    reference
}
