//! Where packages come from: apt, the mirror, the way to the network, the appliance.

use super::{Check, Request};
use crate::appliance::Appliance;
use crate::apt::{self, AptError};
use crate::child;
use crate::vm::proxy::Upstream;
use std::time::Duration;

/// How long apt-get may take to tell its version.
const QUESTION: Duration = Duration::from_secs(30);

/// The checks, and the appliance that a VM would be started with.
pub(super) async fn checks(request: &Request) -> (Vec<Check>, Option<Appliance>) {
    let mut checks = vec![apt_get().await];
    checks.extend(mirror(request).await);
    checks.push(proxies());
    let (check, appliance) = appliance(request).await;
    checks.push(check);
    (checks, appliance)
}

async fn apt_get() -> Check {
    let mut command = apt::command("apt-get");
    command.arg("--version");
    match child::run(command, QUESTION).await.map_err(AptError::from) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            Check::ok("apt", text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        }
        Err(AptError::Missing) => Check::warning(
            "apt",
            "there is no apt-get: this machine cannot build an appliance itself",
            "make one on a Debian machine (`particle-vm appliance export FILE`) and give it with --appliance",
        ),
        Err(error) => Check::failed("apt", error.into()),
    }
}

async fn mirror(request: &Request) -> Option<Check> {
    match apt::mirror(request.appliance.mirror.as_deref(), &request.dirs).await {
        Ok(mirror) => Some(Check::ok("mirror", mirror)),
        // Told already.
        Err(AptError::Missing) => None,
        Err(error) => Some(Check::failed("mirror", error.into())),
    }
}

fn proxies() -> Check {
    match Upstream::from_env() {
        Ok(upstream) => Check::ok("network", upstream.to_string()),
        Err(error) => Check::failed("network", error.into()),
    }
}

async fn appliance(request: &Request) -> (Check, Option<Appliance>) {
    match Appliance::present(&request.dirs, &request.appliance).await {
        Ok(Some(appliance)) => {
            let digest = appliance.digest().chars().take(12).collect::<String>();
            let finding = format!("{digest}, Linux {}, whole, with UEFI firmware", appliance.kernel_release());
            (Check::ok("appliance", finding), Some(appliance))
        }
        Ok(None) if request.appliance.appliance.is_some() => {
            (Check::ok("appliance", "in an archive, which the first build unpacks"), None)
        }
        Ok(None) => (Check::ok("appliance", "none yet; the first build makes it, which takes a few minutes"), None),
        Err(error) => (Check::failed("appliance", error.into()), None),
    }
}
