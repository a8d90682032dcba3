//! UUIDs that follow from the recipe, so that the same recipe gives the same image.

use super::{BaseFacts, HostFacts};
use crate::recipe::Recipe;
use uuid::Uuid;

/// Root of all UUIDs that particle-vm makes (RFC 9562, 5.5). It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x66c7bf33_15ce_4dbb_aa7a_3e669eba483f);

/// Makes the UUIDs of one recipe.
pub struct Identity(Uuid);

impl Identity {
    /// From what the recipe puts into the image. What else it says, for instance its tests, does not
    /// change the image.
    pub fn new(recipe: &Recipe, facts: &HostFacts) -> Self {
        let stages: Vec<_> = recipe.stages.iter().map(|stage| &stage.stage).collect();
        let mut content = serde_json::json!({ "name": recipe.name, "stages": stages, "disk": recipe.disk });
        if let Some(BaseFacts { base, .. }) = &facts.base {
            content["base"] = serde_json::json!([base.engine, base.digest]);
        }
        Self(Uuid::new_v5(&NAMESPACE, content.to_string().as_bytes()))
    }

    /// The UUID of the thing that is called `name`, for instance `partition root`.
    pub fn uuid(&self, name: &str) -> Uuid {
        Uuid::new_v5(&self.0, name.as_bytes())
    }

    /// A FAT volume id, `XXXX-XXXX`.
    pub fn volume_id(&self, name: &str) -> String {
        let [a, b, c, d, ..] = *self.uuid(name).as_bytes();
        format!("{a:02X}{b:02X}-{c:02X}{d:02X}")
    }
}
