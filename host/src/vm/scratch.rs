//! The disk that the agent works on, in layers: each has what was written since the one below it was complete.
//!
//! The lowest are what earlier builds have made of the first stages, and are only read. Above them is one that is written;
//! when a stage has ended whose result is wanted, the next one takes its place, and it is complete. All of them are files
//! of qcow2 (QEMU, docs/interop/qcow2.rst) without a name of what lies below: that is said on QEMU's command line, so that
//! no file can have QEMU open another one.

use super::link::LinkError;
use super::progress::Progress;
use super::proxy::Proxy;
use super::qmp::Qmp;
use crate::child::{self, ChildError};
use crate::stages::Inputs;
use particle_vm_protocol::Job;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

/// How a layer is written: space is given out in pieces of 4 KiB, so that what is changed in a file system takes no more
/// than that, and pointers are few enough to stay in memory.
const OPTIONS: &str = "extended_l2=on,cluster_size=128k";

/// How long `qemu-img` may take to make a file of some hundred KiB.
const CREATE: Duration = Duration::from_secs(60);

/// How long QEMU may take to change from one layer to the next.
const CHANGE: Duration = Duration::from_secs(120);

/// What a scratch disk consists of.
#[derive(Debug, Clone)]
pub struct Layers {
    /// A layer without content, see [`create_empty`].
    pub empty: PathBuf,
    /// The layers that are only read, lowest first.
    pub kept: Vec<PathBuf>,
    /// The files of those that are written, one after the other. They are made when the VM starts.
    pub written: Vec<PathBuf>,
    /// Who is told of each that is complete.
    pub complete: UnboundedSender<Layer>,
}

/// A layer that is complete.
#[derive(Debug, Default)]
pub struct Layer {
    /// The stage that has made it, by its position in the plan.
    pub stage: usize,
    /// Its file, which whoever gets this may move away.
    pub path: PathBuf,
    /// What the guest has fetched until then.
    pub fetched: Inputs,
    /// The digests of the indexes that its packages come from, as the guest has them.
    pub indexes: Vec<String>,
}

/// Make a layer without content for a disk of `bytes` bytes.
///
/// # Errors
/// When `qemu-img` is not there, or fails.
pub async fn create_empty(path: &Path, bytes: u64) -> Result<(), ChildError> {
    let mut command = child::command("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-o", OPTIONS]).arg(path).arg(bytes.to_string());
    child::run(command, CREATE).await.map(drop)
}

impl Layers {
    /// Make the files of the layers that are written, or empty those of an attempt before.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub(super) fn create(&self) -> Result<(), (PathBuf, io::Error)> {
        self.written.iter().try_for_each(|path| {
            let copied = File::open(&self.empty).and_then(|mut empty| {
                let mut options = OpenOptions::new();
                // A symbolic link is refused before anything is changed.
                options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
                let mut file = options.open(path)?;
                file.set_len(0)?;
                io::copy(&mut empty, &mut file)
            });
            copied.map(drop).map_err(|source| (path.clone(), source))
        })
    }

    /// QEMU's names for the layers that are only read, lowest first, and their files.
    pub(super) fn kept(&self) -> impl Iterator<Item = (String, &Path)> {
        self.kept.iter().enumerate().map(|(number, path)| (format!("kept{number}"), path.as_path()))
    }

    /// The same of those that are written.
    pub(super) fn written(&self) -> impl Iterator<Item = (String, &Path)> {
        self.written.iter().enumerate().map(|(number, path)| (node(number), path.as_path()))
    }
}

/// The name of a layer that is written.
fn node(number: usize) -> String {
    format!("{}{number}", particle_vm_protocol::serial::SCRATCH)
}

/// The layers of a VM that runs.
#[derive(Debug)]
pub(super) struct Writing {
    written: Vec<PathBuf>,
    complete: UnboundedSender<Layer>,
    /// Which of the files is written at the moment.
    current: usize,
    /// How many steps come before the stages of the job.
    before: usize,
    /// The stages whose layers are still to come.
    wanted: VecDeque<usize>,
}

impl Writing {
    /// The first is being written.
    pub(super) fn new(layers: &Layers) -> Self {
        let (written, complete) = (layers.written.clone(), layers.complete.clone());
        Self { written, complete, current: 0, before: 0, wanted: VecDeque::new() }
    }

    /// `job` begins.
    pub(super) fn begin(&mut self, job: &Job) {
        let Job::Build(plan) = job else { return };
        let stages = plan.stages.iter().enumerate().skip(plan.done);
        self.wanted = stages.filter(|(_, planned)| planned.keep).map(|(index, _)| index).collect();
        self.before = plan.steps_before_stages();
    }

