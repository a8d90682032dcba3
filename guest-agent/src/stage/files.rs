//! `files`: write files whose content stands in the recipe.

use super::{Site, accounts};
use crate::report::Explain;
use crate::tree::Attributes;
use particle_vm_protocol::stage::Files;
use particle_vm_protocol::{Failure, FailureKind};
use std::io::Write;

/// Write each file.
pub(super) fn perform(site: &mut Site<'_>, options: &Files) -> Result<(), Failure> {
    for (path, file) in &options.files {
        let tree = site.tree()?;
        let mode = accounts::mode(&file.mode)?;
        let (uid, gid) = accounts::owner(tree, &file.owner, &file.group)?;
        site.context.output(path.clone());
        let mut written = tree.create(path, Attributes { mode, uid, gid })?;
        written
            .write_all(file.content.as_bytes())
            .explain(FailureKind::Agent, || format!("cannot write `{path}` in the image"))?;
        site.left.own.insert(path.clone());
    }
    Ok(())
}
