//! Why a stage failed, when the network had its part in it.

use super::EngineError;
use crate::apt::Reason;
use crate::error::Error;
use crate::vm::VmError;
use particle_vm_protocol::FailureKind;

/// A stage that fails because it got nothing from the network says so in its own words; the proxy knows better.
///
/// `failures` is what went wrong with downloads in that stage, `refused` the advice about hosts that it may not reach.
/// Not every download that fails is needed, so what the stage says decides whether they are the reason.
pub(super) fn explain(error: VmError, failures: Vec<String>, refused: Option<String>) -> Error {
    use FailureKind::{Agent, Command, Input};
    let VmError::Failed(mut failure) = error else { return error.into() };
    let output = failure.output.join("\n");
    let reason = Reason::of(&output);
    let told = matches!(reason, Reason::Unreachable | Reason::Hash | Reason::Signature)
        || failures.iter().any(|failure| names(&output, failure));
    // A deadline, and memory or space that ran out, are reasons of their own.
    let other = !matches!(failure.kind, Command | Input | Agent);
    match (refused, reason) {
        (Some(advice), _) if !other => EngineError::Refused { advice, source: VmError::Failed(failure) }.into(),
        _ if !other && told && !failures.is_empty() => {
            EngineError::Network { failures, source: VmError::Failed(failure) }.into()
        }
        (_, Reason::Signature | Reason::Hash | Reason::Date | Reason::Suite) if !other => {
            EngineError::Untrusted { reason, source: VmError::Failed(failure) }.into()
        }
        _ => {
            failure.output.extend(failures.into_iter().map(|failure| format!("(downloads of this stage) {failure}")));
            VmError::Failed(failure).into()
        }
    }
}

/// Whether `output` names the URL that `failure` begins with, or the host of the tunnel.
fn names(output: &str, failure: &str) -> bool {
    let what = failure.split_once(": ").map_or(failure, |(what, _)| what);
    let what = if what.contains("://") { what } else { what.rsplit_once(':').map_or(what, |(host, _)| host) };
    output.contains(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use particle_vm_protocol::Failure;

    const MISSING: &str = "http://m/optional: the server answered 404";

    fn explained(kind: FailureKind, output: &str, failure: &str, refused: Option<&str>) -> Error {
        let failed = Failure { kind, stage: None, message: "it failed".into(), output: vec![output.into()] };
        explain(failed.into(), vec![failure.into()], refused.map(str::to_owned))
    }

    fn is_network(error: &Error) -> bool {
        error.get().class() == Class::Network
    }

    #[test]
    fn a_download_that_nobody_needed_is_not_the_reason() {
        let error = explained(FailureKind::Command, "make: *** [all] Error 1", MISSING, None);
        assert!(!is_network(&error), "{error}");
        assert_eq!(
            error.get().details().as_deref(),
            Some("make: *** [all] Error 1\n(downloads of this stage) http://m/optional: the server answered 404")
        );
        let error = explained(FailureKind::OutOfMemory, "E: Failed to fetch http://m/optional", MISSING, None);
        assert!(!is_network(&error), "{error}");
        assert!(error.get().advice().is_some_and(|advice| advice.contains("--memory")));
    }

    #[test]
    fn a_download_that_the_stage_complains_of_is_the_reason() {
        assert!(is_network(&explained(FailureKind::Command, "E: Failed to fetch x  404", MISSING, None)));
        assert!(is_network(&explained(FailureKind::Command, "wget: http://m/optional: error 404", MISSING, None)));
        let tunnel = "git.example.org:443: cannot connect to git.example.org:443: Connection refused";
        let output = "fatal: unable to access 'https://git.example.org/x/': CONNECT tunnel failed";
        assert!(is_network(&explained(FailureKind::Command, output, tunnel, None)));
    }

    #[test]
    fn a_host_that_was_refused_comes_first() {
        let error = explained(FailureKind::Command, "E: Failed to fetch x  403", MISSING, Some("allow it"));
        assert_eq!(error.get().advice().as_deref(), Some("allow it"));
    }
}
