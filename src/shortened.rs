//! Makes a text of unknown length short enough for a log line or an answer.

/// How many bytes of a stranger's text are shown in one place at most.
pub(crate) const MAX_SHOWN_BYTES: usize = 128;

/// `text`, or its beginning and its length if it is longer than [`MAX_SHOWN_BYTES`].
pub(crate) fn shortened(text: &str) -> String {
    shortened_to(MAX_SHOWN_BYTES, text)
}

/// Like [`shortened`], with another limit.
pub(crate) fn shortened_to(bytes: usize, text: &str) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let start = &text[..text.floor_char_boundary(bytes)];
    format!("{start}… ({} bytes)", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_has_its_length() {
        assert_eq!(shortened_to(5, "hello"), "hello");
        assert_eq!(shortened_to(5, "hellos"), "hello… (6 bytes)");
        assert_eq!(shortened_to(4, "añob\u{1f980}"), "año… (9 bytes)");
        assert_eq!(shortened_to(7, "añob\u{1f980}"), "añob… (9 bytes)");
        assert!(shortened(&"\u{1f980}".repeat(50_000)).len() < MAX_SHOWN_BYTES + 20);
    }
}
