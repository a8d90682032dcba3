//! PID 1 of the appliance.

use particle_vm_guest_agent::{job, power};
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this program is the init of particle-vm's appliance and runs as PID 1 only");
        return ExitCode::from(2);
    }
    power::off_on_panic();
    job::serve()
}
