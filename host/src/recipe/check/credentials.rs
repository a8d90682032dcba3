//! Passwords and keys.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Why `password` cannot be one, and what to do.
pub fn password(password: &str) -> Option<(&'static str, &'static str)> {
    if password.is_empty() {
        Some(("the password is empty", "remove the key: without it, no password is accepted"))
    } else if password.contains(char::is_control) {
        Some(("the password has a control character in it", "a password is one line"))
    } else if password.starts_with('$') && !is_hash(password) {
        Some((
            "the password begins with `$` and is no hash of crypt(5)",
            "make a hash with `openssl passwd -6`, and write it in single quotes",
        ))
    } else {
        None
    }
}

/// Whether `text` has the form of a hash that Debian's libcrypt verifies, crypt(5).
fn is_hash(text: &str) -> bool {
    let itoa64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/');
    let fields: Vec<&str> = text.split('$').skip(1).collect();
    let (Some(id), Some(hash)) = (fields.first(), fields.last()) else { return false };
    let (count, length) = match *id {
        "1" => (3..=3, 22),
        "5" => (3..=4, 43),
        "6" => (3..=4, 86),
        "y" | "gy" | "7" => (3..=4, 43),
        "2a" | "2b" | "2y" => (3..=3, 53),
        "sha1" => (4..=4, 28),
        _ => return false,
    };
    count.contains(&fields.len()) && hash.len() == length && hash.chars().all(itoa64)
}

/// Types of keys that OpenSSH accepts by default, sshd(8) and ssh-keygen(1).
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why `line` is no line of `authorized_keys`, and what to do.
pub fn ssh_key(line: &str) -> Option<(&'static str, &'static str)> {
    const PUBLIC: &str = "take the line of a `.pub` file: `ssh-ed25519 AAAA... comment`";
    if line.contains("PRIVATE KEY") {
        return Some(("this is a private key", "keep it to yourself; the recipe takes the line of the `.pub` file"));
    }
    if line.trim_end().contains(char::is_control) {
        return Some(("an ssh key is one line", PUBLIC));
    }
    // Options may stand before the type, and hold blanks in quotes; the type never does.
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| KEY_TYPES.contains(word)) else {
        return Some(match words.first() {
            Some(&"ssh-dss") => ("OpenSSH has given up keys of the type ssh-dss", "make another with `ssh-keygen`"),
            _ => ("this is not an ssh key", PUBLIC),
        });
    };
    let blob = words.get(at + 1).and_then(|text| BASE64_STANDARD.decode(text).ok());
    let inner = blob.as_deref().and_then(|blob| {
        let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?);
        blob.get(4..4 + usize::try_from(length).ok()?)
    });
    (inner != Some(words[at].as_bytes())).then_some(("this ssh key is cut off or damaged", PUBLIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_text() {
        let sha512 = format!("$6$salt${}", "a".repeat(86));
        let yescrypt = format!("$y$j9T$salt${}", "a".repeat(43));
        for good in ["secret", "pa$$word", &sha512, &yescrypt, &format!("$2b$12${}", "a".repeat(53))] {
            assert_eq!(password(good), None, "{good}");
        }
        for bad in ["", "$ecret", "$6$salt$short", &sha512[..90], "two\nlines"] {
            assert!(password(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn keys_are_looked_into() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@example.org";
        assert_eq!(ssh_key(key), None);
        assert_eq!(ssh_key(&format!("from=\"192.0.2.1 x\",no-pty {key}")), None);
        let other_type = key.replacen("ssh-ed25519", "ssh-rsa", 1);
        for bad in
            ["", "hello", "ssh-ed25519", &key[..12], &key[..20], &other_type, "-----BEGIN OPENSSH PRIVATE KEY-----"]
        {
            assert!(ssh_key(bad).is_some(), "{bad}");
        }
    }
}
