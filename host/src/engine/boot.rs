//! The verbs `boot` and `test`: an image in a machine with its firmware.

use super::host::{Host, Sources, processors};
use super::{EngineError, Fate};
use crate::appliance::Appliance;
use crate::boot::{self, BootConfig, Image};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::event::Events;
use crate::output::{Format, Manifest};
use crate::recipe::{self, Recipe, Test};
use crate::vm::{Accel, Accelerator};
use particle_vm_protocol::stage::Firmware;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Memory in MiB when nobody says: enough for a server to come up.
const MEMORY_MIB: u64 = 1024;

/// Most processors when nobody says: booting is hardly parallel.
const MAX_CPUS: u32 = 2;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The image.
    pub image: PathBuf,
    /// The firmware; UEFI when nobody says.
    pub firmware: Option<Firmware>,
    /// Time for the machine to do what is expected of it.
    pub timeout: Option<Duration>,
    /// Folder for what the machine writes, instead of the cache.
    pub work_dir: Option<PathBuf>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Number of processors.
    pub cpus: Option<u32>,
    /// The acceleration that is wished for.
    pub accel: Accel,
    /// Where the firmware comes from: it is part of the appliance.
    pub sources: Sources,
}

/// The machine for an image.
///
/// # Errors
/// When the host lacks something.
pub async fn machine(options: &Options, events: &Events) -> Result<BootConfig> {
    // Before an appliance is made for an image that is not there.
    Image::find(&options.image)?;
    let host = Host::detect(Dirs::new()?, options.accel, events).await?;
    let appliance = host.appliance(&options.sources, events).await?;
    let accelerator = host.accelerator(&appliance, events).await?;
    Ok(config(options, &host, &appliance, accelerator))
}

/// The machine for an image, with the firmware of `appliance`.
pub(super) fn config(options: &Options, host: &Host, appliance: &Appliance, accelerator: Accelerator) -> BootConfig {
    BootConfig {
        qemu: host.hypervisor.program().to_owned(),
        accelerator,
        image: options.image.clone(),
        firmware: options.firmware.unwrap_or(Firmware::Uefi),
        uefi: Some(appliance.into()),
        memory_mib: options.memory_mib.unwrap_or(MEMORY_MIB),
        cpus: options.cpus.unwrap_or(processors().min(MAX_CPUS)),
        work_dir: options.work_dir.clone().unwrap_or_else(|| host.dirs.work()),
        timeout: options.timeout,
    }
}

/// The firmwares that an image of `recipe` is tested with: all that its bootloader is installed for.
pub fn firmwares(recipe: &Recipe) -> Vec<Firmware> {
    recipe::firmwares(recipe.bootloader(), recipe.disk.as_ref().map(|disk| disk.sector_size).unwrap_or_default())
}

/// Run `tests` in the image of `config` on each of `firmwares`. The first that it fails on ends it: most of what goes
/// wrong goes wrong on all of them. `fate` is what becomes of the image then.
///
/// # Errors
/// When the image does not boot, or a test fails.
pub async fn run_tests(
    config: &BootConfig,
    tests: &[Test],
    firmwares: &[Firmware],
    fate: Fate,
    events: &Events,
) -> std::result::Result<(), EngineError> {
    for &firmware in firmwares {
        let config = BootConfig { firmware, ..config.clone() };
        let tested = boot::run_tests(&config, tests, events).await;
        tested.map_err(|source| EngineError::Tests { firmware, fate, source })?;
    }
    Ok(())
}

/// The firmwares that the image in the folder of outputs boots on. What boots a container image is known since it was built.
pub fn firmwares_of_built(recipe: &Recipe, output: &Path) -> Vec<Firmware> {
    let known = built(recipe, output).map(|manifest| manifest.firmware).filter(|firmware| !firmware.is_empty());
    known.unwrap_or_else(|| firmwares(recipe))
}

/// The manifest of the last build of `recipe` in the folder of its outputs.
fn built(recipe: &Recipe, output: &Path) -> Option<Manifest> {
    Manifest::read(output).filter(|manifest| manifest.recipe.name == recipe.name)
}

/// The image of `recipe` in the folder of its outputs: the first disk that the manifest of its last build tells of. Without a
/// manifest it is the one that a build would make.
pub fn image(recipe: &Recipe, output: &Path) -> PathBuf {
    let formats = built(recipe, output).map(|manifest| manifest.outputs.iter().map(|output| output.format).collect());
    let formats: Vec<Format> = formats.unwrap_or_else(|| recipe.output.formats.clone());
    let disk = formats.into_iter().find(|format| format.is_disk()).unwrap_or(Format::Raw);
    output.join(disk.file_name(&recipe.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::manifest;
    use crate::recipe::Source;
    use std::collections::BTreeMap;

    const RECIPE: &str = "name: here
stages: [{ type: debootstrap, options: { suite: trixie } }]
disk: { size: 4GiB }
output: { formats: [vmdk, raw] }
";

    /// Writes the manifest of an earlier build of the recipe `name`.
    fn write_manifest(name: &str, formats: &[Format], output: &Path) {
        let recipe = manifest::Recipe {
            name: name.into(),
            path: "r.yml".into(),
            sha256: String::new(),
            variables: BTreeMap::new(),
            plan: String::new(),
            files: BTreeMap::new(),
        };
        let appliance = manifest::Appliance { digest: String::new(), kernel: String::new() };
        let host = manifest::Host {
            accelerator: "tcg".into(),
            qemu: String::new(),
            kernel: String::new(),
            cpus: 1,
            memory_mib: 1024,
        };
        let outputs = formats.iter().map(|format| manifest::Output {
            file: format!("{name}.{format}"),
            format: *format,
            size: 0,
            allocated: 0,
            virtual_size: Some(0),
            sha256: String::new(),
            container: None,
            commit: None,
        });
        let (outputs, firmware) = (outputs.collect(), vec![Firmware::Uefi]);
        let manifest = Manifest { outputs, firmware, ..Manifest::new(recipe, appliance, host) };
        std::fs::write(output.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    }

    #[test]
    fn the_image_is_the_one_that_was_built() {
        let output = tempfile::tempdir().unwrap();
        let output = output.path();
        let recipe = recipe::parse(Source::new("r.yml", RECIPE), output, &BTreeMap::new()).unwrap();
        assert_eq!(image(&recipe, output), output.join("here.vmdk"), "without a manifest");
        assert_eq!(firmwares_of_built(&recipe, output), []);
        write_manifest("here", &[Format::Qcow2, Format::Raw], output);
        assert_eq!(firmwares_of_built(&recipe, output), [Firmware::Uefi]);
        assert_eq!(image(&recipe, output), output.join("here.qcow2"), "with a manifest that names another format");
        write_manifest("there", &[Format::Qcow2], output);
        assert_eq!(image(&recipe, output), output.join("here.vmdk"), "with the manifest of another recipe");
        assert_eq!(firmwares_of_built(&recipe, output), []);
    }
}
