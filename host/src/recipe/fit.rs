//! Whether the stages of a recipe fit the way in which its container image, or a commit, becomes a system.

use super::check::boot::lacking;
use super::check::names;
use super::finding::{Finding, Findings};
use super::image_disk::INSTEAD;
use super::layout::layout;
use super::path::Path;
use super::rootflags::{self, TELL, can_be_told};
use super::size::{MIB, Size};
use super::types::Recipe;
use particle_vm_protocol::stage::{Bootloader, BootloaderType};
use particle_vm_protocol::{Engine, PartitionKind, Stage};

/// What a deployment has of its own. Images have links to `/var` in the places of the others; one that has not is told
/// about when the stage runs.
const WRITABLE: [&str; 9] = ["etc", "var", "home", "root", "srv", "opt", "mnt", "tmp", "run"];

/// Least size of an EFI system partition that has kernels on it, and one with room for the next ones.
const LEAST_ESP: Size = Size(128 * MIB);
const ESP: Size = Size(512 * MIB);

/// What becomes a deployment, in words.
struct Source {
    /// With the article.
    name: &'static str,
    /// With the other article.
    indefinite: &'static str,
    /// The way out for stages that write elsewhere.
    instead: &'static str,
}

const IMAGE: Source = Source {
    name: "the container image",
    indefinite: "a container image",
    instead: "do it in the container image, or write `engine: plain`",
};

const COMMIT: Source =
    Source { name: "the commit", indefinite: "a commit", instead: "do it before the stage `ostree.deploy`" };

impl Recipe {
    /// Whether its stages and partitions fit `engine`.
    ///
    /// # Errors
    /// With what does not.
    pub fn fits(&self, engine: Engine) -> Result<(), Findings> {
        let findings = match engine {
            Engine::Plain => self.fits_plain(),
            Engine::NativeOstree | Engine::Bootc => self.fits_deployment(),
        };
        Findings::new(findings).map_or(Ok(()), Err)
    }

    /// Settle what boots a system of bootc's composefs backend. The kernel of the image may be `unified` with its command
    /// line.
    ///
    /// # Errors
    /// With what in the recipe is against it.
    pub fn settle_composefs(&mut self, unified: bool) -> Result<(), Findings> {
        let mut findings = Vec::new();
        let own = Bootloader { kind: BootloaderType::SystemdBoot, ..Bootloader::default() };
        let disk = self.disk.clone().unwrap_or_default();
        let partitions =
            layout(&disk, Some(self.bootloader().filter(|written| written.kind == own.kind).unwrap_or(&own)));
        let root = partitions.iter().position(|partition| partition.kind == PartitionKind::Root);
        let told = |root: &usize| unified && rootflags::argument_of_deployment(&partitions[*root]).is_some();
        if let Some(root) = root.filter(told) {
            let message =
                "the root has mount options, and the kernel of the image is a unified one, which cannot be told";
            let help = "write `rootflags=` into the unified kernel of the image";
            findings.push(self.of_partition(&partition(root).key("options"), message.into(), help, help));
        }
        for (index, stage) in self.stages.iter().enumerate() {
            let path = Path::root().key("stages").index(index);
            match &stage.stage {
                Stage::Bootloader(options) if options.kind == BootloaderType::Grub => {
                    let message = "the image is for bootc's composefs backend, whose disks get systemd-boot";
                    let help = "write `options: { type: systemd-boot }`, or remove the stage";
                    findings.push(self.finding(&path, message).help(help));
                }
                Stage::Kernel(options) if unified && !options.cmdline.is_empty() => {
                    findings.push(self.unified(&path.key("options").key("cmdline")));
                }
                Stage::BootcInstall(options) if unified && !options.kernel_args.is_empty() => {
                    findings.push(self.unified(&path.key("options").key("kernel_args")));
                }
                _ => {}
            }
        }
        findings.extend(self.esp_for_kernels());
        self.origin.bootloader = Some(own);
        Findings::new(findings).map_or(Ok(()), Err)
    }

