//! Reads settings: merges the sources, makes values of what they have, and makes the errors about it,
//! which name the source.
//!
//! The crate `config` merges the sources and keeps the origin of each value. Nothing else of it is used.
//! Its conversions quote a value in their errors (`string "s3cret"`), make the whole number 11 of 10.5,
//! and make the text `100000` of an unquoted password `1e5`. Its YAML files know no merge keys, so
//! `<<` would be an unknown field. Of a variable it says no more than "the environment".

use std::fmt;

use ::config::{Map, Source, ValueKind};

use super::error::{self, ConfigError};
use super::yaml::{Leaves, kind_of};
use crate::config::plain;
use crate::config::section::{Setting, Visitor};
use crate::config::value::{Form, Value};

/// One source: a file or a variable. The text of a variable stays text until its key is read as a
/// type: the password `1e5` must not become a number.
#[derive(Clone)]
pub(super) struct Layer {
    /// The file or variable, as the user names it.
    pub(super) origin: String,
    /// Our keys alone. `config` reads a key as a path: another program's `jobqueue[0]` would make a
    /// list of our section.
    pub(super) leaves: Leaves,
}

/// Shows no value, since it may be a secret.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    /// A key without a value, or with an empty text, changes nothing.
    fn collect(&self) -> Result<Map<String, ::config::Value>, ::config::ConfigError> {
        let given = self.leaves.iter().filter(|(key, value)| match value {
            ValueKind::Nil => false,
            // Blanks alone may be a password.
            ValueKind::String(text) if key.ends_with("password") => !text.is_empty(),
            ValueKind::String(text) => !text.trim().is_empty(),
            _ => true,
        });
        let value = |kind: &ValueKind| ::config::Value::new(Some(&self.origin), kind.clone());
        let values = given.map(|(key, kind)| (key.clone(), value(kind)));
        Ok(values.collect())
    }
}

/// The merged sources.
pub(super) struct Reader(::config::Config);

impl Reader {
    /// A later source replaces single keys of an earlier one.
    pub(super) fn new(sources: Vec<Layer>) -> Self {
        let merged = ::config::Config::builder().add_source(sources).build();
        Self(merged.expect("cannot fail because every source can be collected"))
    }

    fn find(&self, key: &str) -> Option<::config::Value> {
        let (section, name) = key.rsplit_once('.')?;
        // `get` would lose the origin.
        self.0.get_table(section).ok()?.remove(name)
    }

    /// The file or variable that has the value of a key.
    pub(super) fn origin(&self, key: &str) -> String {
        let value = self.find(key);
        let origin = value.as_ref().and_then(|value| value.origin());
        origin.unwrap_or("default value").to_owned()
    }
}

impl Visitor for Reader {
    type Error = ConfigError;

    /// The value that was found, or the default.
    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, ConfigError> {
        let Some(found) = self.find(&setting.key) else {
            return Ok(setting.default.clone());
        };
        let value = &found.kind;
        let invalid = |shown: String, expected: String| {
            let origin = found.origin().unwrap_or_default();
            error::setting(origin, &setting.key, shown, expected)
        };
        let text = match (T::FORM, value) {
            (Form::Secret, ValueKind::String(text)) => match text.trim_end_matches(['\n', '\r']) {
                "" => return Ok(setting.default.clone()),
                text => Some(text.to_owned()),
            },
            // YAML made a number of it, and 7 may have been written as 007.
            (Form::Secret, other) => {
                let found = format!("{} (not shown)", kind_of(other));
                return Err(invalid(found, "text; put the value in quotes".to_owned()));
            }
            (Form::Text, ValueKind::String(_)) | (Form::Plain, _) => written(value),
            (Form::Text, other) => {
                let expected = format!("{}, in quotes", setting.expected());
                return Err(invalid(shown(other), expected));
            }
            (Form::List, ValueKind::String(text)) => Some(text.clone()),
            (Form::List, other) => texts(other),
        };
        let parsed = text.as_deref().and_then(|text| {
            let value = T::parse(text, &setting.limit)?;
            value.is_within(&setting.limit).then_some(value)
        });
        parsed.ok_or_else(|| {
            let found = match T::FORM {
                Form::Secret => plain::HIDDEN.to_owned(),
                _ => shown(value),
            };
            let advice = text.as_deref().map_or("", T::advice);
            invalid(found, setting.expected() + advice)
        })
    }
}

/// The texts of a list, with commas between them.
fn texts(value: &ValueKind) -> Option<String> {
    let ValueKind::Array(values) = value else {
        return None;
    };
    let texts = values.iter().map(|value| match &value.kind {
        ValueKind::String(text) => Some(text.as_str()),
        _ => None,
    });
    let texts: Option<Vec<_>> = texts.collect();
    texts.map(|texts| texts.join(","))
}

/// A single value as the user wrote it, without the blanks around it.
fn written(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::String(text) => Some(text.trim().to_owned()),
        // With its point: 10.0 is no whole number.
        ValueKind::Float(number) => Some(format!("{number:?}")),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
        single => Some(single.to_string()),
    }
}

/// The words for a value. Only a text has quotes.
fn shown(value: &ValueKind) -> String {
    match (value, written(value)) {
        (ValueKind::String(_), Some(text)) => plain::shown(&text),
        (_, Some(text)) if plain::is_plain(&text) => text,
        _ => kind_of(value).to_owned(),
    }
}
