//! `sources`: where the image gets its packages from.

use super::{Site, work, wrong};
use crate::tree::Tree;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::{KEYRING_EXTENSIONS, Source, Sources, keyring_extension};
use sha2::{Digest, Sha256};

/// The keyring of Debian's archive in the image; apt depends on the package that has it.
const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where keyrings of further sources belong, sources.list(5).
const KEYRINGS: &str = "/etc/apt/keyrings";

/// Sources of one-line style.
const LIST: &str = "/etc/apt/sources.list";

/// Further sources, of either style.
const PARTS: &str = "/etc/apt/sources.list.d";

/// The package lists.
const LISTS: &str = "/var/lib/apt/lists";

/// The architectures that dpkg installs packages of, when there are foreign ones.
const ARCHITECTURES: &str = "/var/lib/dpkg/arch";

/// Write the sources.
pub(super) fn perform(site: &mut Site<'_>, options: &Sources) -> Result<(), Failure> {
    if !options.keep {
        remove_all(site.tree()?)?;
    }
    options.sources.iter().try_for_each(|source| add(site, source))
}

/// SHA-256 of the signed indexes of the package lists in `tree`, in hexadecimal: everything that apt installs from them
/// follows from these. (apt-pkg/acquire-item.cc, "InRelease".)
pub(super) fn indexes(tree: &Tree) -> Result<Vec<String>, Failure> {
    let is_index = |name: &String| name.ends_with("_InRelease") || name.ends_with("_Release");
    let names = tree.names(LISTS)?.into_iter().filter(is_index);
    let digests = names.map(|name| {
        let digest = Sha256::digest(tree.read(&format!("{LISTS}/{name}"))?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    });
    digests.collect()
}

/// Remove all sources, with the keyrings that [`add`] has given them.
pub(super) fn remove_all(tree: &Tree) -> Result<(), Failure> {
    for file in tree.names(PARTS)? {
        let Some(name) = file.strip_suffix(".sources") else { continue };
        for extension in KEYRING_EXTENSIONS {
            tree.remove(&format!("{KEYRINGS}/{name}.{extension}"))?;
        }
    }
    tree.remove(LIST)?;
    Ok(tree.clear(PARTS, |_| false)?)
}

/// Write one source, with its keyring.
pub(super) fn add(site: &Site<'_>, source: &Source) -> Result<(), Failure> {
    let tree = site.tree()?;
    let keyring = match &source.keyring {
        None => ARCHIVE_KEYRING.to_owned(),
        Some(file) => {
            let path = format!("{KEYRINGS}/{}.{}", source.name, extension(file)?);
            tree.write(&path, work::read(file)?, 0o644)?;
            path
        }
    };
    let path = format!("{PARTS}/{}.sources", source.name);
    Ok(tree.write(&path, stanza(source, &keyring)?, 0o644)?)
}

/// The extension of a keyring's name. apt tells the formats apart by it.
pub(super) fn extension(file: &str) -> Result<&'static str, Failure> {
    keyring_extension(file)
        .ok_or_else(|| wrong(format!("the keyring `{file}` must end in .asc (armoured) or in .gpg or .pgp (binary)")))
}

/// A stanza of sources.list(5).
pub(super) fn stanza(source: &Source, keyring: &str) -> Result<String, Failure> {
    let fields = [
        ("Types", source.types.join(" ")),
        ("URIs", source.uris.join(" ")),
        ("Suites", source.suites.join(" ")),
        // An exact path as suite (`./`) goes without components.
        ("Components", source.components.join(" ")),
        ("Signed-By", keyring.to_owned()),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        if value.chars().any(char::is_control) {
            return Err(wrong(format!("`{name}` of the source `{}` has a line break or the like in it", source.name)));
        }
        if !value.is_empty() {
            text += &format!("{name}: {value}\n");
        }
    }
    Ok(text)
}

/// All sources as they are now, with the architectures that they are asked for and the names of the lists that have been
/// fetched: to see whether the lists are there and still belong to the sources.
pub(super) fn state(tree: &Tree) -> Result<String, Failure> {
    let mut text = tree.read_text(LIST)?;
    // The names of lists are URLs with `_` for `/`; the other names are of apt's locks and folders.
    let lists: Vec<_> = tree.names(LISTS)?.into_iter().filter(|name| name.contains('_')).collect();
    text += &format!("\0{}\0{}", tree.read_text(ARCHITECTURES)?, lists.join("\0"));
    for name in tree.names(PARTS)? {
        let path = format!("{PARTS}/{name}");
        if tree.is_file(&path) {
            text += &format!("\0{name}\0{}", tree.read_text(&path)?);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            name: "debian".into(),
            types: vec!["deb".into()],
            uris: vec!["http://deb.example.org/debian".into()],
            suites: vec!["trixie".into(), "trixie-updates".into()],
            components: vec!["main".into()],
            keyring: None,
        }
    }

    #[test]
    fn a_source_is_a_stanza() {
        let text = stanza(&source(), ARCHIVE_KEYRING).unwrap();
        assert_eq!(
            text,
            "Types: deb\nURIs: http://deb.example.org/debian\nSuites: trixie trixie-updates\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
    }

    #[test]
    fn a_value_cannot_add_a_field() {
        let source = Source { suites: vec!["trixie\nTrusted: yes".into()], ..source() };
        assert!(stanza(&source, ARCHIVE_KEYRING).unwrap_err().message.contains("Suites"));
    }
}
