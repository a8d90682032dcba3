//! The key that signs what a build has made: ed25519 (RFC 8032), in a file of the person who builds. It never leaves the
//! host.

use crate::error::{Class, Classify};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest file of a key in bytes. One takes a hundred.
const MAX_FILE: u64 = 16 << 10;

/// Bytes of a signature (RFC 8032, 5.1.6).
pub const SIGNATURE: usize = 64;

/// Bytes of each half of a key (RFC 8032, 5.1.5).
const HALF: usize = 32;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum SigningError {
    /// The file cannot be read.
    #[error("cannot read the key {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no private ed25519 key", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// No output is of a kind that is signed.
    #[error("there is a key to sign with, and none of the formats is signed")]
    Nothing,
}

impl Classify for SigningError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "name a file with `--sign`, or leave it out".into(),
            Self::Form { .. } => {
                "make one with `openssl genpkey -algorithm ed25519 -out key.pem`; OSTree's own form, 64 bytes in base64, is \
                 taken too"
                    .into()
            }
            Self::Nothing => "add the format `ostree-repo`, or leave `--sign` out".into(),
        })
    }
}

/// A private key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key in a file: PKCS #8 in PEM (RFC 8410), or the seed and the public key in base64, as OSTree and libsodium have
    /// it.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn load(path: &Path) -> Result<Self, SigningError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(|source| SigningError::Read { path: path.to_owned(), source })?;
        let pair = if text.contains("-----BEGIN") { from_pem(&text) } else { from_base64(&text) };
        pair.map(Self).ok_or_else(|| SigningError::Form { path: path.to_owned() })
    }

    /// The signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE] {
        let mut bytes = [0; SIGNATURE];
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }

    /// The public half in base64, as `ostree.remotes` takes it.
    pub fn public(&self) -> String {
        BASE64_STANDARD.encode(self.0.public_key())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

fn from_pem(text: &str) -> Option<Ed25519KeyPair> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).ok()?;
    // OpenSSL leaves the public key out, which follows from the other.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()
}

fn from_base64(text: &str) -> Option<Ed25519KeyPair> {
    let bytes = BASE64_STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == 2 * HALF)?;
    let (seed, public) = bytes.split_at(HALF);
    Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1, as `openssl pkey` writes it.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                       -----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const SECRET: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

    #[test]
    fn both_forms_are_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for form in [PEM, SECRET] {
            std::fs::write(&path, form).unwrap();
            let key = SigningKey::load(&path).unwrap();
            assert_eq!(key.public(), PUBLIC);
            let signature = hex::encode(key.sign(b""));
            assert!(signature.starts_with("e5564300c360ac729086e2cc806e828a"), "{signature}");
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(SigningKey::load(&path), Err(SigningError::Read { .. })));
        for text in ["", "secret", PUBLIC, "-----BEGIN PRIVATE KEY-----\n", &PEM.replace("MC4C", "MC5C")] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(SigningKey::load(&path), Err(SigningError::Form { .. })), "{text}");
        }
    }
}
