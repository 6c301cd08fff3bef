//! All settings of all sources by their full key, each with where it came from, and
//! typed access to them. It knows how a value is read and how to complain about one;
//! which keys exist, their defaults and their ranges are in `keys`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use config::ValueKind;

use super::{ConfigError, names::kind_of, plain, yaml::Leaves};
use crate::duration;

/// The merged sources. A later source replaces single keys of an earlier one.
#[derive(Default)]
pub(super) struct Settings {
    /// Full key (`jobqueue.retry.max`) to what was found for it.
    found: BTreeMap<String, Found>,
    /// Every key that was asked for.
    asked: BTreeSet<&'static str>,
}

struct Found {
    /// The file or variable, as the user named it.
    origin: String,
    /// Text as written for variables, what YAML makes of it for files.
    value: ValueKind,
}

impl Settings {
    /// Adds the keys of one source. A key with nothing behind it, or with empty text, changes
    /// nothing. The text of a variable stays text until a typed key asks for it: the password
    /// `1e5` is no number.
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

    fn get(&mut self, key: &'static str) -> Option<&ValueKind> {
        self.asked.insert(key);
        self.found.get(key).map(|found| &found.value)
    }

    /// Accepts a key that has no effect.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.asked.insert(key);
    }

    /// Text that passes `check`, which is the same as being `expected`, without the blanks
    /// around it.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        default: &str,
        expected: &str,
        check: impl Fn(&str) -> bool,
    ) -> Result<String, ConfigError> {
        match self.get(key) {
            None => Ok(default.to_owned()),
            Some(ValueKind::String(text)) if check(text.trim()) => Ok(text.trim().to_owned()),
            Some(ValueKind::String(_)) => Err(self.invalid(key, expected)),
            Some(_) => Err(self.invalid(key, &format!("{expected}, in quotes"))),
        }
    }

    /// Text that may be absent; empty text is absent. Errors do not show the value. It stays
    /// as it is written, but for line ends behind it, which files and `|` leave there.
    pub(super) fn secret(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(ValueKind::String(text)) => {
                let text = text.trim_end_matches(['\n', '\r']);
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
            // YAML has made something else of it, and 007 cannot be told from 7 any more.
            Some(value) => {
                let found = format!("{} (not shown)", kind_of(value));
                Err(self.error(key, found, "text; put the value in quotes"))
            }
        }
    }

    /// `true` or `false`, or the other words that YAML and Go have for them.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.parse(key, default, "true or false", |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            }
        })
    }

    /// A list of texts, each of which passes `check`. Text alone is a list, too, separated by
    /// commas. Empty by default.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        expected: &str,
        check: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ConfigError> {
        let texts: Option<Vec<_>> = match self.get(key) {
            None => Some(Vec::new()),
            Some(ValueKind::String(text)) => Some(text.split(',').map(str::trim).collect()),
            Some(ValueKind::Array(values)) => {
                let texts = values.iter().map(|value| match &value.kind {
                    ValueKind::String(text) => Some(text.trim()),
                    _ => None,
                });
                texts.collect()
            }
            Some(_) => None,
        };
        let texts = texts.map(|texts| texts.into_iter().filter(|text| !text.is_empty()));
        texts
            .map(|texts| texts.map(str::to_owned).collect::<Vec<_>>())
            .filter(|texts| texts.iter().all(|text| check(text)))
            .ok_or_else(|| self.invalid(key, expected))
    }

    /// One of the `choices`, whatever its case, or one of the other names for them.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
        other_names: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        self.parse(key, default, &expected, |text| {
            let is_it = |(name, _): &&(&str, T)| name.eq_ignore_ascii_case(text);
            let mut all = choices.iter().chain(other_names);
            all.find(is_it).map(|(_, value)| *value)
        })
    }

    /// A whole number within `range`.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, default, &expected, |text| {
            // 10_000 is a number for the YAML of Go.
            let is_number = text.starts_with(|c: char| c.is_ascii_digit());
            let text = if is_number {
                text.replace('_', "")
            } else {
                text.to_owned()
            };
            text.parse().ok().filter(|value| range.contains(value))
        })
    }

    /// A number within `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64, ConfigError> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.parse(key, default, &expected, |text| {
            text.parse().ok().filter(|value| range.contains(value))
        })
    }

    /// A humantime duration within `range`. Go's are such as well (`1h0m0s`, `1.5s`).
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let has_no_unit = self
            .get(key)
            .and_then(written)
            .is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        let advice = match has_no_unit {
            true => "; write its unit (Go takes a number alone for nanoseconds)",
            false => "",
        };
        let expected = format!(
            "a duration such as \"{}\" (from {} to {}){advice}",
            humantime::format_duration(default),
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end()),
        );
        self.parse(key, default, &expected, |text| {
            let value = duration::parse(text, *range.end()).ok()?;
            range.contains(&value).then_some(value)
        })
    }

    fn parse<T>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let parsed = written(value).and_then(|text| parse(&text));
        parsed.ok_or_else(|| self.invalid(key, expected))
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

    /// The error for a key with the words for what was found.
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

    /// The error for two durations that do not go together.
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

    /// The file or variable that a key's value comes from.
    pub(super) fn origin(&self, key: &str) -> &str {
        self.found
            .get(key)
            .map_or("default value", |found| &found.origin)
    }
}

/// A single value as it is written, without the blanks around it.
fn written(value: &ValueKind) -> Option<String> {
    match value {
        ValueKind::String(text) => Some(text.trim().to_owned()),
        ValueKind::Float(number) => Some(format!("{number:?}")), // 10.0 is no whole number
        ValueKind::Boolean(_) | ValueKind::I64(_) => Some(value.to_string()),
        _ => None,
    }
}
