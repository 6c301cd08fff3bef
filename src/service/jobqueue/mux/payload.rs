//! Reads the payload of a job as the type that its handler wants.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

/// Reads payloads as `P`.
pub(super) struct Decoder<P> {
    /// Whether `P` is a struct with named fields, also within an `Option` or a newtype, and so its JSON
    /// an object. (A payload of null is no payload, so it does not come here.)
    is_struct: bool,
    payload: PhantomData<fn() -> P>,
}

impl<P: DeserializeOwned> Decoder<P> {
    pub(super) fn new() -> Self {
        let asked = P::deserialize(Question);
        Self {
            is_struct: matches!(asked, Err(Asked::Struct)),
            payload: PhantomData,
        }
    }

    /// # Errors
    /// Says what is wrong with a payload that is no `P`.
    pub(super) fn decode(&self, payload: Option<&RawValue>) -> Result<P, String> {
        let Some(payload) = payload else {
            let empty = serde_json::from_str("null").or_else(|_| serde_json::from_str("{}"));
            return empty.map_err(|error| format!("the job has no payload: {error}"));
        };
        let json = payload.get();
        // serde would take an array of the fields' values as well.
        if self.is_struct && !json.trim_ascii_start().starts_with('{') {
            return Err("the payload is not a JSON object".to_owned());
        }
        serde_json::from_str(json).map_err(|error| format!("the payload cannot be read: {error}"))
    }
}

/// Has no value to give, and only notices what kind of value a type asks for.
struct Question;

#[derive(Debug)]
enum Asked {
    Struct,
    Other,
}

impl<'de> Deserializer<'de> for Question {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Asked> {
        Err(Asked::Other)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked::Struct)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Asked> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Asked {}

impl serde::de::Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn decode<P: DeserializeOwned>(json: Option<&str>) -> Result<P, String> {
        let raw = json.map(|json| RawValue::from_string(json.to_owned()).unwrap());
        Decoder::new().decode(raw.as_deref())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Mail {
        #[serde(default)]
        to: String,
    }

    #[test]
    fn a_struct_is_an_object_and_nothing_else() {
        let mail = |to: &str| Mail { to: to.to_owned() };
        assert_eq!(decode(Some(r#"{"to":"you"}"#)), Ok(mail("you")));
        #[derive(Debug, Deserialize)]
        struct Wrapped(#[expect(dead_code, reason = "it is only read")] Option<Box<Mail>>);
        let array = Some(r#"["you"]"#);
        for refused in [
            decode::<Mail>(array).map(drop),
            decode::<Option<Mail>>(array).map(drop),
            decode::<Wrapped>(array).map(drop),
        ] {
            assert_eq!(refused.unwrap_err(), "the payload is not a JSON object");
        }
        decode::<Wrapped>(Some(r#"{"to":"you"}"#)).unwrap();
        let error = decode::<Mail>(Some(r#"{"to":7}"#)).unwrap_err();
        assert!(
            error.starts_with("the payload cannot be read: invalid type"),
            "{error}"
        );
        assert_eq!(
            decode(Some(r#"["a","b"]"#)),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn a_payload_that_is_left_out_is_null_or_an_empty_object() {
        assert_eq!(decode(None), Ok(Mail { to: String::new() }));
        assert_eq!(decode(None), Ok(()));
        assert_eq!(decode(None), Ok(None::<u8>));
        let error = decode::<u8>(None).unwrap_err();
        assert!(error.starts_with("the job has no payload"), "{error}");
    }

    #[test]
    fn a_handler_may_ask_for_the_text_itself() {
        let raw: Box<RawValue> = decode(Some("[1e400]")).unwrap();
        assert_eq!(raw.get(), "[1e400]");
    }
}
