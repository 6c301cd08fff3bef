//! The settings of all sources by their full key, each with the source that it is from, and the errors
//! about them. `typed` reads values, and `keys` knows which keys exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use config::ValueKind;

use super::{
    error::ConfigError,
    plain,
    yaml::{Leaves, kind_of},
};

/// The merged sources. A later source replaces single keys of an earlier one.
#[derive(Default)]
pub(super) struct Settings {
    /// The value that was found for each full key (`jobqueue.retry.max`).
    found: BTreeMap<String, Found>,
    /// Every key that was asked for.
    asked: BTreeSet<&'static str>,
}

struct Found {
    /// The file or variable that has the value, as the user names it.
    origin: String,
    /// For a variable its text, for a file what YAML makes of it.
    value: ValueKind,
}

impl Settings {
    /// Adds the keys of one source. A key without a value, or with an empty text, changes nothing. The
    /// value of a variable stays text until its key is read as a type: the password `1e5` must not
    /// become a number.
    pub(super) fn add(&mut self, origin: &str, leaves: Leaves) {
        for (key, value) in leaves {
            let is_given = match &value {
                ValueKind::Nil => false,
                // Blanks alone may be a password.
                ValueKind::String(text) => {
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

    /// Every key that was asked for.
    pub(super) fn into_asked(self) -> BTreeSet<&'static str> {
        self.asked
    }

    /// The value of a key, if any source has one.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&ValueKind> {
        self.asked.insert(key);
        self.found.get(key).map(|found| &found.value)
    }

    /// Accepts a key that has no effect.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.asked.insert(key);
    }

    /// The error for a key whose value is not what is expected.
    pub(super) fn invalid(&self, key: &str, expected: &str) -> ConfigError {
        let found = match self.found.get(key).map(|found| &found.value) {
            Some(ValueKind::String(text)) => plain::shown(text.trim()),
            Some(value) => match written(value).map(|text| plain::shown(&text)) {
                Some(found) if found != plain::HIDDEN => found.trim_matches('"').to_owned(),
                _ => kind_of(value).to_owned(),
            },
            None => "nothing".to_owned(),
        };
        self.error(key, found, expected)
    }

    /// The error for a key, with the words for what was found.
    pub(super) fn error(
        &self,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Setting {
            origin: self.origin(key).to_owned(),
            key: key.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// The error for two durations that exclude each other.
    pub(super) fn conflict(
        &self,
        (key, value): (&str, Duration),
        relation: &str,
        (other, other_value): (&str, Duration),
    ) -> ConfigError {
        let found = format!("\"{}\"", humantime::format_duration(value));
        let expected = format!(
            "{relation} {other}, which is \"{}\" ({}); change one of them",
            humantime::format_duration(other_value),
            self.origin(other),
        );
        self.error(key, found, expected)
    }

    /// The file or variable that has the value of a key.
    pub(super) fn origin(&self, key: &str) -> &str {
        self.found
            .get(key)
            .map_or("default value", |found| &found.origin)
    }
}

/// A single value as the user wrote it, without the blanks around it.
pub(super) fn written(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::String(text) => Some(text.trim().to_owned()),
        ValueKind::Float(number) => Some(format!("{number:?}")), // 10.0 is no whole number
        ValueKind::Boolean(_) | ValueKind::I64(_) => Some(value.to_string()),
        _ => None,
    }
}
