//! Cutting a command's output into lines, as a terminal would show them.

/// Longest line in bytes; a longer one goes on in the next.
pub const MAX_LINE: usize = 8 << 10;

/// Most bytes that an unfinished UTF-8 character can have.
const UNFINISHED: usize = 3;

/// Bytes go in, lines come out.
///
/// A carriage return begins the line anew and a backspace takes a character back, so that of a progress display only its
/// last state becomes a line.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// A carriage return was seen and nothing after it yet.
    returned: bool,
}

impl Lines {
    /// Take `bytes` and call `emit` with each line that is complete.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(&mut emit),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.line.clear();
                    }
                    if byte == 8 {
                        take_back(&mut self.line);
                    } else {
                        self.line.push(byte);
                    }
                    if self.line.len() >= MAX_LINE {
                        self.cut(&mut emit);
                    }
                }
            }
        }
    }

    /// The output has ended: what is left is the last line.
    pub fn finish(&mut self, mut emit: impl FnMut(String)) {
        if !self.line.is_empty() {
            self.end(&mut emit);
        }
    }

    fn end(&mut self, emit: &mut impl FnMut(String)) {
        self.returned = false;
        show(&std::mem::take(&mut self.line), emit);
    }

    /// Show what there is of a line that is too long, without cutting through a character.
    fn cut(&mut self, emit: &mut impl FnMut(String)) {
        let end = match std::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.line.len(),
        };
        // With invalid bytes before, the first error is not at the end; then up to one character is cut through.
        let end = end.max(self.line.len() - UNFINISHED);
        let rest = self.line.split_off(end);
        show(&std::mem::replace(&mut self.line, rest), emit);
    }
}

/// Remove the last character.
fn take_back(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        // Continuation bytes of UTF-8 belong to the byte before.
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
}

fn show(line: &[u8], emit: &mut impl FnMut(String)) {
    let text = String::from_utf8_lossy(line);
    // Each invalid byte has become three.
    let mut rest = text.as_ref();
    while rest.len() > MAX_LINE {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
        emit(head.to_owned());
        rest = tail;
    }
    emit(rest.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        chunks.iter().for_each(|chunk| lines.push(chunk, |line| seen.push(line)));
        lines.finish(|line| seen.push(line));
        seen
    }

    #[test]
    fn a_line_may_come_in_pieces_and_the_last_without_an_end() {
        assert_eq!(lines(&[b"o", b"ne\n\nt", b"wo"]), ["one", "", "two"]);
        assert_eq!(lines(&[]), [""; 0]);
    }

    #[test]
    fn of_a_progress_display_the_last_state_is_kept() {
        assert_eq!(lines(&[b" 10%\r 20%\r", b"100%\r", b"\ndone\r\n"]), ["100%", "done"]);
        assert_eq!(lines(&[b"tables: 0/8\x08\x08\x08   \x08\x08\x08done\n"]), ["tables: done"]);
        assert_eq!(lines(&["ä\u{8}o\n".as_bytes()]), ["o"]);
        assert_eq!(lines(&[b"\x08\x08\n"]), [""]);
    }

    #[test]
    fn invalid_bytes_are_replaced() {
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "ä".repeat(MAX_LINE);
        let seen = lines(&[b"x", text.as_bytes()]);
        assert!(seen.iter().all(|line| line.len() <= MAX_LINE));
        assert_eq!(seen.concat(), format!("x{text}"));
        let seen = lines(&[&[0xff; MAX_LINE]]);
        assert!(seen.iter().all(|line| line.len() <= MAX_LINE));
        assert_eq!(seen.concat(), "\u{fffd}".repeat(MAX_LINE));
    }
}