    /// The guest says that the disk has all that `stage` and those before it have made, of packages from `indexes`, and waits:
    /// have what comes go into the next layer. Gives why this one is not complete, if QEMU cannot; all goes on with it then.
    ///
    /// # Errors
    /// When it is not the turn of that stage, or it has not ended.
    pub(super) async fn settled(
        &mut self,
        (stage, indexes): (usize, Vec<String>),
        progress: &Progress,
        network: Option<&Proxy>,
        qmp: &Qmp,
    ) -> Result<Option<io::Error>, LinkError> {
        let next = self.current + 1;
        if self.wanted.pop_front() != Some(stage)
            || !progress.rests_after(self.before + stage)
            || next >= self.written.len()
        {
            return Err(LinkError::Unexpected("nobody waits for what that stage has left"));
        }
        // Nobody wants any more.
        if self.complete.is_closed() {
            return Ok(None);
        }
        match timeout(CHANGE, qmp.snapshot(&node(self.current), &node(next))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ok(Some(error)),
            Err(_) => return Ok(Some(io::ErrorKind::TimedOut.into())),
        }
        let path = self.written[self.current].clone();
        self.current = next;
        let record = network.map(Proxy::record);
        let fetched = record.map(|record| Inputs { inputs: record.inputs(), omitted: record.omitted() });
        let fetched = fetched.unwrap_or_default();
        // Fails when nobody wants it any more.
        let _ = self.complete.send(Layer { stage, path, fetched, indexes });
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::qmp::imagined;
    use super::*;
    use particle_vm_protocol::{Plan, PlannedStage, Stage};
    use serde_json::json;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    fn plan(keep: &[bool], done: usize) -> Plan {
        let stage: Stage =
            serde_json::from_value(json!({ "type": "hostname", "options": { "hostname": "a" } })).unwrap();
        let planned = |keep: &bool| PlannedStage { title: "x".into(), deadline: 1, keep: *keep, stage: stage.clone() };
        let empty = json!({ "name": "x", "architecture": "amd64", "stages": [], "disk": null, "archives": [],
            "source_date": null, "apt_conf": [] });
        let plan: Plan = serde_json::from_value(empty).unwrap();
        Plan { stages: keep.iter().map(planned).collect(), done, ..plan }
    }

    #[tokio::test]
    async fn layers_are_complete_in_the_order_of_the_stages() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(imagined::monitor(theirs, &[], "running"));
        let qmp = Qmp::connect(ours).await.unwrap();
        let (complete, mut layers) = mpsc::unbounded_channel();
        let written = ["a", "b", "c"].map(PathBuf::from).to_vec();
        let mut writing = Writing { written, complete, current: 0, before: 0, wanted: VecDeque::new() };
        let job = Job::Build(Box::new(plan(&[true, true, false, true], 1)));
        writing.begin(&job);
        let mut progress = Progress::new(&job);
        let run = |stage, progress: &mut Progress| {
            progress.started(stage).unwrap();
            progress.finished(stage).unwrap();
        };
        run(1, &mut progress);
        assert!(writing.settled((1, Vec::new()), &progress, None, &qmp).await.unwrap().is_none());
        run(2, &mut progress);
        // One that has not ended.
        progress.started(3).unwrap();
        let wanted = writing.wanted.clone();
        writing.settled((3, Vec::new()), &progress, None, &qmp).await.unwrap_err();
        writing.wanted = wanted;
        progress.finished(3).unwrap();
        assert!(writing.settled((3, Vec::new()), &progress, None, &qmp).await.unwrap().is_none());
        // One that was there before, one more than there are.
        writing.settled((3, Vec::new()), &progress, None, &qmp).await.unwrap_err();
        let got: Vec<_> =
            std::iter::from_fn(|| layers.try_recv().ok()).map(|layer| (layer.stage, layer.path)).collect();
        assert_eq!(got, [(1, "a".into()), (3, "b".into())]);
    }

    #[test]
    fn layers_are_made_anew_for_each_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("empty"), "nothing").unwrap();
        std::fs::write(path("b"), "left by a start that failed").unwrap();
        let (complete, _) = mpsc::unbounded_channel();
        let written = vec![path("a"), path("b")];
        let layers = Layers { empty: path("empty"), kept: Vec::new(), written, complete };
        layers.create().unwrap();
        assert!(["a", "b"].iter().all(|name| std::fs::read(path(name)).unwrap() == b"nothing"));
        std::fs::remove_file(path("a")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("a")).unwrap();
        assert_eq!(layers.create().unwrap_err().0, path("a"));
    }
}
