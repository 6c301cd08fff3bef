//! Decodes a body that must be one JSON object into a struct. The struct's derive of `Deserialize`
//! says which properties there are, and of which types they are.
//!
//! The properties are found here, as raw JSON, and then given to the derive. Two crates were tried
//! for this. serde_json (with serde_path_to_error) stops at the first error. eserde 0.1.7 reports
//! several errors, but:
//! - An unknown or repeated property still stops it.
//! - After an array in place of a string it reports an error of syntax that is none.
//! - It reports optional properties as missing when another one is wrong.
//!
//! With both crates `5.0` is no integer, `["a"]` is taken for an object, and an error does not have
//! the value that was found.

mod members;
mod value;

use serde::{
    de::{DeserializeOwned, Deserializer, Visitor, value::MapDeserializer},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use self::{
    members::{members, not_json},
    value::{Value, Wrong},
};
use super::place::BYTE_ORDER_MARK;
use crate::{
    api::{
        error_detail::ErrorDetail,
        problem::{Problem, words},
    },
    usecase::api::violation::Violation,
};

/// Decodes `text` into a `T`, which `check` turns into what the usecase takes.
///
/// Each property may occur once, and `null` is absent. An empty text stands for an object without
/// properties. An integer may be written as `5.0`. One that the type of its property cannot hold is
/// an error.
///
/// # Errors
///
/// 400 when the text is not JSON, or when a string has half a surrogate pair, which is not a
/// character. 422 with all other errors at once: those of `check` together with the properties that
/// are unknown, repeated, missing or of a wrong type.
pub(crate) fn decode<T: DeserializeOwned, U>(
    text: &str,
    check: impl FnOnce(T) -> Result<U, Vec<Violation>>,
) -> Result<U, Problem> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut object = Object {
        members: members(text)?,
        properties: Vec::new(),
        errors: Vec::new(),
    };
    let input = object.input(text)?;
    let checked = input.map(check).and_then(|checked| {
        let violations = checked.map_err(|violations| {
            for Violation { field, rule } in violations {
                object.add_error(field, words::expected(&rule));
            }
        });
        violations.ok()
    });
    match checked {
        Some(value) if object.errors.is_empty() => Ok(value),
        _ => Err(Problem::invalid(object.errors)),
    }
}

/// A body while it is decoded.
#[derive(Debug)]
struct Object<'a> {
    /// What was not compared with the struct's properties yet.
    members: Vec<(String, &'a RawValue)>,
    /// The properties of the struct. They are known once its derive was asked.
    properties: Vec<Property<'a>>,
    errors: Vec<ErrorDetail>,
}

#[derive(Debug)]
struct Property<'a> {
    name: &'static str,
    raw: Option<&'a RawValue>,
    /// Whether the value does not fit the struct. It is an error already, and the struct is tried
    /// without it, to find the other errors.
    is_wrong: bool,
}

impl<'a> Object<'a> {
    /// The struct without the values that do not fit it. `None` when it needs one of them.
    fn input<T: DeserializeOwned>(&mut self, text: &str) -> Result<Option<T>, Problem> {
        loop {
            let wrong = match T::deserialize(&mut *self) {
                Ok(input) => return Ok(Some(input)),
                Err(wrong) => wrong,
            };
            if let Some((part, why)) = wrong.syntax {
                return Err(not_json(text, part, &why));
            }
            let property = self.properties.iter_mut();
            match property
                .into_iter()
                .find(|it| Some(it.name) == wrong.property)
            {
                Some(property) if !property.is_wrong => property.is_wrong = true,
                _ => return Ok(None),
            }
            self.add_error(wrong.property.unwrap_or_default(), wrong.message);
        }
    }

    /// Finds the members that the struct has, each of them once; any other one is an error.
    fn sort(&mut self, names: &'static [&'static str]) {
        let property = |name: &&'static str| Property {
            name,
            raw: None,
            is_wrong: false,
        };
        self.properties = names.iter().map(property).collect();
        for (name, raw) in std::mem::take(&mut self.members) {
            let message = match self.properties.iter_mut().find(|it| it.name == name) {
                Some(property) if property.raw.is_none() => {
                    property.raw = Some(raw);
                    continue;
                }
                // Parsers disagree on which of two equal properties counts, so this takes neither.
                Some(_) => words::DUPLICATE_PROPERTY,
                None => words::UNEXPECTED_PROPERTY,
            };
            self.errors
                .push(ErrorDetail::of_property(&name, message, Some(raw)));
        }
    }

    fn add_error(&mut self, name: &str, message: impl Into<String>) {
        let property = self.properties.iter().find(|it| it.name == name);
        let raw = property.and_then(|it| it.raw);
        self.errors
            .push(ErrorDetail::of_property(name, message, raw));
    }
}

impl<'de> Deserializer<'de> for &mut Object<'de> {
    type Error = Wrong<'de>;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong<'de>> {
        if self.properties.is_empty() {
            self.sort(names);
        }
        let right = self.properties.iter().filter(|it| !it.is_wrong);
        let values = right.map(|it| {
            let raw = it.raw.filter(|raw| raw.get() != "null");
            (it.name, Value { name: it.name, raw })
        });
        visitor.visit_map(MapDeserializer::new(values))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Wrong<'de>> {
        unreachable!("cannot be called because only structs with a derive are decoded")
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
