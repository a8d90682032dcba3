//! What a console shows: its text without escape sequences, and whether something awaited is among it.

use anstream::adapter::StripBytes;

/// What a console shows when nothing more will come, and what it means. People who boot by hand can still do something
/// about most of these; a test cannot.
const DEAD: [(&str, &str); 7] = [
    ("Kernel panic - not syncing", "its kernel panicked"),
    ("BdsDxe: No bootable option or device was found", "the firmware found nothing to boot"),
    ("UEFI Interactive Shell", "the firmware found nothing to boot"),
    ("No bootable device.", "the firmware found nothing to boot"),
    ("grub rescue>", "GRUB did not find its files"),
    ("Gave up waiting for root file system device", "its initramfs did not find the root file system"),
    ("You are in emergency mode", "systemd stopped in emergency mode"),
];

/// Something that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The text that was awaited.
    Expected,
    /// That nothing more will come.
    Dead(&'static str),
}

/// Looks at a console piece by piece.
pub(super) struct Watch {
    strip: StripBytes,
    expect: Option<String>,
    // The end of what has been looked at, as long as the longest text without its last byte.
    carry: Vec<u8>,
}

impl Watch {
    /// Watch for `expect`, if anything is awaited, and for signs of death.
    pub(super) fn new(expect: Option<&str>) -> Self {
        Self { strip: StripBytes::new(), expect: expect.map(str::to_owned), carry: Vec::new() }
    }

    /// The printable text of `piece`, and what is in it and what came before.
    pub(super) fn look(&mut self, piece: &[u8]) -> (Vec<u8>, Option<Seen>) {
        let text: Vec<u8> = self.strip.strip_next(piece).flatten().copied().collect();
        self.carry.extend_from_slice(&text);
        let seen = if self.expect.as_deref().is_some_and(|expect| self.has(expect)) {
            Some(Seen::Expected)
        } else {
            DEAD.iter().find(|(sign, _)| self.has(sign)).map(|(_, reason)| Seen::Dead(reason))
        };
        let longest = DEAD.iter().map(|(sign, _)| *sign).chain(self.expect.as_deref()).map(str::len).max();
        let kept = longest.unwrap_or(1).saturating_sub(1);
        self.carry.drain(..self.carry.len().saturating_sub(kept));
        (text, seen)
    }

    fn has(&self, text: &str) -> bool {
        text.is_empty() || self.carry.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(expect: &str, console: &[u8], piece: usize) -> Option<Seen> {
        let mut watch = Watch::new(Some(expect));
        console.chunks(piece).find_map(|piece| watch.look(piece).1)
    }

    #[test]
    fn a_text_is_seen_in_any_pieces() {
        let console = b"Debian GNU/Linux 13 demo ttyS0\r\n\r\ndemo login: ";
        for piece in 1..console.len() {
            assert_eq!(seen("demo login:", console, piece), Some(Seen::Expected));
            assert_eq!(seen("other login:", console, piece), None);
        }
    }

    #[test]
    fn colours_are_no_part_of_the_text() {
        let console =
            b"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.";
        for piece in [1, 7, console.len()] {
            assert_eq!(seen("[  OK  ] Reached target multi-user.target - Multi", console, piece), Some(Seen::Expected));
        }
    }

    #[test]
    fn signs_of_death_are_told_unless_they_are_what_was_awaited() {
        let console = b"\x1b[2J[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs";
        assert_eq!(seen("login:", console, 5), Some(Seen::Dead("its kernel panicked")));
        assert_eq!(seen("Kernel panic", console, 5), Some(Seen::Expected));
    }
}
