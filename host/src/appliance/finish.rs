//! The finishing run: the new appliance boots for the first time, runs its maintainer scripts and hands over what they
//! have changed, which becomes the second layer of the root file system.

use super::background::{self, GivenUp};
use super::deb::{self, DebError, Entry, Spool};
use super::error::ApplianceError;
use super::image;
use super::manifest::file;
use super::tree::Tree;
use crate::event::{Events, Unit};
use crate::vm::{Hypervisor, Session, VmConfig, virtiofs};
use crate::workspace::Workspace;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use particle_vm_protocol::{Job, share};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Memory of the VM in MiB. What it changes stays in memory too, as it has no scratch disk.
const MEMORY: u64 = 768;

/// Most bytes of the archive that the guest leaves. A real one has 1 MiB.
const MAX_ARCHIVE: u64 = virtiofs::MAX_FILE;

/// Boot what is in `made` and add the second layer to it.
///
/// # Errors
/// When the VM cannot be started, the job fails, or what it leaves is not what it should be.
pub async fn run(
    hypervisor: &Hypervisor,
    workspace: &Arc<Workspace>,
    made: &Path,
    events: &Events,
) -> Result<(), ApplianceError> {
    let step = events.step("appliance: first start", None, Unit::Items);
    let (own, staging) = (workspace.path().join("vm"), workspace.path().join("staging"));
    for folder in [&own, &staging] {
        fs::create_dir(folder).map_err(ApplianceError::io("create", folder))?;
    }
    let config = VmConfig {
        hypervisor: hypervisor.clone(),
        kernel: made.join(file::KERNEL),
        modules_cpio: made.join(file::MODULES),
        root_layers: vec![made.join(file::ROOT[0])],
        memory_mib: MEMORY,
        cpus: 1,
        scratch: None,
        layers: None,
        target: None,
        archive: None,
        work_share: None,
        base_share: None,
        staging_share: Some(staging.clone()),
        network: None,
        workspace: own,
    };
    let mut session = Session::start(&config, events).await.map_err(ApplianceError::Finish)?;
    session.run(Job::Finish).await.map_err(ApplianceError::Finish)?;
    session.power_off().await.map_err(ApplianceError::Finish)?;

    let (kept, layer) = (Arc::clone(workspace), made.join(file::ROOT[1]));
    let events = events.clone();
    background::run(move |given_up| {
        let tree = read(&staging, kept.path(), given_up).map_err(ApplianceError::Finished)?;
        let step = events.step("appliance: second layer", Some(tree.bytes()), Unit::Bytes);
        image::write(&tree, &layer, given_up, &step)?;
        step.finish();
        Ok(())
    })
    .await?;
    step.finish();
    Ok(())
}

/// The archive that the guest has left in `staging`; it may be anything.
fn read(staging: &Path, spools: &Path, given_up: &GivenUp) -> Result<Tree, DebError> {
    let folder = File::open(staging)?;
    // The guest may have left a link to a file of the host, or a FIFO, in its place.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    let archive = File::from(openat2(&folder, share::FINISHED, how).map_err(io::Error::from)?);
    let data = archive.metadata()?;
    if !data.is_file() {
        return Err(DebError::Format(format!("{} is no regular file", share::FINISHED)));
    }
    if data.len() > MAX_ARCHIVE {
        return Err(DebError::TooLarge("64 MiB"));
    }
    let mut spool = Spool::new(spools, given_up)?;
    let reader = io::BufReader::with_capacity(256 << 10, archive.take(MAX_ARCHIVE));
    let mut tree = Tree::default();
    for (path, entry) in deb::read_data(reader, &mut spool, |_| true)? {
        match entry {
            Entry::Node(node) => tree.insert(&path, node)?,
            Entry::HardLink(target) => tree.link(&path, &target)?,
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_archive_of_the_guest_is_read() {
        let (staging, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut builder = tar::Builder::new(File::create(staging.path().join(share::FINISHED)).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(1000);
        header.set_size(4);
        builder.append_data(&mut header, "etc/passwd", &b"root"[..]).unwrap();
        header.set_entry_type(tar::EntryType::Char);
        header.set_size(0);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        builder.append_data(&mut header, "etc/gone", io::empty()).unwrap();
        builder.into_inner().unwrap();
        let tree = read(staging.path(), spools.path(), &GivenUp::default()).unwrap();
        assert_eq!(tree.iter().count(), 3);
        assert!(matches!(tree.get("etc/gone").unwrap().kind, super::super::tree::Kind::Whiteout));
    }

    #[test]
    fn what_a_hostile_guest_may_leave_is_refused() {
        let (staging, spools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = staging.path().join(share::FINISHED);
        let refused = || read(staging.path(), spools.path(), &GivenUp::default()).unwrap_err();
        assert!(matches!(refused(), DebError::Io(_)));
        symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(refused(), DebError::Io(_)));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(refused(), DebError::Format(_)));
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().set_len(MAX_ARCHIVE + 1).unwrap();
        assert!(matches!(refused(), DebError::TooLarge(_)));
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Block);
        header.set_mode(0o600);
        header.set_size(0);
        builder.append_data(&mut header, "dev/sda", io::empty()).unwrap();
        builder.into_inner().unwrap();
        assert!(matches!(refused(), DebError::Format(_)));
    }
}
