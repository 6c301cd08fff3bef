//! Decodes a body that must be one JSON object with known, optional properties.
//!
//! Serde's derive stops at the first error and knows no locations. Here every error
//! of a body is found, with its place and the value found there.

use std::{fmt, iter};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::problem::{ErrorDetail, Problem};

/// What JSON counts as white space.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Some programs begin a text with it. A parser may ignore it (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// No `i64` has more digits.
const MAX_DIGITS: usize = 19;

/// The known properties of a body, and what is wrong with it so far.
#[derive(Debug)]
pub(in crate::api) struct Object<'a> {
    text: &'a str,
    properties: Vec<(&'static str, Option<&'a RawValue>)>,
    errors: Vec<ErrorDetail>,
}

impl<'a> Object<'a> {
    /// Parses `text`, in which only properties named in `known` may occur, and those
    /// once. Text without anything in it stands for an object without properties.
    ///
    /// # Errors
    ///
    /// 400 when it is not JSON, 422 when it is not an object.
    pub(in crate::api) fn parse(text: &'a str, known: &[&'static str]) -> Result<Self, Problem> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut object = Self {
            text,
            properties: known.iter().map(|name| (*name, None)).collect(),
            errors: Vec::new(),
        };
        if text.trim_matches(WHITE_SPACE).is_empty() {
            return Ok(object);
        }
        // First the syntax of the whole text: `[1,}` is a bad text, not a good array.
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|why| not_json(text, text, &why))?;
        if !raw.get().starts_with('{') {
            let error = ErrorDetail::of_body("expected object", raw);
            return Err(Problem::invalid(vec![error]));
        }
        object
            .deserialize(&mut serde_json::Deserializer::from_str(text))
            .map_err(|why| not_json(text, text, &why))?;
        Ok(object)
    }

    /// The string at `name`; `None` when it is absent, null, or no string.
    ///
    /// # Errors
    ///
    /// 400 when the string holds half a surrogate pair, which is no character.
    pub(in crate::api) fn string(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        if !raw.get().starts_with('"') {
            self.fault(name, "expected string");
            return Ok(None);
        }
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|why| not_json(self.text, raw.get(), &why))
    }

    /// The integer at `name`; `None` when it is absent, null, or no integer.
    ///
    /// An integer beyond `i64` comes as its nearest value. `1.0` and `1e3` are integers, as in
    /// JSON Schema: some languages write a whole number of their only numeric type so.
    pub(in crate::api) fn integer(&mut self, name: &'static str) -> Option<i64> {
        let raw = self.get(name)?;
        let value = integer(raw.get());
        if value.is_none() {
            self.fault(name, "expected integer");
        }
        value
    }

    /// Notes that the value at `name` breaks a rule.
    pub(in crate::api) fn fault(&mut self, name: &str, message: impl Into<String>) {
        if let Some(raw) = self.get(name) {
            self.errors
                .push(ErrorDetail::of_property(name, message, raw));
        }
    }

    /// All that is wrong, in the order in which it was found.
    pub(in crate::api) fn into_errors(self) -> Vec<ErrorDetail> {
        self.errors
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.properties
            .iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, raw)| *raw)
            .filter(|raw| raw.get() != "null")
    }

    fn take(&mut self, name: &str, raw: &'a RawValue) {
        let message = match self.properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot @ None)) => {
                *slot = Some(raw);
                return;
            }
            // Parsers disagree on which of the two counts: better none.
            Some((_, Some(_))) => "duplicate property",
            None => "unexpected property",
        };
        self.errors
            .push(ErrorDetail::of_property(name, message, raw));
    }
}

impl<'de> DeserializeSeed<'de> for &mut Object<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Object<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            self.take(&name, raw);
        }
        Ok(())
    }
}

/// Says what is no JSON in `part`, which is a part of the body `text`, and where in the body.
fn not_json(text: &str, part: &str, why: &serde_json::Error) -> Problem {
    let (line, column) = (why.line(), why.column());
    let whole = why.to_string();
    let what = whole.strip_suffix(&format!(" at line {line} column {column}"));
    let line_start = iter::once(0)
        .chain(part.match_indices('\n').map(|(newline, _)| newline + 1))
        .nth(line.saturating_sub(1))
        .unwrap_or(part.len());
    // serde_json's column is the number of bytes of the line up to and with the wrong one.
    let in_part = (line_start + column).saturating_sub(1).min(part.len());
    let offset = part.as_ptr().addr() - text.as_ptr().addr() + in_part;
    let what = what.unwrap_or(&whole);
    Problem::not_json(
        format!("{what} at {}", place(text.as_bytes(), offset)),
        text,
    )
}

