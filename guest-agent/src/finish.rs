//! Finishing a freshly unpacked appliance: what only maintainer scripts make is made once, and handed to the host.

use crate::context::Context;
use crate::paths;
use crate::process::Command;
use crate::report::Explain;
use particle_vm_protocol::plan::FINISH_DEADLINE;
use particle_vm_protocol::{Failure, FailureKind, share};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// The script, `appliance/finish.sh` in the sources.
const SCRIPT: &str = "/usr/lib/particle-vm/finish";

/// Folders of the root whose contents are of this run only.
const TRANSIENT: [&str; 10] = ["base", "dev", "proc", "run", "scratch", "staging", "sys", "target", "tmp", "work"];

/// Run the appliance's script and put the files that it has changed into an archive in the staging share.
///
/// # Errors
/// When the script fails or the archive cannot be written.
pub fn run(context: &Context) -> Result<(), Failure> {
    let deadline = Some(Duration::from_secs(FINISH_DEADLINE));
    context.stage(0, "finish the appliance", deadline, |context| {
        context.run(&Command::new(SCRIPT))?;
        let upper = Path::new(paths::SCRATCH).join(paths::UPPER);
        let archive = Path::new(paths::STAGING).join(share::FINISHED);
        let file =
            File::create_new(&archive).explain(FailureKind::Agent, || format!("create {}", archive.display()))?;
        let mut builder = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
        builder.follow_symlinks(false);
        add(context, &mut builder, &upper, Path::new(""))?;
        let written = builder.into_inner().and_then(|mut file| file.flush());
        written.explain(FailureKind::Agent, || format!("write {}", archive.display()))
    })
}

/// Add what is in the folder `inside` of the overlay's upper layer, in the order of the names.
///
/// A removed file is there as a character device of number 0, and goes into the archive as that. Folders are not marked
/// as opaque: the kernel does so for every new folder, and the script replaces none that was there.
fn add(context: &Context, archive: &mut tar::Builder<impl Write>, upper: &Path, inside: &Path) -> Result<(), Failure> {
    context.check()?;
    let folder = upper.join(inside);
    let names = fs::read_dir(&folder).and_then(|entries| {
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        names
    });
    let mut names = names.explain(FailureKind::Agent, || format!("read {}", folder.display()))?;
    names.sort();
    for name in names {
        if inside == Path::new("") && TRANSIENT.iter().any(|transient| name == *transient) {
            continue;
        }
        let path = inside.join(&name);
        let added = fs::symlink_metadata(upper.join(&path)).and_then(|data| {
            if !data.file_type().is_socket() {
                archive.append_path_with_name(upper.join(&path), &path)?;
            }
            Ok(data.is_dir())
        });
        if added.explain(FailureKind::Agent, || format!("keep {}", path.display()))? {
            add(context, archive, upper, &path)?;
        }
    }
    Ok(())
}
