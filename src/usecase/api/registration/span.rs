//! A span of time as a client writes it: a text such as `2m 30s`, or a number of seconds.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// A span of time that is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span {
    Text(String),
    Seconds(i64),
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Either)
    }
}

struct Either;

/// Numbers that no `i64` holds become the nearest one, which is beyond every limit as they are.
impl Visitor<'_> for Either {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("string or integer")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        Ok(Span::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
        Ok(Span::Seconds(seconds))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Span, E> {
        Ok(Span::Seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    /// `5.0` is an integer, and so is `1e3`.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Span, E> {
        if number.fract() != 0.0 {
            return Err(E::custom("expected string or integer"));
        }
        let beyond = if number < 0.0 { i64::MIN } else { i64::MAX };
        // A float is shown with all its digits and without a zero fraction. Adding zero makes 0 of -0.
        let shown = (number + 0.0).to_string();
        Ok(Span::Seconds(shown.parse().unwrap_or(beyond)))
    }
}

/// The schema of an optional span of time.
pub(super) fn schema(
    description: &str,
    examples: [&str; 2],
    seconds: std::ops::RangeInclusive<u64>,
) -> RefOr<Schema> {
    let types = [Type::String, Type::Integer, Type::Null];
    let number = |limit: &u64| i64::try_from(*limit).unwrap_or(i64::MAX);
    let object = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(types))
        .description(Some(description))
        .examples(examples)
        .pattern(Some(
            r"^(?:[0-9]{1,5} ?(?:ms|s|m)|[0-9]{1,3} ?(?:h|d|days))$",
        ))
        .minimum(Some(number(seconds.start())))
        .maximum(Some(number(seconds.end())));
    RefOr::T(object.into())
}
