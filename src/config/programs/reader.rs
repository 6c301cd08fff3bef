//! Reads settings: takes the value of each from the last source that has one, and makes the errors
//! about it, which name that source.
//!
//! Neither figment nor the `config` crate can do this and what `yaml` does. Both quote the value in
//! their errors (`found string "s3cret"`), and of a variable they say no more than "the environment".
//! figment makes the number 7 of a password `007` in a variable, and of two equal keys in a file the last
//! one holds without a word; its YAML is `serde_yaml`, which is deprecated. `config` makes the text
//! `100000` of an unquoted password `1e5` in a file. Neither knows merge keys, so both call `<<`
//! an unknown field.

use std::collections::BTreeMap;

use yaml_rust2::Yaml;

use super::error::ConfigError;
use super::yaml::{Leaves, kind_of};
use crate::config::plain;
use crate::config::section::{InvalidSetting, Setting, Visitor};
use crate::config::value::{Form, Value};

/// The merged sources. A later source replaces single keys of an earlier one.
#[derive(Default)]
pub(super) struct Reader {
    /// The value that was found for each full key (`jobqueue.retry.max`).
    found: BTreeMap<String, Found>,
}

struct Found {
    /// The file or variable that has the value, as the user names it.
    origin: String,
    /// For a variable its text, for a file what YAML makes of it. The text of a variable stays text
    /// until its key is read as a type: the password `1e5` must not become a number.
    value: Yaml,
}

impl Reader {
    /// Adds the keys of one source. A key without a value, or with an empty text, changes nothing.
    pub(super) fn add(&mut self, origin: &str, leaves: Leaves) {
        for (key, value) in leaves {
            let is_given = match &value {
                Yaml::Null => false,
                // Blanks alone may be a password.
                Yaml::String(text) => {
                    !text.is_empty() && (!text.trim().is_empty() || key.ends_with("password"))
                }
                _ => true,
            };
            if is_given {
                let origin = origin.to_owned();
                self.found.insert(key, Found { origin, value });
            }
        }
    }

    /// The file or variable that has the value of a key.
    pub(super) fn origin(&self, key: &str) -> String {
        let found = self.found.get(key);
        found.map_or("default value".to_owned(), |found| found.origin.clone())
    }

    /// The error with the source of its key.
    pub(super) fn located(&self, error: InvalidSetting) -> ConfigError {
        ConfigError::Setting {
            origin: self.origin(&error.key),
            key: error.key,
            found: error.found,
            expected: error.expected,
        }
    }
}

impl Visitor for Reader {
    type Error = ConfigError;

    /// The value that was found, or the default.
    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, ConfigError> {
        let Some(Found { value, .. }) = self.found.get(&setting.key) else {
            return Ok(setting.default.clone());
        };
        let invalid = |found: String, expected: String| {
            let key = setting.key.clone();
            self.located(InvalidSetting {
                key,
                found,
                expected,
            })
        };
        let text = match (T::FORM, value) {
            (Form::Secret, Yaml::String(text)) => match text.trim_end_matches(['\n', '\r']) {
                "" => return Ok(setting.default.clone()),
                text => Some(text.to_owned()),
            },
            // YAML made a number of it, and 7 may have been written as 007.
            (Form::Secret, other) => {
                let found = format!("{} (not shown)", kind_of(other));
                return Err(invalid(found, "text; put the value in quotes".to_owned()));
            }
            (Form::Text, Yaml::String(_)) | (Form::Plain, _) => written(value),
            (Form::Text, other) => {
                let expected = format!("{}, in quotes", setting.expected());
                return Err(invalid(shown(other), expected));
            }
            (Form::List, Yaml::String(text)) => Some(text.clone()),
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
fn texts(value: &Yaml) -> Option<String> {
    let texts: Option<Vec<_>> = value.as_vec()?.iter().map(Yaml::as_str).collect();
    texts.map(|texts| texts.join(","))
}

/// A single value as the user wrote it, without the blanks around it.
fn written(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.trim().to_owned()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The words for a value. Only a text has quotes.
fn shown(value: &Yaml) -> String {
    match (value, written(value)) {
        (Yaml::String(_), Some(text)) => plain::shown(&text),
        (_, Some(text)) if plain::is_plain(&text) => text,
        _ => kind_of(value).to_owned(),
    }
}
