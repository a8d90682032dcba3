//! What is in a container image, for the verbs that go by it.

use super::EngineError;
use crate::error::Result;
use crate::event::Events;
use crate::inspect::{self, Finding, Input, Report, Severity};
use crate::source::Image;
use particle_vm_protocol::Engine;

/// Look into `image`, whose layers are read for it, with the eyes of the engine that is wished for.
///
/// # Errors
/// When a layer is not what its digests say, or holds what no image may hold.
pub async fn look(image: &Image, wish: Option<Engine>, events: &Events) -> Result<Report> {
    let own = image.clone();
    let wish = wish.map(|wish| match wish {
        Engine::NativeOstree => inspect::Engine::NativeOstree,
        Engine::Bootc => inspect::Engine::Bootc,
        Engine::Plain => inspect::Engine::Plain,
    });
    let look = move |layers: &mut dyn Iterator<Item = _>| {
        let (reference, origin) = (own.reference.to_string(), own.reference.origin());
        let input = Input {
            reference: &reference,
            origin: origin.as_deref(),
            digest: &own.digest,
            config_digest: &own.config_digest,
            manifest: &own.manifest,
            config: &own.config,
            wish,
        };
        inspect::image(input, layers)
    };
    Ok(image.read_layers(events, look).await??)
}

/// The engine that makes a disk of the image in `report`: what the recipe wishes, or what the image is made for.
///
/// # Errors
/// When the recipe wishes nothing, and no engine fits the image as it is; and when the image cannot install itself as it is
/// wished to.
pub(super) fn engine(report: &Report, wish: Option<Engine>) -> Result<Engine> {
    match (wish, report.engine.name) {
        // What is missing for these two a recipe may know better: it has stages.
        (Some(wish @ (Engine::NativeOstree | Engine::Plain)), _) => Ok(wish),
        (_, inspect::Engine::NativeOstree) => Ok(Engine::NativeOstree),
        (_, inspect::Engine::Bootc) => Ok(Engine::Bootc),
        (_, inspect::Engine::Plain) => Ok(Engine::Plain),
        (_, inspect::Engine::None) => Err(EngineError::Unfit(Box::new(report.clone())).into()),
    }
}

/// Tell what is wrong with an image that is used all the same: each error that the recipe passes over by naming the engine,
/// and how many warnings there are.
pub(super) fn warn(report: &Report, events: &Events) {
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Error) {
        let Finding { code, message, remedy, .. } = finding;
        events.warn(format!(
            "{code}: {message}; this may not boot, and is tried for the `engine` of the recipe: {remedy}"
        ));
    }
    let warnings = report.findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    if warnings > 0 {
        let (reference, s) = (&report.reference, if warnings == 1 { "" } else { "s" });
        events.warn(format!("{warnings} warning{s} about the image: see `particle-vm inspect {reference}`"));
    }
}
