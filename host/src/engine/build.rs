//! The verb `build`: recipe, plan, room, appliance, VM, stages, outputs.

use super::contents::contents;
use super::explain::explain;
use super::host::{Host, Sources};
use super::prepare::{Options, Prepared};
use super::scratch::Scratch;
use super::{EngineError, Fate, boot};
use crate::appliance::Appliance;
use crate::boot::BootConfig;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::{Events, Unit};
use crate::output::{Contents, Manifest, OutputFolder, Record, manifest, space};
use crate::plan::{Planned, plan};
use crate::recipe::Recipe;
use crate::signing::SigningKey;
use crate::source::digest;
use crate::stages::{Files, Inputs, Keeper, Reading};
use crate::store::{Pruned, Store};
use crate::vm::proxy::{Policy, Proxy, Upstream};
use crate::vm::{Accel, Accelerator, Disk, LinkError, Session, VmError};
use crate::workspace::Workspace;
use particle_vm_protocol::message::{Built, Deployed};
use particle_vm_protocol::{FailureKind, Job, JobResult};
use std::path::Path;
use std::sync::Arc;

/// A build whose VM runs.
pub struct Build {
    // The VM first: its disks lie in the folders below it.
    session: Session,
    waits: bool,
    folder: OutputFolder,
    _workspace: Workspace,
    events: Events,
    recipe: Recipe,
    machine: BootConfig,
    planned: Planned,
    proxy: Proxy,
    keeper: Option<Keeper>,
    cache_bytes: Option<u64>,
    files: Arc<Files>,
    manifest: Manifest,
    key: Option<Arc<SigningKey>>,
}

/// A build whose disk and archives are made, and whose VM has ended: there is one image, which nobody sees yet.
pub struct Made {
    folder: OutputFolder,
    events: Events,
    recipe: Recipe,
    machine: BootConfig,
    manifest: Manifest,
    contents: Contents,
}

impl Build {
    /// Check what can be checked before, and start the VM.
    ///
    /// # Errors
    /// When the host lacks something, or the VM does not start.
    pub async fn start(
        mut prepared: Prepared,
        options: &Options,
        dirs: &Dirs,
        accel: Accel,
        events: &Events,
    ) -> Result<Self> {
        let Prepared { recipe, formats, output, .. } = &prepared;
        let folder = OutputFolder::prepare(output, &recipe.name, formats, options.others, options.layout)?;
        let files = Reading::start(&prepared.recipe);
        let host = Host::detect(dirs.clone(), accel, events).await?;
        let work_dir = options.work_dir.clone().unwrap_or_else(|| host.dirs.work());
        room(&prepared, &work_dir, &host, &options.sources)?;
        let workspace = Workspace::new(&work_dir)?;
        let appliance = host.appliance(&options.sources, events).await?;

        events.detail(format!("the guest may reach {}", prepared.planned.allow.join(", ")));
        let (policy, store) = (Policy::new(&prepared.planned.allow)?, Store::open_waiting(host.dirs.store()).await?);
        let proxy = Proxy::new(policy, store, Upstream::from_env()?, events.clone())?;
        let needs = prepared.planned.needs;
        let mut config = host.vm(&appliance, workspace.path());
        config.memory_mib = needs.memory_mib;
        config.cpus = needs.cpus;
        let files = Arc::new(files.finish().await?);
        let appliance_digest = appliance.digest();
        let of = (&prepared, options, &files);
        let mut scratch =
            Scratch::of(of, appliance_digest, (proxy.store(), &host.dirs), workspace.path(), events).await?;
        scratch.attach(&mut config);
        let disk = |path, bytes| (bytes > 0).then_some(Disk { path, bytes });
        config.target = disk(folder.target(), needs.target_bytes);
        config.archive = disk(folder.archive(), needs.archive_bytes);
        if let Some(base) = prepared.base.as_ref().filter(|_| scratch.done() == 0) {
            config.base_share = Some(base.unpack(workspace.path(), events).await?);
        }
        config.work_share = Files::are_used(&prepared.recipe).then(|| prepared.recipe.folder().to_owned());
        config.network = Some(proxy.clone());
        let session = Session::start(&config, events).await.inspect_err(|_| scratch.doubt(events))?;

        if session.accelerator() == Accelerator::Kvm {
            prepared.facts.emulated = false;
            prepared.planned = plan(&prepared.recipe, &prepared.facts, &options.overrides)?;
        }
        scratch.enter(&mut prepared.planned.plan);
        let manifest = manifest(&prepared, &appliance, &host, session.accelerator(), options);
        let image = boot::Options { image: folder.target(), work_dir: Some(work_dir), ..boot::Options::default() };
        let machine = boot::config(&image, &host, &appliance, session.accelerator());
        let Prepared { recipe, planned, key, .. } = prepared;
        let (waits, _workspace) = (false, workspace);
        let Inputs { inputs, omitted: inputs_omitted } = std::mem::take(&mut scratch.fetched);
        let manifest = Manifest { reused: scratch.tell(&planned.plan, events), inputs, inputs_omitted, ..manifest };
        let keeper = scratch.keeper;
        Ok(Self {
            session,
            waits,
            folder,
            _workspace,
            events: events.clone(),
            recipe,
            machine,
            planned,
            proxy,
            keeper,
            cache_bytes: options.cache_bytes,
            files,
            manifest,
            key,
        })
    }

