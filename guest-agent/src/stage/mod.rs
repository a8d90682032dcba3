//! The stages of a build, one file for each type.

mod accounts;
mod again;
mod ahead;
mod apt;
mod bootc;
mod bootloader;
mod bootupd;
mod cleanup;
mod copy;
mod debconf;
mod debootstrap;
mod files;
mod hostname;
mod initramfs;
mod keymap;
mod left;
mod locale;
mod ostree;
mod run;
mod sources;
mod suites;
mod systemd;
mod timezone;
mod users;
mod work;

use crate::chroot::{Chroot, Devices};
use crate::context::Context;
use crate::disk::fstab;
use crate::paths;
use crate::process::Command;
use crate::report::{self, Explain};
use crate::tree::Tree;
use left::Left;
use nix::unistd::syncfs;
use particle_vm_protocol::{Failure, FailureKind, Plan, Stage};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Options of apt(8) while stages run. They do not stay in the image.
const APT_CONF: [&str; 6] = [
    "APT::Get::Assume-Yes \"true\";",
    "APT::Sandbox::User \"root\";",
    "APT::Update::Error-Mode \"any\";",
    "Acquire::Languages \"none\";",
    "Acquire::Retries \"2\";",
    "Dpkg::Use-Pty \"false\";",
];

/// Options of dpkg(1) while stages run. They do not stay in the image.
///
/// Nothing on the scratch disk need survive a power cut: it is thrown away, or kept after a sync. What a recipe has
/// changed in a configuration file stays; a question about it would have no one to answer it.
const DPKG_OPTIONS: [&str; 3] = ["force-unsafe-io", "force-confdef", "force-confold"];

/// What the stages of one build work on.
#[derive(Debug)]
pub struct Site<'a> {
    context: &'a Context,
    plan: &'a Plan,
    /// Whether the tree is a deployment, of which only `/etc` and `/var` can be written to.
    in_deployment: bool,
    inside: Option<Inside>,
    /// What the stages so far leave to the next beside the tree.
    left: Left,
}

/// A tree that has been made.
#[derive(Debug)]
struct Inside {
    tree: Tree,
    chroot: Chroot,
}

impl<'a> Site<'a> {
    /// Without a tree yet.
    pub fn new(context: &'a Context, plan: &'a Plan) -> Self {
        Self { context, plan, in_deployment: false, inside: None, left: Left::nothing() }
    }

    /// With the tree that an earlier build has made on this scratch disk.
    ///
    /// # Errors
    /// When it cannot be prepared for running commands in it.
    pub fn resume(context: &'a Context, plan: &'a Plan) -> Result<Self, Failure> {
        let mut site = Self { left: Left::load()?, ..Self::new(context, plan) };
        if Path::new(paths::TREE).exists() {
            site.enter()?;
        }
        Ok(site)
    }

    /// In the deployment that is mounted at [`paths::TREE`], to which stages have brought the files `own` already.
    ///
    /// # Errors
    /// When it cannot be prepared for running commands in it.
    pub fn in_deployment(context: &'a Context, plan: &'a Plan, own: BTreeSet<String>) -> Result<Self, Failure> {
        let mut site = Self { in_deployment: true, ..Self::new(context, plan) };
        site.left.own = own;
        site.enter()?;
        Ok(site)
    }

    /// Do what the stage at `index` of the plan says.
    ///
    /// # Errors
    /// When it fails.
    pub fn perform(&mut self, index: usize) -> Result<(), Failure> {
        let Some(planned) = self.plan.stages.get(index) else { return Ok(()) };
        if self.in_deployment {
            match &planned.stage {
                Stage::Debootstrap(_) | Stage::Apt(_) | Stage::Bootc(_) | Stage::Bootupd(_) => {
                    return Err(read_only(planned.stage.name()));
                }
                // They are done when the deployment is made and its boot loader installed.
                Stage::Kernel(_) | Stage::Bootloader(_) | Stage::BootcInstall(_) => return Ok(()),
                _ => {}
            }
        }
        let result = match &planned.stage {
            Stage::Debootstrap(options) => debootstrap::perform(self, options),
            Stage::Sources(options) => sources::perform(self, options),
            Stage::Apt(options) => apt::perform(self, index, options),
            Stage::Kernel(options) => apt::kernel(self, index, options),
            Stage::Locale(options) => locale::perform(self, options),
            Stage::Timezone(options) => timezone::perform(self, options),
            Stage::Keymap(options) => keymap::perform(self, options),
            Stage::Hostname(options) => hostname::perform(self, options),
            Stage::Users(options) => users::perform(self, options),
            Stage::Files(options) => files::perform(self, options),
            Stage::Copy(options) => copy::perform(self, options),
            Stage::Run(options) => run::perform(self, options),
            Stage::Systemd(options) => systemd::perform(self, options),
            Stage::Bootloader(options) => bootloader::perform(self, options),
            Stage::Bootc(options) => bootc::perform(self, options),
            Stage::Bootupd(options) => bootupd::perform(self, options),
            Stage::OstreeInit(options) => ostree::init(self, options),
            Stage::OstreeConfig(options) => ostree::config(self, options),
            Stage::OstreePull(options) => ostree::pull(self, options),
            Stage::OstreeRemotes(options) => ostree::remotes(self, options),
            // It is made of the finished tree.
            Stage::OstreeCommit(_) => ostree::prepare(self),
            // Each is a way to a deployment, and nothing that is done in a tree.
            Stage::BootcInstall(_) | Stage::OstreeDeploy(_) => Ok(()),
        };
        // They may have changed sources, preferences, the packages themselves.
        if let Stage::Sources(_) | Stage::Files(_) | Stage::Copy(_) | Stage::Run(_) = &planned.stage {
            self.left.requested.clear();
        }
        result
    }

