//! The members of a body, as raw JSON, and what is said of a body that is not JSON.

use std::{fmt, iter};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::api::{
    error_detail::ErrorDetail,
    problem::{Problem, words},
    request::place::place,
};

/// What JSON calls white space.
pub(super) const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The members of the object `text` in their order, those with equal names included.
pub(super) fn members(text: &str) -> Result<Vec<(String, &RawValue)>, Problem> {
    if text.trim_matches(WHITE_SPACE).is_empty() {
        return Ok(Vec::new());
    }
    // The syntax of the whole text comes first: `[1,}` is bad JSON (400), not an array (422).
    let raw: &RawValue = serde_json::from_str(text).map_err(|why| not_json(text, text, &why))?;
    if !raw.get().starts_with('{') {
        let error = ErrorDetail::of_body(words::EXPECTED_OBJECT, raw);
        return Err(Problem::invalid(vec![error]));
    }
    serde_json::from_str(text)
        .map(|Members(members)| members)
        .map_err(|why| not_json(text, text, &why))
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let members = iter::from_fn(|| map.next_entry().transpose());
                members.collect::<Result<_, _>>().map(Members)
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The error for `part`, a part of the body `text`, that is not JSON. It says where in the body.
pub(super) fn not_json(text: &str, part: &str, why: &serde_json::Error) -> Problem {
    let (line, column) = (why.line(), why.column());
    let line_start = iter::once(0)
        .chain(part.match_indices('\n').map(|(newline, _)| newline + 1))
        .nth(line.saturating_sub(1))
        .unwrap_or(part.len());
    // serde_json's column counts the bytes of the line, the wrong one included.
    let in_part = (line_start + column).saturating_sub(1).min(part.len());
    let offset = part.as_ptr().addr() - text.as_ptr().addr() + in_part;
    let message = words::at(without_place(why), &place(text.as_bytes(), offset));
    Problem::not_json(message, text)
}

/// What serde_json says of an error, without the place, which it counts differently.
pub(super) fn without_place(why: &serde_json::Error) -> String {
    let whole = why.to_string();
    let place = format!(" at line {} column {}", why.line(), why.column());
    whole.strip_suffix(&place).unwrap_or(&whole).to_owned()
}
