//! One error in the list of a [`Problem`](super::problem::Problem): what is wrong, where, and the
//! value that was found there, made short and safe to parse.

use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use utoipa::ToSchema;

use crate::shortened::{MAX_SHOWN_BYTES, shortened};

/// One thing that is wrong with a body.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    message: String,
    #[schema(examples("body", "body.delay_seconds"))]
    location: String,
    /// What was found there; when long, its beginning as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    value: Option<Box<RawValue>>,
}

impl ErrorDetail {
    /// The body `text`, which is not JSON, is wrong.
    pub(crate) fn of_text(message: impl Into<String>, text: &str) -> Self {
        Self::of("body".to_owned(), message, Some(echo_text(text)))
    }

    /// The last entry of a list that leaves out some errors.
    pub(crate) fn of_count(message: String) -> Self {
        Self::of("body".to_owned(), message, None)
    }

    /// The body as a whole, whose JSON text is `raw`, is wrong.
    pub(crate) fn of_body(message: impl Into<String>, raw: &RawValue) -> Self {
        Self::of("body".to_owned(), message, Some(echo(raw)))
    }

    /// The property `name` is wrong. `raw` is the JSON text of its value, if it has one.
    pub(crate) fn of_property(
        name: &str,
        message: impl Into<String>,
        raw: Option<&RawValue>,
    ) -> Self {
        Self::of(format!("body.{}", shortened(name)), message, raw.map(echo))
    }

    fn of(location: String, message: impl Into<String>, value: Option<Box<RawValue>>) -> Self {
        Self {
            message: message.into(),
            location,
            value,
        }
    }
}

/// The value itself when it is short and every JSON parser accepts it, and a text otherwise.
///
/// Not every parser accepts all valid JSON: with `1e400`, a lone surrogate, or 200 nested arrays in
/// it, some clients could not read the answer at all.
fn echo(raw: &RawValue) -> Box<RawValue> {
    match serde_json::from_str(raw.get()) {
        Ok(Value::String(text)) => echo_text(&text),
        Ok(_) if raw.get().len() <= MAX_SHOWN_BYTES => raw.to_owned(),
        _ => echo_text(raw.get()),
    }
}

fn echo_text(text: &str) -> Box<RawValue> {
    to_raw_value(&shortened(text))
        .expect("cannot fail because a string can always be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_short_value_is_echoed_unchanged() {
        for text in [
            "-1",
            "1.0",
            "true",
            "null",
            "9223372036854775808",
            "[1, {}]",
            "\"10\"",
        ] {
            assert_eq!(echo(&raw(text)).get(), text);
        }
    }

    #[test]
    fn a_value_that_a_client_may_not_parse_is_echoed_as_text() {
        assert_eq!(echo(&raw("1e400")).get(), r#""1e400""#);
        assert_eq!(echo(&raw(r#""\ud800""#)).get(), r#""\"\\ud800\"""#);
    }

    #[test]
    fn a_value_of_any_length_and_depth_is_echoed_shortened() {
        let longest = format!("\"{}\"", "x".repeat(MAX_SHOWN_BYTES));
        assert_eq!(echo(&raw(&longest)).get(), longest);
        for text in [
            format!("\"{}\"", "x".repeat(MAX_SHOWN_BYTES + 1)),
            format!("\"{}\"", "\u{1f980}".repeat(10_000)),
            "1".repeat(1_000),
            format!("[{}0]", "0,".repeat(1_000)),
            format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)),
        ] {
            let echoed = echo(&raw(&text));
            let echoed: String = serde_json::from_str(echoed.get()).unwrap();
            assert!(echoed.ends_with(" bytes)"), "{echoed}");
            assert!(echoed.len() <= MAX_SHOWN_BYTES + 20, "{echoed}");
        }
    }
}