    /// Run the stages and make the disk.
    ///
    /// # Errors
    /// When a stage fails, or the VM does.
    pub async fn run(&mut self) -> Result<Built> {
        let job = Job::Build(Box::new(self.planned.plan.clone()));
        let result = self.session.run(job).await;
        self.session.keep_no_more();
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
        match result {
            Ok(JobResult::Built(built)) => Ok(built),
            Ok(_) => Err(VmError::from(LinkError::Unexpected("a build tells what it built")).into()),
            Err(error) => {
                self.waits = matches!(&error, VmError::Failed(failure) if failure.kind != FailureKind::Cancelled);
                let record = self.proxy.record();
                Err(explain(error, record.failures(), record.advice()))
            }
        }
    }

    /// Remove what has not been used for the longest time from a store that has become too large.
    async fn limit_store(&self) {
        let Some(keep) = self.cache_bytes else { return };
        let store = self.proxy.store().clone();
        match tokio::task::spawn_blocking(move || store.prune(keep)).await {
            Ok(Ok(Pruned { objects: 0, .. })) => {}
            Ok(Ok(Pruned { objects, bytes })) => {
                self.events.detail(format!("{objects} objects of {bytes} bytes were removed from the store"));
            }
            Ok(Err(error)) => self.events.warn(format!("the store is not made smaller: {error}")),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// The VM, when a stage failed and it waits with everything in place.
    pub fn failed_stage(&mut self) -> Option<&mut Session> {
        self.waits.then_some(&mut self.session)
    }

    /// Power the VM off; its disks but the image's are given back.
    ///
    /// # Errors
    /// When the VM does not end well.
    pub async fn stop(self, built: Built) -> Result<Made> {
        self.limit_store().await;
        let step = self.events.step("stop VM", None, Unit::Items);
        self.session.power_off().await?;
        step.finish();
        let base = self.planned.plan.base.as_ref();
        let contents = Contents { key: self.key, ..contents(&self.recipe, base, &built) };
        if !contents.is_sound(&self.planned.plan.archives, self.planned.needs.archive_bytes) {
            return Err(EngineError::Archives.into());
        }
        let checksums = built.deployed.iter().flat_map(|Deployed { commit, content }| [commit, content]);
        if let Some(wrong) = checksums.into_iter().find(|checksum| !digest::is_hex(checksum)) {
            return Err(EngineError::Deployed { checksum: wrong.chars().take(100).collect() }.into());
        }
        let mut manifest = self.manifest;
        manifest.packages = built.packages;
        manifest.content_bytes = built.content_bytes;
        manifest.scratch_bytes = built.scratch_bytes;
        manifest.deployed = built.deployed;
        manifest.recipe.files = self.files.manifest();
        let fetched = self.proxy.record();
        manifest.inputs.extend(fetched.inputs());
        manifest.inputs_omitted += fetched.omitted();
        if manifest.inputs_omitted > 0 {
            self.events.warn(format!("{} requests were too many for the manifest", manifest.inputs_omitted));
        }
        let Self { folder, events, recipe, machine, .. } = self;
        Ok(Made { folder, events, recipe, machine, manifest, contents })
    }
}

impl Made {
    /// Run the recipe's tests in the image, on each firmware that it is for. `fate` is what will become of it if it does
    /// not pass. The image is not changed.
    ///
    /// # Errors
    /// When it does not boot, or a test fails.
    pub async fn test(&self, fate: Fate) -> Result<()> {
        if self.recipe.tests.is_empty() {
            self.events.warn("the recipe has no tests");
            return Ok(());
        }
        let firmwares = boot::firmwares(&self.recipe);
        Ok(boot::run_tests(&self.machine, &self.recipe.tests, &firmwares, fate, &self.events).await?)
    }

    /// Make the outputs of the image, and put them in their places. `record` has listened to the build.
    ///
    /// # Errors
    /// When an output cannot be made.
    pub async fn publish(self, record: &mut Record) -> Result<()> {
        self.folder.publish(self.manifest, &self.contents, record, &self.events).await?;
        Ok(())
    }
}

/// Is there room for the scratch disk, the target, the outputs, and the appliance when it has to be built first?
fn room(prepared: &Prepared, work_dir: &Path, host: &Host, sources: &Sources) -> Result<()> {
    let estimate = space::Estimate::from(&prepared.planned.needs);
    let mut needs = space::needs(work_dir, &prepared.output, &host.dirs.store(), &estimate, &prepared.formats);
    needs.extend(host.appliance_need(sources)?);
    Ok(space::check(&needs)?)
}

fn manifest(
    prepared: &Prepared,
    appliance: &Appliance,
    host: &Host,
    accelerator: Accelerator,
    options: &Options,
) -> Manifest {
    let kernel = nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned());
    let manifest = Manifest::new(
        manifest::Recipe {
            name: prepared.recipe.name.clone(),
            path: options.input.name(),
            sha256: prepared.recipe.sha256(),
            variables: options.variables.clone(),
            plan: prepared.planned.digest.clone(),
            files: Default::default(),
        },
        manifest::Appliance { digest: appliance.digest().into(), kernel: appliance.kernel_release().into() },
        manifest::Host {
            accelerator: accelerator.name().into(),
            qemu: host.hypervisor.version().to_string(),
            kernel: kernel.unwrap_or_default(),
            cpus: prepared.planned.needs.cpus,
            memory_mib: prepared.planned.needs.memory_mib,
        },
    );
    let firmware = if prepared.recipe.makes_disk() { boot::firmwares(&prepared.recipe) } else { Vec::new() };
    Manifest { firmware, ..manifest }
}
