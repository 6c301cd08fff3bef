//! A rule that a client's input breaks. `api` chooses the words for it.

/// A rule that an input breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field of the input that is at fault.
    pub(crate) field: &'static str,
    /// What was expected of the field.
    pub(crate) rule: Rule,
}

/// What is expected of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A number that is not below this one. Every type of an integer fits into an `i128`.
    AtLeast(i128),
    /// A number that is not above this one.
    AtMost(i128),
    /// Only one of two fields may be given.
    Without {
        /// The field at fault.
        this: &'static str,
        /// The field that excludes it.
        other: &'static str,
    },
    /// A duration in humantime's notation, and why the text is none.
    Duration(String),
    /// A duration that is not longer than so many days.
    DaysAtMost(u64),
}
