//! All settings of all sources by their full key, each with where it came from, and
//! typed access to them. It knows how a value is read and how to complain about one;
//! which keys exist, their defaults and their ranges are in the parent module.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    ops::RangeInclusive,
    path::Path,
    str::FromStr,
    time::Duration,
};

use config::{Map, Value, ValueKind};

use super::ConfigError;
use crate::duration;

/// The merged sources. A later source replaces single keys of an earlier one.
#[derive(Default)]
pub(super) struct Settings {
    /// Full key (`jobqueue.retry.max`) to what was found for it.
    found: BTreeMap<String, Found>,
    /// Every key that was asked for; what is in `found` beyond them is unknown.
    known: BTreeSet<&'static str>,
}

struct Found {
    /// The file or variable, as the user named it.
    origin: String,
    /// Text as written for variables, what YAML makes of it for files.
    value: ValueKind,
}

impl Settings {
    /// Adds the keys of one file.
    pub(super) fn add_file(&mut self, path: &Path, table: Map<String, Value>) {
        let origin = path.display().to_string();
        for (key, value) in table {
            self.add(key, value, &origin);
        }
    }

    /// Adds one environment variable. Its text stays text until a typed key asks for it:
    /// the password `1e5` is no number.
    pub(super) fn add_variable(&mut self, name: &str, key: String, text: &str) {
        self.add(key, Value::new(None, text), name);
    }

    fn add(&mut self, key: String, value: Value, origin: &str) {
        match value.kind {
            ValueKind::Table(table) if !table.is_empty() => {
                for (name, value) in table {
                    self.add(format!("{key}.{name}"), value, origin);
                }
            }
            // A key or section with nothing behind it changes nothing, but its name is checked.
            ValueKind::Table(_) | ValueKind::Nil => {
                self.found.entry(key).or_insert_with(|| Found {
                    origin: origin.to_owned(),
                    value: ValueKind::Nil,
                });
            }
            value => {
                let origin = origin.to_owned();
                self.found.insert(key, Found { origin, value });
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&ValueKind> {
        self.known.insert(key);
        let found = self.found.get(key)?;
        (found.value != ValueKind::Nil).then_some(&found.value)
    }

    /// Accepts a key that has no effect.
    pub(super) fn ignore(&mut self, key: &'static str) {
        self.known.insert(key);
    }

    /// Text that passes `check`, which is the same as being `expected`.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        default: &str,
        expected: &str,
        check: impl Fn(&str) -> bool,
    ) -> Result<String, ConfigError> {
        match self.get(key) {
            None => Ok(default.to_owned()),
            Some(ValueKind::String(text)) if check(text) => Ok(text.clone()),
            Some(ValueKind::String(_)) => Err(self.invalid(key, expected)),
            Some(_) => Err(self.invalid(key, &format!("{expected}, in quotes"))),
        }
    }

    /// Text that may be absent; empty text is absent. Errors do not show the value.
    pub(super) fn secret(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(ValueKind::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
            // YAML has made something else of it, and 007 cannot be told from 7 any more.
            Some(value) => {
                let found = format!("{} (not shown)", kind_of(value));
                Err(self.error(key, found, "text; put the value in quotes"))
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.parse(key, default, "true or false", |text| text.parse().ok())
    }

    /// A list of texts, each of which passes `check`; in a variable they are separated by
    /// commas. Text alone is a list of one. Empty by default.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        expected: &str,
        check: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ConfigError> {
        let texts = match self.get(key) {
            None => Some(Vec::new()),
            Some(ValueKind::String(text)) => {
                let texts = text.split(',').map(str::trim);
                Some(
                    texts
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned)
                        .collect(),
                )
            }
            Some(ValueKind::Array(values)) => {
                let texts = values.iter().map(|value| match &value.kind {
                    ValueKind::String(text) => Some(text.clone()),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>()
            }
            Some(_) => None,
        };
        texts
            .filter(|texts| texts.iter().all(|text| check(text)))
            .ok_or_else(|| self.invalid(key, expected))
    }

    /// One of the `choices`, whatever its case.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        self.parse(
            key,
            default,
            &format!("one of {}", names.join(", ")),
            |text| {
                let is_it = |(name, _): &&(&str, T)| name.eq_ignore_ascii_case(text);
                choices.iter().find(is_it).map(|(_, value)| *value)
            },
        )
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

    /// A humantime duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let expected = format!(
            "a duration such as \"{}\" (from {} to {})",
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
        let text = match value {
            ValueKind::Float(number) => format!("{number:?}"), // 10.0 is no whole number
            value => value.to_string(),
        };
        parse(&text).ok_or_else(|| self.invalid(key, expected))
    }

    /// The error for a key whose value is not what is expected.
    pub(super) fn invalid(&self, key: &str, expected: &str) -> ConfigError {
        let found = match self.found.get(key).map(|found| &found.value) {
            Some(ValueKind::String(text)) => format!("{text:?}"),
            Some(ValueKind::Float(number)) => format!("{number:?}"),
            Some(list @ ValueKind::Array(_)) => kind_of(list).to_owned(),
            Some(value) => value.to_string(),
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

    /// Fails when a source has a key that nobody asked for. To be called last.
    pub(super) fn refuse_unknown_keys(&self) -> Result<(), ConfigError> {
        for (key, found) in &self.found {
            if self.known.contains(key.as_str()) {
                continue;
            }
            if self.known.iter().any(|known| below(known, key).is_some()) {
                if found.value == ValueKind::Nil {
                    continue; // an empty section
                }
                let found = kind_of(&found.value);
                return Err(self.error(key, found, "a section with keys of its own"));
            }
            if let Some(known) = self.known.iter().find(|known| below(key, known).is_some()) {
                return Err(ConfigError::Setting {
                    origin: found.origin.clone(),
                    key: (*known).to_owned(),
                    found: "a section".to_owned(),
                    expected: "a single value".to_owned(),
                });
            }
            let expected = format!(
                "one of {}; correct the name or remove it",
                self.siblings(key).join(", ")
            );
            return Err(self.error(key, "an unknown key", expected));
        }
        Ok(())
    }

    /// The names that are known in the innermost known section around an unknown key.
    fn siblings(&self, unknown: &str) -> Vec<&'static str> {
        let mut section = unknown;
        loop {
            section = section.rsplit_once('.').map_or("", |(parent, _)| parent);
            let below = self.known.iter().filter_map(|known| below(known, section));
            let names: BTreeSet<_> = below.filter_map(|rest| rest.split('.').next()).collect();
            if !names.is_empty() || section.is_empty() {
                return names.into_iter().collect();
            }
        }
    }
}

/// What follows the section's name in `key`; `None` when the key is not within it.
fn below<'a>(key: &'a str, section: &str) -> Option<&'a str> {
    match section {
        "" => Some(key),
        _ => key.strip_prefix(section)?.strip_prefix('.'),
    }
}

fn kind_of(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
        _ => "a number",
    }
}
