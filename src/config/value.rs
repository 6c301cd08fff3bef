//! The types that a setting can have: how a value is written, what limits it, and the words for it.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{plain, secret::Secret};
use crate::duration;

pub(super) const SECOND: Duration = ms(1_000);
pub(super) const MINUTE: Duration = ms(60_000);
pub(super) const DAY: Duration = ms(24 * 60 * 60_000);
/// As humantime has it, so that a message shows `1year`.
pub(super) const YEAR: Duration = Duration::from_secs(31_557_600);

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A type of settings.
pub(super) trait Value: Clone {
    /// What limits a value beyond its type.
    type Limit;

    /// How files and variables have it.
    const FORM: Form = Form::Plain;

    /// The value that a text stands for, in its range or not.
    fn parse(text: &str, limit: &Self::Limit) -> Option<Self>;

    /// Whether the limit allows the value.
    fn is_within(&self, limit: &Self::Limit) -> bool;

    /// The words for the range, or for what else limits a value.
    fn range(limit: &Self::Limit) -> String;

    /// The words for what is accepted.
    fn expected(default: &Self, limit: &Self::Limit) -> String;

    /// The words for the value. A text ([`Form::Text`]) is shown as it is, so it may be a secret in the
    /// wrong place.
    fn shown(&self, limit: &Self::Limit) -> String;

    /// What to do about a text that stands for no value, if that is not obvious.
    fn advice(_text: &str) -> &'static str {
        ""
    }
}

/// How files and variables have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A text, a number or a flag, without the blanks around it.
    Plain,
    /// A text without the blanks around it. What YAML makes a number of needs quotes.
    Text,
    /// A text that no message shows. Only line ends behind it are removed, which files and YAML's
    /// `|` leave there. An empty one is none.
    Secret,
    /// A list of texts, or one text with commas.
    List,
}

macro_rules! numbers {
    ($what:literal: $($Number:ty, $read:expr;)*) => {$(
        impl Value for $Number {
            type Limit = RangeInclusive<Self>;

            fn parse(text: &str, _: &Self::Limit) -> Option<Self> {
                $read(text).parse().ok()
            }

            fn is_within(&self, limit: &Self::Limit) -> bool {
                limit.contains(self)
            }

            fn range(limit: &Self::Limit) -> String {
                format!("{} to {}", limit.start(), limit.end())
            }

            fn expected(_: &Self, limit: &Self::Limit) -> String {
                format!("{} from {}", $what, Self::range(limit))
            }

            fn shown(&self, _: &Self::Limit) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers!("a whole number": u16, digits; u32, digits; u64, digits; i64, digits; usize, digits;);
numbers!("a number": f64, str::to_owned;);

/// `10000` for `10_000`, which Go's YAML takes for a number.
fn digits(text: &str) -> String {
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => text.replace('_', ""),
        false => text.to_owned(),
    }
}

/// A humantime duration. Durations of Go are humantime as well (`1h0m0s`, `1.5s`).
impl Value for Duration {
    type Limit = RangeInclusive<Self>;

    fn parse(text: &str, limit: &Self::Limit) -> Option<Self> {
        duration::parse(text, *limit.end()).ok()
    }

    fn is_within(&self, limit: &Self::Limit) -> bool {
        limit.contains(self)
    }

    fn range(limit: &Self::Limit) -> String {
        let written = humantime::format_duration;
        format!("{} to {}", written(*limit.start()), written(*limit.end()))
    }

    fn expected(default: &Self, limit: &Self::Limit) -> String {
        let example = default.shown(limit);
        format!("a duration such as {example} (from {})", Self::range(limit))
    }

    fn shown(&self, _: &Self::Limit) -> String {
        format!("\"{}\"", humantime::format_duration(*self))
    }

    fn advice(text: &str) -> &'static str {
        match !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            true => "; write its unit (Go takes a number alone for nanoseconds)",
            false => "",
        }
    }
}

/// The range of a duration that follows from other settings unless it is set.
pub(super) struct Derived {
    /// The words for what it is then.
    pub(super) unless_set: &'static str,
    pub(super) range: RangeInclusive<Duration>,
}

impl Value for Option<Duration> {
    type Limit = Derived;

    fn parse(text: &str, limit: &Derived) -> Option<Self> {
        Duration::parse(text, &limit.range).map(Some)
    }

    fn is_within(&self, limit: &Derived) -> bool {
        self.is_none_or(|duration| limit.range.contains(&duration))
    }

    fn range(limit: &Derived) -> String {
        Duration::range(&limit.range)
    }

    fn expected(_: &Self, limit: &Derived) -> String {
        Duration::expected(&SECOND, &limit.range)
    }

    fn shown(&self, limit: &Derived) -> String {
        match self {
            Some(duration) => duration.shown(&limit.range),
            None => limit.unless_set.to_owned(),
        }
    }

    fn advice(text: &str) -> &'static str {
        Duration::advice(text)
    }
}

