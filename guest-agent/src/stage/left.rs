//! What stages leave to later ones beside the tree.
//!
//! It lies on the scratch disk with the tree, so that a build that begins with what an earlier one has made of the first
//! stages knows what that one knew.

use crate::report::Explain;
use particle_vm_protocol::{Failure, FailureKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Where it lies.
const PATH: &str = "/scratch/left.json";

/// What stages leave to later ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    /// When the first of the stages began.
    pub(crate) begin: SystemTime,
    /// What [`super::sources::state`] was when the package lists in the tree were fetched, if they were.
    pub(super) lists: Option<String>,
    /// The packages that apt has been asked for by name since it may have offered others, or other versions.
    pub(super) requested: BTreeSet<String>,
    /// The answers that debconf has been given.
    pub(super) selections: String,
    /// Paths that the recipe itself has put into the image: what is cleaned up at the end leaves them alone.
    pub(super) own: BTreeSet<String>,
}

impl Left {
    /// Of no stage.
    pub(super) fn nothing() -> Self {
        Self {
            begin: SystemTime::now(),
            lists: None,
            requested: BTreeSet::new(),
            selections: String::new(),
            own: BTreeSet::new(),
        }
    }

    /// Of the stages that an earlier build has run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn load() -> Result<Self, Failure> {
        let text = fs::read(PATH).explain(FailureKind::Agent, || format!("cannot read {PATH}"))?;
        serde_json::from_slice(&text).explain(FailureKind::Agent, || format!("cannot read {PATH}"))
    }

    /// Write it where [`Self::load`] finds it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).explain(FailureKind::Agent, || format!("cannot write {PATH}"))?;
        fs::write(Path::new(PATH), text).explain(FailureKind::Agent, || format!("cannot write {PATH}"))
    }
}
