//! Digests, as the OCI Image Format Specification has them ("Digests"): `sha256:` and lower-case hexadecimal. Other
//! algorithms are allowed there and used nowhere.

use super::error::Problem;
use sha2::{Digest as _, Sha256};

/// The hexadecimal part of `digest`, when it is a SHA-256.
pub fn sha256(digest: &str) -> Option<&str> {
    digest.strip_prefix("sha256:").filter(|hex| is_hex(hex))
}

/// Whether `text` is a SHA-256 in lower-case hexadecimal.
pub fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The digest of `bytes`.
pub fn of(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}

/// The digest of what was put into `hash`.
pub fn finish(hash: Sha256) -> String {
    format!("sha256:{}", hex::encode(hash.finalize()))
}

/// Compare `bytes` with the digest that names them.
///
/// # Errors
/// When they are others.
pub fn check(what: &str, digest: &str, bytes: &[u8]) -> Result<(), Problem> {
    equal(what, digest, of(bytes))
}

/// Compare two digests.
///
/// # Errors
/// When they differ.
pub fn equal(what: &str, digest: &str, found: String) -> Result<(), Problem> {
    if digest == found {
        return Ok(());
    }
    Err(Problem::Digest { what: what.to_owned(), digest: digest.to_owned(), found })
}
