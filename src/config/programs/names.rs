//! Whose a key is: ours, another program's, or ours with a mistake in its name.
//!
//! Files are shared with other programs, so a section that is not ours is left alone. An unknown key
//! in one of our sections stops the start, and so does a section whose name is one slip away from
//! ours.

use std::collections::{BTreeMap, BTreeSet};

use ::config::ValueKind;

use super::error::{ConfigError, setting};
use super::slips::{is_slip, likeness};
use super::variables::{OVERRIDE_PREFIX, override_of};
use super::yaml::{Leaves, kind_of};
use crate::config::plain;
use crate::config::section::join;

/// The sections whose keys are all ours. Every other section is another program's.
const OWN: [&str; 5] = [
    "cache_server.redis.jobqueue",
    "cors",
    "jobqueue",
    "logging",
    "server",
];

/// Stands for a name that may be a secret.
const HIDDEN: &str = "(a name that is not shown since it may hold a secret)";

/// Every key that the programs know.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    pub(super) fn new(known: BTreeSet<String>) -> Self {
        Self(known)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Checks the keys of one source, and returns the names of other programs' sections in it.
    pub(super) fn check(
        &self,
        origin: &str,
        leaves: &Leaves,
    ) -> Result<BTreeSet<String>, ConfigError> {
        let mut others = BTreeMap::<&str, Vec<&str>>::new();
        for (key, value) in leaves {
            match section_of_others(key) {
                Some(section) => others.entry(section).or_default().push(key),
                None => self.check_own(origin, key, value)?,
            }
        }
        for (section, keys) in &others {
            self.refuse_misspelt_section(origin, section, keys)?;
        }
        // YAML takes `{password}` for a section without settings: then the name may be a secret.
        let is_bare = |section: &str| leaves.get(section) == Some(&ValueKind::Nil);
        let sections = others.into_keys();
        Ok(sections
            .map(|section| shown(section, is_bare(section)))
            .collect())
    }

    /// Checks a key that is in one of our sections, or is one of them.
    fn check_own(&self, origin: &str, key: &str, value: &ValueKind) -> Result<(), ConfigError> {
        if self.0.contains(key) {
            return Ok(());
        }
        if self.all().any(|known| below(known, key).is_some()) {
            return match value {
                ValueKind::Nil => Ok(()), // an empty section
                _ => Err(setting(
                    origin,
                    key,
                    kind_of(value),
                    "a section with keys of its own",
                )),
            };
        }
        if let Some(known) = self.all().find(|known| below(key, known).is_some()) {
            return Err(setting(origin, known, "a section", "a single value"));
        }
        let bare = *value == ValueKind::Nil;
        let section = self.known_section(key);
        Err(self.unknown(origin, key, section, self.suggestion(key), bare))
    }

    /// Refuses another program's section that is ours with a slip: its name is one slip away from ours,
    /// and we have all of its keys. A name that differs in a digit is a different name on purpose.
    fn refuse_misspelt_section(
        &self,
        origin: &str,
        section: &str,
        keys: &[&str],
    ) -> Result<(), ConfigError> {
        let (parent, name) = section.rsplit_once('.').unwrap_or(("", section));
        let first_names = |keys: &[&str], section: &str| {
            let names = keys.iter().filter_map(|key| below(key, section));
            names
                .map(first_name)
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        let names = first_names(keys, section);
        for own in self.names_in(parent) {
            let own_section = join(parent, own);
            let known: Vec<_> = self.all().collect();
            let known = first_names(&known, &own_section);
            if is_slip(name, own) && !names.is_empty() && names.is_subset(&known) {
                let key = keys[0];
                let right = below(key, section).map(|rest| {
                    let whole = join(&own_section, rest);
                    if self.0.contains(&whole) {
                        whole
                    } else {
                        join(&own_section, first_name(rest))
                    }
                });
                return Err(self.unknown(origin, key, section, right, false));
            }
        }
        Ok(())
    }

    /// The error for an unknown key in `section`.
    ///
    /// It shows only the first name below the section, since the rest may be a secret in the wrong
    /// place. A `bare` key has no value, as when YAML takes `{password}` for a key. Such a name is
    /// shown only when the message also says what was meant.
    fn unknown(
        &self,
        origin: &str,
        key: &str,
        section: &str,
        meant: Option<String>,
        bare: bool,
    ) -> ConfigError {
        let names = self.names_in(self.known_section(key));
        let names: Vec<_> = names.into_iter().collect();
        let key = join(section, below(key, section).map_or(key, first_name));
        let is_variable = origin.starts_with(OVERRIDE_PREFIX);
        let meant = meant.map(|key| match is_variable {
            true => override_of(&key),
            false => key,
        });
        let shown = match plain::is_name(&key) && (!bare || meant.is_some()) {
            true => key,
            false => join(section, HIDDEN),
        };
        let meant = meant.map_or_else(String::new, |key| format!(" (did you mean {key}?)"));
        let expected = format!(
            "one of {}; correct the name or remove it{meant}",
            names.join(", ")
        );
        setting(origin, &shown, "an unknown key", expected)
    }

    /// The known key that was probably meant by an unknown one.
    fn suggestion(&self, unknown: &str) -> Option<String> {
        let section = self.known_section(unknown);
        let name = first_name(below(unknown, section)?);
        let alike = self.all().filter_map(|known| {
            let likeness = likeness(below(known, section)?, name)?;
            Some((likeness, known))
        });
        let nearest = alike.max_by(|a, b| a.0.total_cmp(&b.0));
        nearest.map(|(_, known)| known.to_owned()).or_else(|| {
            // The name may be right, and the section wrong.
            let last = unknown.rsplit('.').next()?;
            let mut same = self
                .all()
                .filter(|known| known.rsplit('.').next() == Some(last));
            same.next()
                .filter(|_| same.next().is_none())
                .map(str::to_owned)
        })
    }

    /// The innermost known section around an unknown key.
    fn known_section<'a>(&self, unknown: &'a str) -> &'a str {
        let mut section = unknown;
        loop {
            section = section.rsplit_once('.').map_or("", |(parent, _)| parent);
            if section.is_empty() || self.all().any(|known| below(known, section).is_some()) {
                return section;
            }
        }
    }

    /// The names that are known in a section.
    fn names_in<'a>(&'a self, section: &'a str) -> BTreeSet<&'a str> {
        let below = self.all().filter_map(|known| below(known, section));
        below.map(first_name).collect()
    }
}

/// The name of another program's section, as far as it can be shown.
fn shown(section: &str, bare: bool) -> String {
    let (parent, _) = section.rsplit_once('.').unwrap_or_default();
    match plain::is_name(section) && !bare {
        true => section.to_owned(),
        false if plain::is_name(parent) => join(parent, HIDDEN),
        false => HIDDEN.to_owned(),
    }
}

/// The section of another program that a key is in: the shortest beginning of the key that does not
/// lead to any of our sections.
fn section_of_others(key: &str) -> Option<&str> {
    let leads_to = |part: &str, own: &str| part == own || below(own, part).is_some();
    if OWN
        .iter()
        .any(|own| leads_to(key, own) || below(key, own).is_some())
    {
        return None;
    }
    let parts = key.match_indices('.').map(|(end, _)| &key[..end]);
    let mut parts = parts.chain([key]);
    parts.find(|part| !OWN.iter().any(|own| leads_to(part, own)))
}

/// The part of `key` behind the name of its section; `None` when it is in another section.
fn below<'a>(key: &'a str, section: &str) -> Option<&'a str> {
    match section {
        "" => Some(key),
        _ => key.strip_prefix(section)?.strip_prefix('.'),
    }
}

fn first_name(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}