    /// The paths that the recipe itself has put into the tree.
    pub fn own(&self) -> &BTreeSet<String> {
        &self.left.own
    }

    /// When the first stage began, of this build or of the one whose stages this one takes over.
    pub fn begin(&self) -> SystemTime {
        self.left.begin
    }

    /// Put everything that the stages so far have made on the scratch disk: all that [`Self::resume`] needs. While `keep` runs,
    /// nothing is written there; it gets the digests of the indexes that the tree's package lists come from.
    ///
    /// # Errors
    /// When the tree cannot be left or entered, something cannot be read or written, and as `keep`.
    pub fn settle(&mut self, keep: impl FnOnce(Vec<String>) -> Result<(), Failure>) -> Result<(), Failure> {
        let Some(Inside { tree, chroot }) = self.inside.take() else {
            self.sync()?;
            return keep(Vec::new());
        };
        chroot.pause().explain(FailureKind::Agent, || "cannot leave the tree")?;
        let indexes = sources::indexes(&tree)?;
        self.sync()?;
        keep(indexes)?;
        self.enter()
    }

    fn sync(&self) -> Result<(), Failure> {
        self.left.save()?;
        let written = File::open(paths::SCRATCH).and_then(|scratch| Ok(syncfs(&scratch)?));
        written.explain(FailureKind::Agent, || "cannot write the scratch disk")
    }

    /// Whether there is a tree.
    pub fn has_tree(&self) -> bool {
        self.inside.is_some()
    }

    /// How long the stage at `index` of the plan may take. Some do work for later ones, and have their time for it.
    pub fn deadline(&self, index: usize) -> Duration {
        ahead::deadline(self.plan, index)
    }

    /// The way to the host.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The tree.
    ///
    /// # Errors
    /// When no stage has made one.
    pub fn tree(&self) -> Result<&Tree, Failure> {
        self.inside().map(|inside| &inside.tree)
    }

    /// A command that runs in the tree.
    ///
    /// # Errors
    /// When there is no tree.
    pub fn command(&self, program: &str) -> Result<Command, Failure> {
        self.inside().map(|inside| Command::new(program).within(&inside.chroot))
    }

    /// Begin to work on the tree that has been made at [`paths::TREE`].
    ///
    /// # Errors
    /// When it cannot be prepared for running commands in it.
    pub fn enter(&mut self) -> Result<(), Failure> {
        let path = Path::new(paths::TREE);
        let tree = Tree::open(path).explain(FailureKind::Agent, || "cannot open the tree")?;
        let chroot = Chroot::enter(path, Devices::Minimal, &apt_conf(self.plan))
            .explain(FailureKind::Agent, || "cannot prepare the tree for running commands in it")?;
        self.inside = Some(Inside { tree, chroot });
        Ok(())
    }

    /// What comes when all stages have run: the mount table, and the initramfs, which depends on it. A deployment has a
    /// mount table of its own.
    ///
    /// # Errors
    /// When the initramfs cannot be made.
    pub fn complete(&self) -> Result<(), Failure> {
        let tree = self.tree()?;
        if let Some(disk) = self.plan.disk.as_ref().filter(|_| self.plan.deploys().is_none()) {
            let table = fstab::merge(&tree.read_text(fstab::PATH)?, disk);
            tree.write(fstab::PATH, table, 0o644)?;
        }
        initramfs::make(self)
    }

    /// End the work in the tree and clean it up. Nothing is mounted in it any more.
    ///
    /// # Errors
    /// When there is none, or something in it is in use.
    pub fn leave(mut self) -> Result<Tree, Failure> {
        let Inside { tree, chroot } = self.inside.take().ok_or_else(no_tree)?;
        chroot.leave().explain(FailureKind::Agent, || "cannot leave the tree")?;
        cleanup::clean(&tree, &self.left.own)?;
        Ok(tree)
    }

    /// End the work in a deployment. Nothing of the build is mounted in it any more.
    ///
    /// # Errors
    /// When there is none, or something in it is in use.
    pub fn leave_deployment(mut self) -> Result<Tree, Failure> {
        let Inside { tree, chroot } = self.inside.take().ok_or_else(no_tree)?;
        chroot.leave().explain(FailureKind::Agent, || "cannot leave the deployment")?;
        cleanup::clean_deployment(&tree, &self.left.own)?;
        Ok(tree)
    }

    fn inside(&self) -> Result<&Inside, Failure> {
        self.inside.as_ref().ok_or_else(no_tree)
    }

    /// Whether a program is installed in the tree.
    fn has_program(&self, name: &str) -> Result<bool, Failure> {
        let tree = self.tree()?;
        Ok(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| tree.is_file(&format!("{folder}/{name}"))))
    }
}

/// The configuration of apt, and of dpkg when apt runs it, in a tree: the host's wishes, and what a build needs.
pub fn apt_conf(plan: &Plan) -> Vec<String> {
    let dpkg = DPKG_OPTIONS.map(|option| format!("Dpkg::Options:: \"--{option}\";"));
    apt_options(plan).map(str::to_owned).chain(dpkg).collect()
}

/// The part of it that is apt's own.
fn apt_options(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.apt_conf.iter().map(String::as_str).chain(APT_CONF)
}

fn no_tree() -> Failure {
    report::plain(FailureKind::Input, "there is no tree to work on: a build begins with the stage `debootstrap`")
}

/// Why a stage that installs something cannot work in a deployment.
fn read_only(what: &str) -> Failure {
    wrong(format!(
        "`{what}` would have to write to /usr, which is read-only in a deployment; do it in the container image, or before \
         the stage that deploys"
    ))
}

/// A failure because of what a stage's options say.
fn wrong(message: impl Into<String>) -> Failure {
    report::plain(FailureKind::Input, message)
}
