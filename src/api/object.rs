//! Decodes a body that must be one JSON object with known, optional properties.
//!
//! Serde's derive stops at the first error and knows no locations. Here every error
//! of a body is found, with its place and the value found there.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::problem::{ErrorDetail, Problem};

/// What JSON counts as white space.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The known properties of a body, and what is wrong with it so far.
#[derive(Debug)]
pub(super) struct Object<'a> {
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
    pub(super) fn parse(text: &'a str, known: &[&'static str]) -> Result<Self, Problem> {
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
            serde_json::from_str(text).map_err(|why| Problem::not_json(why, text))?;
        if !raw.get().starts_with('{') {
            let error = ErrorDetail::of_body("expected object", raw);
            return Err(Problem::invalid(vec![error]));
        }
        object
            .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
            .map_err(|why| Problem::not_json(why, text))?;
        Ok(object)
    }

    /// The string at `name`; `None` when it is absent, null, or no string.
    ///
    /// # Errors
    ///
    /// 400 when the string holds half a surrogate pair, which is no character.
    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        if !raw.get().starts_with('"') {
            self.fault(name, "expected string");
            return Ok(None);
        }
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|why| Problem::not_json(format!("{name}: {why}"), self.text))
    }

    /// The integer at `name`; `None` when it is absent, null, or no integer.
    ///
    /// An integer beyond `i64` comes as its nearest value. `1.0` and `1e3` are no integers.
    pub(super) fn integer(&mut self, name: &'static str) -> Option<i64> {
        let raw = self.get(name)?;
        let value = integer(raw.get());
        if value.is_none() {
            self.fault(name, "expected integer");
        }
        value
    }

    /// Notes that the value at `name` breaks a rule.
    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        if let Some(raw) = self.get(name) {
            self.errors
                .push(ErrorDetail::of_property(name, message, raw));
        }
    }

    /// All that is wrong, in the order in which it was found.
    pub(super) fn into_errors(self) -> Vec<ErrorDetail> {
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

/// `json` is the text of any JSON value.
fn integer(json: &str) -> Option<i64> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let beyond = if json.len() > digits.len() {
        i64::MIN
    } else {
        i64::MAX
    };
    Some(json.parse().unwrap_or(beyond))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn integers_are_digits_and_a_sign() {
        for (json, value) in [
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
            "1.0", "1e2", "1e400", "-0.5", "\"10\"", "true", "null", "[1]", "{}", "\"\"",
        ] {
            assert_eq!(integer(json), None, "{json}");
        }
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