    /// That nobody can add to the command line of the kernel, as is said at `path`.
    fn unified(&self, path: &Path) -> Finding {
        let message = "the kernel of the image is a unified one, which has its command line in it";
        self.finding(path, message).help("write it into the unified kernel of the image")
    }

    /// What is wrong with an EFI system partition that has to hold kernels. The one that a blueprint leaves to us becomes
    /// large enough.
    fn esp_for_kernels(&mut self) -> Option<Finding> {
        let ordered = self.origin.ordered;
        let partitions = self.disk.as_mut()?.partitions.as_mut()?;
        let list = Path::root().key("disk").key("partitions");
        let Some(index) = partitions.iter().position(|partition| partition.kind == PartitionKind::Esp) else {
            let message = "the image boots on UEFI only, from an EFI system partition, and there is none";
            return Some(self.finding(&list, message).help("add `- { kind: esp, size: 512MiB }`"));
        };
        let size = partitions[index].size.as_mut().filter(|size| **size < LEAST_ESP)?;
        if ordered {
            *size = ESP;
            return None;
        }
        let message = "systemd-boot keeps kernels on the ESP, and they do not fit";
        let help = format!("write at least `{LEAST_ESP}`; `{ESP}` leaves room for updates");
        Some(self.finding(&list.index(index).key("size"), message).help(help))
    }

    fn fits_plain(&self) -> Vec<Finding> {
        // What is no disk need not boot, and a commit of it is made to boot.
        if !self.makes_disk() {
            return Vec::new();
        }
        if self.deploys().is_some() {
            return self.of_commit();
        }
        if self.stages.iter().any(|stage| matches!(stage.stage, Stage::Bootloader(_))) {
            return self.untold_options();
        }
        let message = "the image becomes a plain system, and no stage makes it boot";
        let finding = self.finding(&Path::root().key("base-image"), message);
        let help = if self.origin.ordered {
            "write a recipe that has it as `base-image`, with the stages `kernel` and `bootloader`; or take an image with \
             the label `containers.bootc=1`"
        } else {
            "add the stage `bootloader`, and `kernel` if the image has none"
        };
        vec![finding.help(help)]
    }

    /// Options of the root that the kernel has to be told, and no stage tells it.
    fn untold_options(&self) -> Vec<Finding> {
        if self.stages.iter().any(|stage| matches!(stage.stage, Stage::Kernel(_))) {
            return Vec::new();
        }
        let partitions = layout(&self.disk.clone().unwrap_or_default(), self.bootloader());
        let findings = rootflags::untold(&partitions).map(|(index, option, message)| {
            self.of_partition(&partition(index).key("options").index(option), message, TELL, TELL)
        });
        findings.collect()
    }

    fn fits_deployment(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        // At the image, and not at the formats: those of the command line have no place in the recipe.
        for format in self.output.formats.iter().filter(|format| !format.is_disk()) {
            let message = format!("the image is deployed on a disk, and `{format}` is made of a tree of files");
            let finding = self.finding(&Path::root().key("base-image"), message);
            findings.push(finding.help("remove the format, or write `engine: plain`"));
        }
        self.in_deployment(&IMAGE, 0, &mut findings);
        findings.extend(self.unbootable());
        findings
    }

    /// Partitions that the bootloader of a deployment needs and does not have.
    fn unbootable(&self) -> Vec<Finding> {
        let Some(bootloader) = self.bootloader() else { return Vec::new() };
        let disk = self.disk.clone().unwrap_or_default();
        let list = Path::root().key("disk").key("partitions");
        let partitions = layout(&disk, Some(bootloader));
        let lacking = lacking(bootloader, disk.sector_size, &partitions);
        lacking.map(|(message, help)| self.of_partition(&list, message.into(), help, INSTEAD)).collect()
    }

    /// Whether its stages and partitions fit a commit that becomes the system, if one does.
    ///
    /// # Errors
    /// With what does not.
    pub(super) fn fits_commit(&self) -> Result<(), Findings> {
        Findings::new(self.of_commit()).map_or(Ok(()), Err)
    }

