//! Where something is in a body, in the words of an editor.

/// Some programs begin a text with this mark. A parser may ignore it (RFC 8259, 8.1).
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The line and column of the byte at `offset` of a body.
///
/// As in an editor, both count from 1, a column is a character, and a byte order mark does not
/// count.
pub(super) fn place(body: &[u8], offset: usize) -> String {
    let begins_character = |byte: &&u8| **byte & 0xc0 != 0x80;
    let before = &body[..offset.min(body.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n');
    let line_start = line_start.map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    // The byte itself is included; it may be in the middle of a character.
    let up_to = &body[line_start..(offset + 1).min(body.len())];
    let has_mark = up_to.starts_with(BYTE_ORDER_MARK.as_bytes()) && line_start == 0;
    let column = up_to.iter().filter(begins_character).count() - usize::from(has_mark);
    format!("line {line} column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let at = |body: &str, offset| place(body.as_bytes(), offset);
        assert_eq!(at("{", 0), "line 1 column 1");
        assert_eq!(at("ab\r\nc", 4), "line 2 column 1");
        assert_eq!(at("\u{3042}\u{1f980}x", 7), "line 1 column 3");
        assert_eq!(at("\u{3042}\u{1f980}x", 5), "line 1 column 2");
        assert_eq!(at("\u{feff}x\n\u{feff}y", 3), "line 1 column 1");
        assert_eq!(at("\u{feff}x\n\u{feff}y", 8), "line 2 column 2");
        assert_eq!(at("", 0), "line 1 column 0");
        assert_eq!(place(b"a\xff", 1), "line 1 column 2");
    }
}
