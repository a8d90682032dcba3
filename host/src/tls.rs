//! TLS of the host's own connections: rustls, whose provider is compiled into the binary, with the certificate
//! authorities that this machine trusts.
//!
//! Sources: `SSL_CERT_FILE` and `SSL_CERT_DIR` as openssl(7ssl) has them; containers-certs.d(5).

use crate::error::{Class, Classify};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where certificate authorities of a single registry are, in folders that are named `HOST` or `HOST:PORT`.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The same in the user's configuration.
const USER_FOLDER: &str = "containers/certs.d";

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// No certificate authority is known, so that no server could be trusted.
    #[error("this machine trusts no certificate authority{}", .reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    NoRoots {
        /// What went wrong while they were looked for.
        reason: Option<String>,
    },
    /// The authorities of a single registry cannot be read.
    #[error("cannot read the certificates in {}", .path.display())]
    Folder {
        /// The file or the folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The provider of the cryptography does not do what rustls asks of it.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

impl Classify for TlsError {
    fn class(&self) -> Class {
        match self {
            Self::NoRoots { .. } | Self::Folder { .. } => Class::Host,
            Self::Setup(_) => Class::Internal,
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::NoRoots { .. } => Some(
                "install the package ca-certificates, or set SSL_CERT_FILE to a file with the certificates to trust"
                    .into(),
            ),
            Self::Folder { path, .. } => Some(format!("make {} readable, or remove it", path.display())),
            Self::Setup(_) => None,
        }
    }
}

/// TLS that trusts nobody, for a client that speaks plain http only and would look for authorities otherwise.
///
/// # Errors
/// When rustls cannot be set up.
pub fn none() -> Result<ClientConfig, TlsError> {
    config(RootCertStore::empty())
}

/// TLS that trusts what this machine trusts, and for `host` (`HOST` or `HOST:PORT`) also the authorities that are set up
/// for it alone.
///
/// # Errors
/// When nothing is trusted, or what is set up cannot be read.
pub fn for_host(host: &str) -> Result<ClientConfig, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some of what a distribution ships is not to the taste of every library.
    let (mut trusted, _) = roots.add_parsable_certificates(found.certs);
    let own = etcetera::base_strategy::Xdg::new().ok().map(|base| etcetera::BaseStrategy::config_dir(&base));
    let folders = SYSTEM_FOLDERS.iter().map(PathBuf::from).chain(own.map(|folder| folder.join(USER_FOLDER)));
    for folder in folders {
        trusted += roots.add_parsable_certificates(certificates_in(&folder.join(host))?).0;
    }
    if trusted == 0 {
        return Err(TlsError::NoRoots { reason: found.errors.first().map(ToString::to_string) });
    }
    config(roots)
}

fn config(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(TlsError::Setup)?.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates in the files `*.crt` of `folder`, which need not exist.
fn certificates_in(folder: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |path: &Path, source| TlsError::Folder { path: path.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        if path.extension() == Some(OsStr::new("crt")) {
            let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            found.extend(read.map_err(|error| failed(&path, io::Error::other(error)))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_holds_no_certificates() {
        let folder = tempfile::tempdir().unwrap();
        assert!(certificates_in(&folder.path().join("example.org")).unwrap().is_empty());
        std::fs::write(folder.path().join("bad.crt"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
            .unwrap();
        let error = certificates_in(folder.path()).unwrap_err();
        assert!(error.to_string().contains("bad.crt") && error.class() == Class::Host, "{error}");
        none().unwrap();
    }
}
