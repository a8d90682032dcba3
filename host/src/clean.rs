//! What the guest says, without what could steer a terminal or forge lines of a log.

use std::borrow::Cow;

/// A line without what could move the cursor, recolour or retitle the terminal, or begin another line: what is printed
/// in a VM is not to be trusted.
pub fn line(line: &str) -> Cow<'_, str> {
    if !line.contains(|c: char| c.is_control()) {
        return Cow::Borrowed(line);
    }
    // A carriage return redraws a line, for instance a counter: what was written last counts.
    let last = line.trim_end_matches(['\r', '\n']).rsplit('\r').next().unwrap_or_default();
    let plain = console::strip_ansi_codes(last);
    let space = |c: char| if matches!(c, '\t' | '\n') { ' ' } else { c };
    Cow::Owned(plain.chars().map(space).filter(|c| !c.is_control()).collect())
}

/// The same for each line of a text.
pub fn lines(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_of_the_guest_do_not_reach_the_terminal() {
        assert_eq!(line("plain, with umlauts: äö"), "plain, with umlauts: äö");
        assert_eq!(line("\x1b[31mred\x1b[0m\x07"), "red");
        assert_eq!(line("\x1b]0;title\x07after"), "after");
        assert_eq!(line("10%\r20%\r"), "20%");
        assert_eq!(line("a\tb\x00"), "a b");
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\nb\n"), "a b");
        assert_eq!(lines("\x1b[1ma\nb\x07\r\n"), "a\nb");
    }
}
