//! Names of references, as the ostree-container tools make them of names of images (ostree-rs-ext, "refescape").

/// Where the commit of an image is.
const IMAGE: &str = "ostree/container/image";

/// Where the commits of layers are.
const BLOB: &str = "ostree/container/blob";

/// The reference for the image called `name`, `docker://host/name:tag`.
pub fn image(name: &str) -> String {
    format!("{IMAGE}/{}", escape(name))
}

/// The reference for the layer with the digest `sha256:...`.
pub fn blob(digest: &str) -> String {
    format!("{BLOB}/{}", escape(digest))
}

/// Letters, digits and `-` stand for themselves, `_` is doubled, and anything else is its number in hexadecimal between
/// two `_`; a slash is one if it stands after a letter or digit and not at the end.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    let mut before = None;
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '_' => escaped.push_str("__"),
            '-' => escaped.push('-'),
            _ if character.is_ascii_alphanumeric() => escaped.push(character),
            '/' if before.is_some_and(|before: char| before.is_ascii_alphanumeric()) && characters.peek().is_some() => {
                escaped.push('/');
            }
            _ => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escaped += &format!("_{byte:02X}_")),
        }
        before = Some(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_container_tools() {
        assert_eq!(blob("sha256:abc0"), "ostree/container/blob/sha256_3A_abc0");
        assert_eq!(
            image("docker://images.example.org/a_b/c-d:1.0"),
            "ostree/container/image/docker_3A__2F__2F_images_2E_example_2E_org/a__b/c-d_3A_1_2E_0"
        );
        assert_eq!(escape("a/"), "a_2F_");
    }
}