    fn of_commit(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(index) = self.deploys() {
            self.in_deployment(&COMMIT, index + 1, &mut findings);
        }
        findings
    }

    /// What is wrong with what stands at `path` of a partition: in the recipe, or in the `disk.yaml` of the image, which has
    /// no place in it and another way out, `instead`.
    fn of_partition(&self, path: &Path, message: String, help: &str, instead: &str) -> Finding {
        if self.is_written(path) {
            return self.finding(path, message).help(help.to_owned());
        }
        let message = format!("`disk.yaml` of the image: {message}");
        self.finding(&Path::root().key("base-image"), message).help(instead.to_owned())
    }

    /// What of the partitions, and of the stages from the one at `first`, a deployment of `source` has no place for.
    fn in_deployment(&self, source: &Source, first: usize, findings: &mut Vec<Finding>) {
        let Source { name, indefinite, instead } = *source;
        let mut wrong = |path: &Path, message: String, help: &str| {
            findings.push(self.finding(path, message).help(help.to_owned()));
        };
        let read_only = |path: &str| format!("`{path}` is read-only in a system that is deployed from {indefinite}");
        for (index, stage) in self.stages.iter().enumerate().skip(first) {
            let path = Path::root().key("stages").index(index);
            let options = path.key("options");
            match &stage.stage {
                Stage::Apt(_) | Stage::Debootstrap(_) | Stage::Bootc(_) | Stage::Bootupd(_) => {
                    let stage = stage.stage.name();
                    let message = format!("the stage `{stage}` writes to `/usr`, which is {name}'s here");
                    wrong(&path.key("type"), message, instead);
                }
                Stage::Kernel(_) if self.is_written(&options.key("package")) => {
                    let message = format!("the kernel comes from {name}");
                    wrong(&options.key("package"), message, "remove the key; `cmdline` can stay");
                }
                Stage::Files(files) => {
                    for file in files.files.keys().filter(|file| !is_writable(file)) {
                        wrong(&options.key("files").key(file), read_only(file), instead);
                    }
                }
                Stage::Copy(copy) if !is_writable(&copy.destination) => {
                    wrong(&options.key("destination"), read_only(&copy.destination), instead);
                }
                Stage::Users(users) => {
                    let homes = users.users.iter().filter_map(|(name, user)| Some((name, user.home.as_ref()?)));
                    for (name, home) in homes.filter(|(_, home)| !is_writable(home) && names::absolute(home)) {
                        let path = options.key("users").key(name).key("home");
                        wrong(&path, read_only(home), "for instance a folder in `/var/home`");
                    }
                }
                _ => {}
            }
        }
        for (index, it) in self.disk.iter().flat_map(|disk| &disk.partitions).flatten().enumerate() {
            let options = partition(index).key("options");
            // What an image says of its own root is true of a deployment anyway.
            let refused = |option: &str| !can_be_told(option) && (option != "ro" || self.is_written(&options));
            let root = it.kind == PartitionKind::Root;
            for (number, option) in it.options.iter().enumerate().filter(|(_, option)| root && refused(option)) {
                let message = format!(
                    "the root of a deployment is mounted with what the kernel is told, and not with `{option}`"
                );
                findings.push(self.of_partition(&options.index(number), message, "remove it", INSTEAD));
            }
            let own = matches!(it.kind, PartitionKind::Root | PartitionKind::Boot | PartitionKind::Esp);
            if let Some(point) = it.mountpoint.as_deref().filter(|point| !own && !is_writable(point)) {
                let path = partition(index).key("mountpoint");
                findings.push(self.of_partition(&path, read_only(point), "mount it beneath `/var`", INSTEAD));
            }
        }
    }
}

/// Where a partition stands in a recipe.
fn partition(index: usize) -> Path {
    Path::root().key("disk").key("partitions").index(index)
}

/// Whether a deployment can have something at `path`.
pub(super) fn is_writable(path: &str) -> bool {
    let first = path.split('/').find(|part| !part.is_empty()).unwrap_or_default();
    WRITABLE.contains(&first)
}
