//! `run`: a script in the tree.

use super::{Site, work, wrong};
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Run;

/// Where the script lies while it runs: on a tmpfs, so that nothing of it stays.
const SCRIPT: &str = "/run/particle-vm/script";

/// Run it.
pub(super) fn perform(site: &mut Site<'_>, options: &Run) -> Result<(), Failure> {
    let script = match (&options.script, &options.file) {
        (Some(script), None) => script.clone().into_bytes(),
        (None, Some(file)) => work::read(file)?,
        _ => return Err(wrong("`run` takes either `script` or `file`")),
    };
    let tree = site.tree()?;
    tree.write(SCRIPT, &script, 0o700)?;
    let mut command =
        if script.starts_with(b"#!") { site.command(SCRIPT)? } else { site.command("/bin/sh")?.args(["-eu", SCRIPT]) };
    for (name, value) in &options.environment {
        command = command.env(name, value);
    }
    let result = site.context.run(&command);
    tree.remove(SCRIPT)?;
    result
}
