//! One property's value, as the derive of a struct asks for it.

use std::fmt;

use serde::{
    de::{self, Deserializer, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use super::members::without_place;
use crate::{
    api::{problem::words, request::integer::integer},
    usecase::api::violation::Rule,
};

/// The value of a property; `None` when it is absent or null.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) name: &'static str,
    pub(super) raw: Option<&'a RawValue>,
}

impl<'a> Value<'a> {
    fn json(self) -> Result<&'a str, Wrong<'a>> {
        let json = self.raw.map(RawValue::get);
        json.ok_or_else(|| self.wrong(words::EXPECTED_PROPERTY))
    }

    /// The integer, when it is within the limits of its type.
    fn integer<T: TryFrom<i128> + Into<i128>>(self, least: T, most: T) -> Result<T, Wrong<'a>> {
        let found = integer(self.json()?).ok_or_else(|| self.wrong(words::EXPECTED_INTEGER))?;
        T::try_from(found).map_err(|_| {
            let rule = match found {
                ..0 => Rule::AtLeast(least.into()),
                0.. => Rule::AtMost(most.into()),
            };
            self.wrong(words::expected(&rule))
        })
    }

    fn not_read(self, json: &'a str, why: serde_json::Error) -> Wrong<'a> {
        if why.is_data() {
            return self.wrong(without_place(&why));
        }
        Wrong {
            syntax: Some((json, why)),
            ..self.wrong("")
        }
    }

    fn wrong(self, message: impl Into<String>) -> Wrong<'a> {
        Wrong {
            property: Some(self.name),
            message: message.into(),
            syntax: None,
        }
    }
}

impl<'de> IntoDeserializer<'de, Wrong<'de>> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// For each of these types of an integer, the method that its `Deserialize` calls.
macro_rules! integers {
    ($($integer:ident: $deserialize:ident, $visit:ident;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
            let integer = self.integer($integer::MIN, $integer::MAX)?;
            visitor.$visit(integer).map_err(|wrong: Wrong<'_>| wrong.at(self.name))
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Wrong<'de>;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        match self.raw {
            Some(_) => visitor.visit_some(self),
            None => visitor.visit_none(),
        }
    }

    integers! {
        i8: deserialize_i8, visit_i8;
        i16: deserialize_i16, visit_i16;
        i32: deserialize_i32, visit_i32;
        i64: deserialize_i64, visit_i64;
        u8: deserialize_u8, visit_u8;
        u16: deserialize_u16, visit_u16;
        u32: deserialize_u32, visit_u32;
        u64: deserialize_u64, visit_u64;
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        if !self.json()?.starts_with('"') {
            return Err(self.wrong(words::EXPECTED_STRING));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong<'de>> {
        let wrong = |wrong: Wrong<'de>| wrong.at(self.name);
        visitor.visit_newtype_struct(self).map_err(wrong)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong<'de>> {
        let json = self.json()?;
        let value = serde_json::Deserializer::from_str(json);
        let read = { value }.deserialize_enum(name, variants, visitor);
        read.map_err(|why| self.not_read(json, why))
    }

    /// Any other type, with serde_json's words for what is wrong.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong<'de>> {
        let json = self.json()?;
        let read = serde_json::Deserializer::from_str(json).deserialize_any(visitor);
        read.map_err(|why| self.not_read(json, why))
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Why a body does not fit its struct.
#[derive(Debug)]
pub(super) struct Wrong<'a> {
    pub(super) property: Option<&'static str>,
    pub(super) message: String,
    /// The part of the body that is not JSON, and why.
    pub(super) syntax: Option<(&'a str, serde_json::Error)>,
}

impl Wrong<'_> {
    /// The same, of a value that did not know its property's name.
    fn at(mut self, name: &'static str) -> Self {
        self.property.get_or_insert(name);
        self
    }
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong<'_> {}

impl de::Error for Wrong<'_> {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self {
            property: None,
            message: why.to_string(),
            syntax: None,
        }
    }
}
