//! Reads values as types: how a text, a number or a duration is written, and what is said about one
//! that is not.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use config::ValueKind;

use super::{
    error::ConfigError,
    settings::{Settings, written},
    yaml::kind_of,
};
use crate::duration;

impl Settings {
    /// A text without the blanks around it. `check` accepts exactly the texts that `expected`
    /// describes.
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

    /// A text whose value no error shows; an empty text counts as absent. Only line ends behind it are
    /// removed, which files and YAML's `|` leave there.
    pub(super) fn secret(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(ValueKind::String(text)) => {
                let text = text.trim_end_matches(['\n', '\r']);
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
            // YAML made a number of it, and 7 may have been written as 007.
            Some(value) => {
                let found = format!("{} (not shown)", kind_of(value));
                Err(self.error(key, found, "text; put the value in quotes"))
            }
        }
    }

    /// `true` or `false`, or one of the other words that YAML and Go have for them.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.parse(key, default, "true or false", |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            }
        })
    }

    /// A list of texts, each of which `check` accepts. A single text is a list separated by commas. The
    /// list is empty by default.
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

    /// One of the `choices`, or one of the other names for them, in any case.
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
            // Go's YAML takes 10_000 for a number.
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

    /// A humantime duration within `range`. Durations of Go are humantime as well (`1h0m0s`, `1.5s`).
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

    /// A value that `parse` makes of the text, or the default.
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
}
