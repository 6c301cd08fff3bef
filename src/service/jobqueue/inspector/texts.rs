//! How an id may be written in JSON. Redis looks for these texts, which costs less than to read the JSON of all
//! jobs. What it finds is read, so a text that stands elsewhere by chance does no harm.

use std::collections::BTreeSet;

/// All usual ways in which a JSON library writes `text`, without the quotes: as it is, or with escapes for what
/// is not ASCII, for the slash, or for what means something in HTML.
pub(super) fn of(text: &str) -> Vec<String> {
    let mut ways = BTreeSet::new();
    for escape in [None, Some(lower as fn(u16) -> String), Some(upper)] {
        for slash in [false, true] {
            for html in [false, true] {
                ways.insert(written(text, escape, slash, html));
            }
        }
    }
    ways.into_iter().collect()
}

fn written(text: &str, escape: Option<fn(u16) -> String>, slash: bool, html: bool) -> String {
    let escaped = escape.unwrap_or(lower);
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '/' if slash => out.push_str("\\/"),
            '<' | '>' | '&' | '\'' if html => out.push_str(&escaped(char as u16)),
            char if char.is_ascii_control() => out.push_str(&escaped(char as u16)),
            char if char.is_ascii() || escape.is_none() => out.push(char),
            char => {
                let mut units = [0; 2];
                for unit in char.encode_utf16(&mut units) {
                    out.push_str(&escaped(*unit));
                }
            }
        }
    }
    out
}

fn lower(unit: u16) -> String {
    format!("\\u{unit:04x}")
}

fn upper(unit: u16) -> String {
    format!("\\u{unit:04X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_ids_are_written_in_one_way() {
        for id in ["0190-ab", "1000-7", "order:5_x", "a\"b"] {
            assert_eq!(of(id).len(), 1, "{id}");
        }
    }

    #[test]
    fn every_way_is_the_same_text() {
        for id in ["日本🎉/é", "a<b>&c", "q\"\\\n\u{7}/"] {
            let ways = of(id);
            for way in &ways {
                let read: String = serde_json::from_str(&format!("\"{way}\"")).unwrap();
                assert_eq!(read, id, "{way}");
            }
            let serde = serde_json::to_string(id).unwrap();
            assert!(ways.contains(&serde.trim_matches('"').to_owned()) || id.contains('"'));
        }
        assert!(of("é").contains(&"\\u00e9".to_owned()));
        assert!(of("é").contains(&"\\u00E9".to_owned()));
        assert!(of("🎉").contains(&"\\ud83c\\udf89".to_owned()));
        assert!(of("a/b").contains(&"a\\/b".to_owned()));
    }
}