/// `true` or `false`, or one of the other words that YAML and Go have for them.
impl Value for bool {
    type Limit = ();

    fn parse(text: &str, (): &()) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    fn is_within(&self, (): &()) -> bool {
        true
    }

    fn range((): &()) -> String {
        "true or false".to_owned()
    }

    fn expected(_: &Self, limit: &()) -> String {
        Self::range(limit)
    }

    fn shown(&self, (): &()) -> String {
        self.to_string()
    }
}

/// Which texts are accepted.
pub(super) struct Text {
    /// The words for them.
    pub(super) expected: &'static str,
    /// The text as the setting has it: `::1` for `[::1]`. `None` when it is not accepted.
    pub(super) accept: fn(&str) -> Option<String>,
}

impl Value for String {
    type Limit = Text;
    const FORM: Form = Form::Text;

    fn parse(text: &str, limit: &Text) -> Option<Self> {
        (limit.accept)(text)
    }

    fn is_within(&self, limit: &Text) -> bool {
        (limit.accept)(self).is_some()
    }

    fn range(limit: &Text) -> String {
        limit.expected.to_owned()
    }

    fn expected(_: &Self, limit: &Text) -> String {
        Self::range(limit)
    }

    fn shown(&self, _: &Text) -> String {
        self.clone()
    }
}

/// A list whose texts are each accepted.
impl Value for Vec<String> {
    type Limit = Text;
    const FORM: Form = Form::List;

    fn parse(text: &str, limit: &Text) -> Option<Self> {
        let texts = text.split(',').map(str::trim);
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(limit.accept).collect()
    }

    fn is_within(&self, limit: &Text) -> bool {
        self.iter().all(|text| text.is_within(limit))
    }

    fn range(limit: &Text) -> String {
        limit.expected.to_owned()
    }

    fn expected(_: &Self, limit: &Text) -> String {
        Self::range(limit)
    }

    fn shown(&self, _: &Text) -> String {
        let words = if self.is_empty() { "none" } else { "a list" };
        words.to_owned()
    }
}

macro_rules! secrets {
    ($($Secret:ty, $new:expr, $is_one:expr, $expected:literal;)*) => {$(
        impl Value for Option<$Secret> {
            type Limit = ();
            const FORM: Form = Form::Secret;

            fn parse(text: &str, (): &()) -> Option<Self> {
                Some(Some($new(text)))
            }

            fn is_within(&self, (): &()) -> bool {
                self.as_ref().is_none_or($is_one)
            }

            fn range((): &()) -> String {
                $expected.to_owned()
            }

            fn expected(_: &Self, limit: &()) -> String {
                Self::range(limit)
            }

            fn shown(&self, (): &()) -> String {
                let words = if self.is_some() { plain::HIDDEN } else { "none" };
                words.to_owned()
            }
        }
    )*};
}

secrets! {
    // People put a password in the wrong place now and then.
    String, str::to_owned, |_| true, "text";
    Secret, Secret::new, |_| true, "text";
    PathBuf, PathBuf::from, |path| is_path(path),
        "a path that begins with / or ./, such as /run/secrets/redis";
}

/// Whether the path has a slash in front. Otherwise a password in its place would count as a path,
/// and be logged.
fn is_path(path: &std::path::Path) -> bool {
    let starts = ["/", "./", "../"];
    let text = path.as_os_str().as_encoded_bytes();
    starts
        .iter()
        .any(|start| text.starts_with(start.as_bytes()))
}
