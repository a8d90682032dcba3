//! How long a stage may take when the recipe does not say.

use particle_vm_protocol::Stage;
use std::time::Duration;

/// How much longer the same work takes without KVM (measured 8 to 15 times for package work, of which the network's
/// share does not grow).
const EMULATION: u32 = 6;

/// The deadline of `stage`.
pub fn of(stage: &Stage, emulated: bool) -> Duration {
    let minutes = match stage {
        Stage::Debootstrap(_) | Stage::Apt(_) | Stage::Run(_) | Stage::OstreePull(_) => 30,
        Stage::Kernel(_) | Stage::Bootc(_) => 20,
        // The initramfs, the commit, the disk and the deployment.
        Stage::OstreeDeploy(_) => 60,
        Stage::Copy(_) | Stage::Bootloader(_) | Stage::Locale(_) | Stage::Keymap(_) => 10,
        Stage::Sources(_)
        | Stage::Timezone(_)
        | Stage::Hostname(_)
        | Stage::Users(_)
        | Stage::Files(_)
        | Stage::Systemd(_)
        | Stage::BootcInstall(_)
        | Stage::Bootupd(_)
        | Stage::OstreeInit(_)
        | Stage::OstreeConfig(_)
        | Stage::OstreeRemotes(_)
        | Stage::OstreeCommit(_) => 5,
    };
    Duration::from_secs(60 * minutes) * if emulated { EMULATION } else { 1 }
}
