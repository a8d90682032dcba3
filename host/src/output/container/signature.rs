//! The signature of an OSTree commit, beside it in the repository (libostree, "Signing": detached metadata of the commit,
//! a GVariant of the type `a{sv}` whose `ostree.sign.ed25519` is an `aay` with the signatures of its bytes).

use crate::signing::{SIGNATURE, SigningKey};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest commit in bytes: OSTree's own limit for metadata (`OSTREE_MAX_METADATA_SIZE`).
const MAX_COMMIT: u64 = 128 << 20;

/// Longest file of a ref in bytes: a checksum and the end of the line.
const MAX_REF: u64 = 128;

/// The key of the signatures, with the byte that ends it and those that align the variant behind it to 8.
const KEY: &[u8; 24] = b"ostree.sign.ed25519\0\0\0\0\0";

/// Sign the commit in the repository at `folder`, which has this ref and this checksum, as the guest says.
pub(super) fn sign(folder: &Path, commit: Option<&(String, String)>, key: &SigningKey) -> io::Result<()> {
    let (reference, checksum) = commit.ok_or_else(|| io::Error::other("there is no commit to sign"))?;
    let named = refs(folder, reference)?;
    if named.trim_end() != checksum || checksum.len() != 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(io::Error::other("the ref in the repository does not name the commit that the VM has told of"));
    }
    let (first, rest) = checksum.split_at(2);
    let place = folder.join("objects").join(first);
    let mut commit = Vec::new();
    File::open(place.join(format!("{rest}.commit")))?.take(MAX_COMMIT).read_to_end(&mut commit)?;
    if hex::encode(Sha256::digest(&commit)) != *checksum {
        return Err(io::Error::other("the commit in the repository is not the one that the VM has told of"));
    }
    let metadata = metadata(&key.sign(&commit));
    File::create_new(place.join(format!("{rest}.commitmeta")))?.write_all(&metadata)
}

/// What a ref names. The repository has been unpacked with names that follow a grammar.
fn refs(folder: &Path, reference: &str) -> io::Result<String> {
    let mut name = folder.join("refs/heads");
    // No path of the guest's leads elsewhere.
    name.extend(reference.split('/').filter(|part| !matches!(*part, "" | "." | "..")));
    let mut text = String::new();
    File::open(name)?.take(MAX_REF).read_to_string(&mut text)?;
    Ok(text)
}

/// The dictionary with one signature, as GVariant serialises it (GLib, "GVariant specification"): offsets of ends come
/// after what they belong to, each in one byte here.
fn metadata(signature: &[u8; SIGNATURE]) -> Vec<u8> {
    let mut bytes = KEY.to_vec();
    // The list of one, whose element ends here.
    bytes.extend_from_slice(signature);
    bytes.push(SIGNATURE as u8);
    // Its type ends the variant.
    bytes.extend_from_slice(b"\0aay");
    // The entry: where its key ends.
    bytes.push(20);
    // The dictionary: where the entry ends.
    bytes.push(bytes.len() as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn ostree_reads_the_signature_and_openssl_finds_it_good() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let repo = format!("--repo={}", at("repo"));
        std::fs::create_dir(at("tree")).unwrap();
        run("ostree", &["init", &repo, "--mode=archive"]);
        let checksum = run("ostree", &["commit", &repo, "--branch=a", "--owner-uid=0", "--owner-gid=0", &at("tree")]);
        let checksum = String::from_utf8(checksum).unwrap().trim().to_owned();
        run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", &at("key")]);
        run("openssl", &["pkey", "-in", &at("key"), "-pubout", "-out", &at("public")]);
        let key = SigningKey::load(at("key").as_ref()).unwrap();
        let sign = |reference: &str, checksum: &str| {
            let commit = (reference.to_owned(), checksum.to_owned());
            super::sign(&folder.path().join("repo"), Some(&commit), &key)
        };
        sign("a", &checksum).unwrap();

        let shown = run("ostree", &["show", &repo, "--print-detached-metadata-key=ostree.sign.ed25519", &checksum]);
        let shown = String::from_utf8(shown).unwrap();
        let digits = shown.split("0x").skip(1).map(|byte| &byte[..2]);
        // Those of the first byte may stand alone, with the type before them.
        let signature = hex::decode(digits.collect::<String>()).unwrap();
        assert_eq!(signature.len(), SIGNATURE, "{shown}");
        std::fs::write(at("signature"), signature).unwrap();
        let commit = at(&format!("repo/objects/{}/{}.commit", &checksum[..2], &checksum[2..]));
        let verify = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &at("public"), "-in", &commit];
        run("openssl", &[&verify[..], &["-sigfile", &at("signature")]].concat());
        run("ostree", &["fsck", &repo]);

        let error = sign("a", &format!("{:0>64}", "1")).unwrap_err();
        assert!(error.to_string().contains("does not name the commit"), "{error}");
        assert!(sign("b", &checksum).is_err() && sign("../../key", "\u{e4}").is_err());
        assert!(super::sign(&folder.path().join("repo"), None, &key).is_err());
    }
}