/// Where the byte at `offset` of a body is, as an editor shows it: lines and columns count
/// from 1, a column is a character, and a byte order mark is none.
pub(super) fn place(body: &[u8], offset: usize) -> String {
    let is_begin_of_character = |byte: &&u8| **byte & 0xc0 != 0x80;
    let before = &body[..offset.min(body.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n');
    let line_start = line_start.map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    // With the byte itself, which may be in the middle of a character.
    let up_to = &body[line_start..(offset + 1).min(body.len())];
    let mark = up_to.starts_with(BYTE_ORDER_MARK.as_bytes()) && line_start == 0;
    let column = up_to.iter().filter(is_begin_of_character).count() - usize::from(mark);
    format!("line {line} column {column}")
}

/// The value of a JSON number that is an integer, or the nearest `i64`. `None` for any other
/// number, and for the text of any other JSON value.
///
/// Exact, however long the number is: it never goes through a float.
fn integer(json: &str) -> Option<i64> {
    let (is_negative, number) = match json.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, json),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // An exponent beyond `i64` shifts any number of a body beyond all bounds.
    let beyond = if exponent.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    let exponent: i64 = exponent.parse().unwrap_or(beyond);
    let len = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let zeroes = exponent
        .saturating_sub(len(fraction))
        .saturating_add(len(&digits) - len(significant));
    let zeroes = usize::try_from(zeroes).ok()?;
    let nearest = if is_negative { i64::MIN } else { i64::MAX };
    let significant = significant.trim_start_matches('0');
    if significant.len().saturating_add(zeroes) > MAX_DIGITS {
        return Some(nearest);
    }
    let sign = if is_negative { "-" } else { "" };
    let digits = format!("{sign}{significant}{}", "0".repeat(zeroes));
    Some(digits.parse().unwrap_or(nearest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn integers_are_numbers_without_a_fraction() {
        for (json, value) in [
            ("5.0", 5),
            ("-5.00", -5),
            ("5e0", 5),
            ("1e2", 100),
            ("1E+2", 100),
            ("1.25e2", 125),
            ("100e-2", 1),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("0.000e-400", 0),
            ("31622400.0", 31_622_400),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807.0", i64::MAX),
            ("0.000000000000000000000000000001e30", 1),
            ("9223372036854775.8070e3", i64::MAX),
            ("9223372036854775.806e3", i64::MAX - 1),
            ("1e400", i64::MAX),
            ("-1e400", i64::MIN),
            ("1e99999999999999999999", i64::MAX),
            ("0", 0),
            ("-0", 0),
            ("-1", -1),
            ("180", 180),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9223372036854775809", i64::MIN),
            (&"9".repeat(1000), i64::MAX),
        ] {
            assert_eq!(integer(json), Some(value), "{json}");
        }
        for json in [
            "5.5",
            "-0.5",
            "1e-1",
            "1.25e1",
            "9007199254740992.5",
            "-1e-400",
            "1e-99999999999999999999",
            "1.00000000000000000000000000000000000001",
            "\"10\"",
            "true",
            "null",
            "[1]",
            "{}",
            "\"\"",
        ] {
            assert_eq!(integer(json), None, "{json}");
        }
    }

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

    #[test]
    fn null_is_absent() {
        let text = r#"{"a": null, "b": null}"#;
        let mut object = Object::parse(text, &["a", "b"]).unwrap();
        assert_eq!(object.string("a").unwrap(), None);
        assert_eq!(object.integer("b"), None);
        assert!(object.into_errors().is_empty());
    }

    #[test]
    fn names_are_compared_after_decoding() {
        let mut object = Object::parse(r#"{"\u0061": 1}"#, &["a"]).unwrap();
        assert_eq!(object.integer("a"), Some(1));
        assert!(object.into_errors().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_only_json_is_taken(text in r#"\PC*|[\[\]{}",:\\a0-9eEu.+\- ]{0,40}"#) {
            let json = text.trim_matches(WHITE_SPACE).is_empty()
                || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            if let Ok(mut object) = Object::parse(&text, &["a", "0"]) {
                prop_assert!(json);
                prop_assert!(object.string("a").is_ok() || text.contains("\\u"));
                object.integer("0");
                for error in object.into_errors() {
                    let error = serde_json::to_string(&error).unwrap();
                    prop_assert!(serde_json::from_str::<Value>(&error).is_ok());
                }
            }
        }
    }
}
