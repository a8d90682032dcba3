//! Names in layers: always beneath the root of the image.

use super::error::Fault;
use super::limits;

/// The path that an entry's name stands for: its parts with single slashes between them, empty for the root itself.
///
/// The specification (image-spec, layer.md) wants names that are relative to the root, and says nothing of others. An
/// absolute one can mean only the root of the image; podman, Docker and ostree take it so. No builder writes `..`, ostree
/// refuses it, and what it means depends on symlinks; so it is refused.
pub(super) fn normal(name: &[u8]) -> Result<Vec<u8>, Fault> {
    let refused = |reason: &str| {
        let shown = String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
        Fault::refused(format!("the name {shown:?} {reason}"))
    };
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(refused("has `..` in it")),
            _ if part.contains(&0) => return Err(refused("has a NUL in it")),
            _ if part.len() > limits::NAME => return Err(refused("has a part that is longer than 255 bytes")),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() >= limits::PATH {
        return Err(refused("is longer than 4095 bytes"));
    }
    Ok(path)
}

/// The folder of `path` and its name in there; none for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    })
}

/// For messages: with a slash before it, and without control characters.
pub(super) fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_beneath_the_root_or_refused() {
        let normal = |name: &[u8]| normal(name).map_err(|_| ());
        assert_eq!(normal(b"./usr//lib/./x/").unwrap(), b"usr/lib/x");
        assert_eq!(normal(b"/etc/passwd").unwrap(), b"etc/passwd");
        assert_eq!((normal(b"./").unwrap(), normal(b"/").unwrap()), (vec![], vec![]));
        assert_eq!(normal(b"caf\xe9").unwrap(), b"caf\xe9");
        for name in [&b"../x"[..], b"a/../../x", b"a/..", b"/..", b"a\0b"] {
            assert!(normal(name).is_err(), "{name:?}");
        }
        assert!(normal(&[b'a'; 255]).is_ok() && normal(&[b'a'; 256]).is_err());
        assert!(normal(&b"ab/".repeat(1365)).is_ok() && normal(&b"ab/".repeat(1366)).is_err());
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split(b""), None);
    }
}
