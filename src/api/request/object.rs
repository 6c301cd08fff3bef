//! Decodes a body that must be one JSON object with known, optional properties.
//!
//! serde's derive stops at the first error and knows no places. Here every error of a body is
//! found, with the property and the value.

use std::{fmt, iter};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    integer::integer,
    place::{BYTE_ORDER_MARK, place},
};
use crate::api::{
    error_detail::ErrorDetail,
    problem::{Problem, words},
};

/// What JSON calls white space.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A body while it is decoded: its known properties, and the errors that were found so far.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    text: &'a str,
    properties: Vec<(&'static str, Option<&'a RawValue>)>,
    errors: Vec<ErrorDetail>,
}

impl<'a> Object<'a> {
    /// Parses `text`. Only the properties that `known` names may occur, each of them once. An empty
    /// text stands for an object without properties.
    ///
    /// # Errors
    ///
    /// 400 when the text is not JSON, 422 when it is not an object.
    pub(crate) fn parse(text: &'a str, known: &[&'static str]) -> Result<Self, Problem> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut object = Self {
            text,
            properties: known.iter().map(|name| (*name, None)).collect(),
            errors: Vec::new(),
        };
        if text.trim_matches(WHITE_SPACE).is_empty() {
            return Ok(object);
        }
        // The syntax of the whole text comes first: `[1,}` is bad JSON (400), not an array (422).
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|why| not_json(text, text, &why))?;
        if !raw.get().starts_with('{') {
            let error = ErrorDetail::of_body(words::EXPECTED_OBJECT, raw);
            return Err(Problem::invalid(vec![error]));
        }
        object
            .deserialize(&mut serde_json::Deserializer::from_str(text))
            .map_err(|why| not_json(text, text, &why))?;
        Ok(object)
    }

    /// The string at `name`; `None` when it is absent, null, or no string. Only the last is an error
    /// of the body.
    ///
    /// # Errors
    ///
    /// 400 when the string has half a surrogate pair, which is not a character.
    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let Some(raw) = self.get(name) else {
            return Ok(None);
        };
        if !raw.get().starts_with('"') {
            self.add_error(name, words::EXPECTED_STRING);
            return Ok(None);
        }
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|why| not_json(self.text, raw.get(), &why))
    }

    /// The integer at `name`; `None` when it is absent, null, or no integer. Only the last is an
    /// error of the body.
    ///
    /// An integer that `i64` cannot hold becomes the nearest `i64`.
    pub(crate) fn integer(&mut self, name: &'static str) -> Option<i64> {
        let raw = self.get(name)?;
        let value = integer(raw.get());
        if value.is_none() {
            self.add_error(name, words::EXPECTED_INTEGER);
        }
        value
    }

    /// Notes an error: the value at `name` breaks a rule.
    pub(crate) fn add_error(&mut self, name: &str, message: impl Into<String>) {
        if let Some(raw) = self.get(name) {
            self.errors
                .push(ErrorDetail::of_property(name, message, raw));
        }
    }

    /// All errors, in the order in which they were found.
    pub(crate) fn into_errors(self) -> Vec<ErrorDetail> {
        self.errors
    }

    /// The value at `name`, unless it is absent or null.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.properties
            .iter()
            .find(|(known, _)| *known == name)
            .and_then(|(_, raw)| *raw)
            .filter(|raw| raw.get() != "null")
    }

    /// Keeps a property that is known and occurs for the first time; any other is an error.
    fn take(&mut self, name: &str, raw: &'a RawValue) {
        let message = match self.properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot @ None)) => {
                *slot = Some(raw);
                return;
            }
            // Parsers disagree on which of two equal properties counts, so this takes neither.
            Some((_, Some(_))) => words::DUPLICATE_PROPERTY,
            None => words::UNEXPECTED_PROPERTY,
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

/// The error for `part`, a part of the body `text`, that is not JSON. It says where in the body.
fn not_json(text: &str, part: &str, why: &serde_json::Error) -> Problem {
    let (line, column) = (why.line(), why.column());
    let whole = why.to_string();
    let what = whole.strip_suffix(&format!(" at line {line} column {column}"));
    let line_start = iter::once(0)
        .chain(part.match_indices('\n').map(|(newline, _)| newline + 1))
        .nth(line.saturating_sub(1))
        .unwrap_or(part.len());
    // serde_json's column counts the bytes of the line, the wrong one included.
    let in_part = (line_start + column).saturating_sub(1).min(part.len());
    let offset = part.as_ptr().addr() - text.as_ptr().addr() + in_part;
    let what = what.unwrap_or(&whole);
    Problem::not_json(words::at(what, &place(text.as_bytes(), offset)), text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

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
