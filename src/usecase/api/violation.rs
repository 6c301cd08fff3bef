//! A rule that a client's input breaks, and the check that many inputs share. `api` chooses the words
//! for a rule.

use std::ops::RangeInclusive;

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

/// The value of `field`, when it is within `limits`.
///
/// # Errors
///
/// The limit that the value is beyond.
pub(crate) fn within<T>(
    field: &'static str,
    value: i64,
    limits: RangeInclusive<T>,
) -> Result<T, Violation>
where
    T: TryFrom<i64> + Into<i128> + PartialOrd + Copy,
{
    match T::try_from(value) {
        Ok(value) if limits.contains(&value) => Ok(value),
        _ => {
            let (least, most) = ((*limits.start()).into(), (*limits.end()).into());
            let rule = match i128::from(value) < least {
                true => Rule::AtLeast(least),
                false => Rule::AtMost(most),
            };
            Err(Violation { field, rule })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_beyond_a_limit_breaks_the_rule_of_that_limit() {
        let broken = |value, limits| within::<i8>("x", value, limits).map_err(|it| it.rule);
        assert_eq!(broken(-5, -5..=9), Ok(-5));
        assert_eq!(broken(9, -5..=9), Ok(9));
        assert_eq!(broken(-6, -5..=9), Err(Rule::AtLeast(-5)));
        assert_eq!(broken(10, -5..=9), Err(Rule::AtMost(9)));
        assert_eq!(broken(i64::MIN, -5..=9), Err(Rule::AtLeast(-5)));
        assert_eq!(broken(i64::MAX, -5..=-2), Err(Rule::AtMost(-2)));
        assert_eq!(broken(-1, -5..=-2), Err(Rule::AtMost(-2)));
        assert_eq!(broken(0, 1..=9), Err(Rule::AtLeast(1)));
    }
}
