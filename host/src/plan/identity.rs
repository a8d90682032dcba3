//! UUIDs that follow from the recipe, so that the same recipe gives the same image, and images of one recipe the same names.

use super::{BaseFacts, HostFacts};
use crate::recipe::Recipe;
use uuid::Uuid;

/// Root of all UUIDs that particle-vm makes (RFC 9562, 5.5). It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x66c7bf33_15ce_4dbb_aa7a_3e669eba483f);

/// Makes the UUIDs of one recipe.
pub struct Identity(Uuid);

impl Identity {
    /// From its name and its disk, and from the container image that it starts from. Not from the stages: settings of boot
    /// loaders name file systems, and a stage that is changed would change what others make.
    pub fn new(recipe: &Recipe, facts: &HostFacts) -> Self {
        let mut content = serde_json::json!({ "name": recipe.name, "disk": recipe.disk });
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
