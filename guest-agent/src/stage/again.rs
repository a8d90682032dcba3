//! Fetching packages once more when the wrong ones came.
//!
//! The host keeps what it has fetched by its URL, and a mirror that does not keep to Debian's rules may put another
//! package there, with the same version. Only apt(8) can tell, by the indexes. What is asked for a second time in one
//! stage the host fetches anew, so that a second attempt gets what the mirror has now.

use super::Site;
use particle_vm_protocol::{Failure, FailureKind};

/// What apt(8) says of a file that is not the one that the index announces.
const WRONG_BYTES: [&str; 2] = ["Hash Sum mismatch", "File has unexpected size"];

/// Do `attempt`, which fetches packages; once more, when it failed because wrong ones came.
pub(super) fn with_wrong_bytes(
    site: &Site<'_>,
    mut attempt: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    match attempt() {
        Err(failure) if has_wrong_bytes(&failure) => {
            site.context.output("once more, with packages that are fetched anew");
            attempt()
        }
        result => result,
    }
}

fn has_wrong_bytes(failure: &Failure) -> bool {
    let is_told = |line: &String| WRONG_BYTES.iter().any(|text| line.contains(text));
    failure.kind == FailureKind::Command && failure.output.iter().any(is_told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_are_told_from_other_failures() {
        let failure =
            |kind, line: &str| Failure { kind, stage: None, message: String::new(), output: vec![line.into()] };
        let mismatch = "E: Failed to fetch http://m/a_1_all.deb  Hash Sum mismatch";
        assert!(has_wrong_bytes(&failure(FailureKind::Command, mismatch)));
        let size =
            "E: Failed to fetch http://m/a_1_all.deb  File has unexpected size (3 != 5). Mirror sync in progress?";
        assert!(has_wrong_bytes(&failure(FailureKind::Command, size)));
        assert!(!has_wrong_bytes(&failure(FailureKind::Command, "E: Failed to fetch http://m/a_1_all.deb  404")));
        assert!(!has_wrong_bytes(&failure(FailureKind::Cancelled, mismatch)));
    }
}
