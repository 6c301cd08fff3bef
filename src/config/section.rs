//! A section of settings: one list that says all about each of them.
//!
//! [`section!`] makes of that list the struct, its `Default`, and `visit`, which goes through all
//! settings of the section. Who visits them decides what is done: [`Checker`] holds the values against
//! their ranges, and `programs` reads them from files and variables, or lists their keys.

use std::time::Duration;

use super::plain;
use super::value::{Form, Value};

/// Declares a section:
///
/// ```text
/// section! {
///     /// The delays between the attempts of a failing job.
///     pub struct RetryConfig {
///         /// The longest delay.
///         pub max: Duration = MINUTE * 10, in ms(1)..=YEAR;
///     }
///     with {
///         /// Another section, whose keys begin with `more.` behind this section's name.
///         pub more: MoreConfig, in "more";
///     }
/// }
/// ```
///
/// A setting has a type and a default. What may follow says which values are accepted
/// ([`Value::Limit`]):
///
/// - `in` has a range. The setting's documentation gets the default and the range from here.
/// - `like` has a [`Text`](super::value::Text). The documentation of the setting says in words what
///   it accepts.
/// - `which is` has the words for what the default `None` stands for
///   ([`Derived`](super::value::Derived)), and the range of a duration follows.
///
/// `with` is for the sections inside, and may be left out. An empty name (`in ""`) means that the keys
/// of both sections begin alike.
macro_rules! section {
    (
        $(#[$about:meta])*
        pub struct $Section:ident {
            $($(#[$doc:meta])* pub $name:ident: $Type:ty = $default:expr
                $(, which is $derived:literal)? $(, like $text:expr)? $(, in $range:expr)?;)*
        }
        $(with {
            $($(#[$inner_doc:meta])* pub $inner:ident: $Inner:ty, in $inner_name:literal;)*
        })?
    ) => {
        $(#[$about])*
        pub struct $Section {
            $(
                $(#[$doc])*
                ///
                #[doc = concat!(
                    "Default: `", stringify!($default), "`", $(" (", $derived, ")",)? ".",
                    $(" Range: `", stringify!($range), "`.",)?
                )]
                pub $name: $Type,
            )*
            $($($(#[$inner_doc])* pub $inner: $Inner,)*)?
        }

        impl Default for $Section {
            fn default() -> Self {
                Self {
                    $($name: $default,)*
                    $($($inner: <$Inner>::default(),)*)?
                }
            }
        }

        impl $Section {
            /// A section whose values are what `visitor` makes of the values of this one. The keys
            /// begin with `section`.
            pub(super) fn visit<V: crate::config::section::Visitor>(
                &self,
                section: &str,
                visitor: &mut V,
            ) -> Result<Self, V::Error> {
                use crate::config::section::{Setting, join, section};
                Ok(Self {
                    $($name: visitor.visit(&Setting {
                        key: join(section, stringify!($name)),
                        value: &self.$name,
                        default: $default,
                        limit: section!(
                            @limit $(which is $derived,)? $(like $text)? $(in $range)?
                        ),
                    })?,)*
                    $($($inner: self.$inner.visit(&join(section, $inner_name), visitor)?,)*)?
                })
            }
        }
    };
    (@limit) => { () };
    (@limit like $text:expr) => { $text };
    (@limit in $range:expr) => { $range };
    (@limit which is $derived:literal, in $range:expr) => {
        crate::config::value::Derived { unless_set: $derived, range: $range }
    };
}
pub(super) use section;

/// One setting of a section.
pub(super) struct Setting<'a, T: Value> {
    /// The full key, such as `jobqueue.lease`.
    pub(super) key: String,
    pub(super) value: &'a T,
    pub(super) default: T,
    pub(super) limit: T::Limit,
}

impl<T: Value> Setting<'_, T> {
    /// The words for what is accepted.
    pub(super) fn expected(&self) -> String {
        T::expected(&self.default, &self.limit)
    }
}

/// What is done with each setting of a section.
pub(super) trait Visitor {
    type Error;

    /// The value that the setting is to have from here on.
    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, Self::Error>;
}

/// The key of `name` in `section`.
pub(super) fn join(section: &str, name: &str) -> String {
    match (section, name) {
        ("", only) | (only, "") => only.to_owned(),
        _ => format!("{section}.{name}"),
    }
}

/// A setting whose value cannot be used. No message shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct InvalidSetting {
    /// The full key, such as `jobqueue.lease`. What [`HandlerOptions`](crate::HandlerOptions) has
    /// instead of a setting has its job type behind the setting's key.
    pub key: String,
    /// The words for the value.
    pub found: String,
    /// What would be accepted, and what to do if that is not obvious.
    pub expected: String,
}

/// The words for where the value of a key is from: a file, a variable, or the code.
pub(super) type Origin<'a> = dyn Fn(&str) -> String + 'a;

/// The origin of every value that a program has set itself.
pub(super) fn in_code(_: &str) -> String {
    "the value in code".to_owned()
}

/// The error for two durations that exclude each other.
pub(super) fn conflict(
    (key, value): (&str, Duration),
    relation: &str,
    (other, other_value): (&str, Duration),
    origin: &Origin<'_>,
) -> InvalidSetting {
    InvalidSetting {
        key: key.to_owned(),
        found: format!("\"{}\"", humantime::format_duration(value)),
        expected: format!(
            "{relation} {other}, which is \"{}\" ({}); change one of them",
            humantime::format_duration(other_value),
            origin(other),
        ),
    }
}

/// Refuses values that are out of their range.
pub(super) struct Checker;

impl Visitor for Checker {
    type Error = InvalidSetting;

    fn visit<T: Value>(&mut self, setting: &Setting<'_, T>) -> Result<T, InvalidSetting> {
        let Setting { value, limit, .. } = setting;
        if value.is_within(limit) {
            return Ok((*value).clone());
        }
        let shown = value.shown(limit);
        Err(InvalidSetting {
            key: setting.key.clone(),
            found: match T::FORM {
                Form::Text => plain::shown(&shown),
                _ => shown,
            },
            expected: setting.expected(),
        })
    }
}
