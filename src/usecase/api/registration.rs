//! What a client may ask of a delay-print job: the defaults, the limits, and the job that follows
//! from them.
//!
//! `api` knows how the values arrive and how errors are shown.

use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;

use super::violation::{Rule, Violation};
use crate::{
    duration::{self, BadDuration},
    service::jobqueue::{
        constants::JOB_TYPE_DELAY_PRINT,
        job::{DEFAULT_MAX_RETRY, Job, MAX_DELAY_MS, MAX_RETRY},
    },
    usecase::jobqueue::delay_print::{DEFAULT_MESSAGE, DelayPrintPayload},
};

/// The delay of a job whose registration names none.
pub(crate) const DEFAULT_DELAY: Duration = Duration::from_secs(180);

/// The longest delay that can be asked for.
const MAX_DELAY: Duration = Duration::from_millis(MAX_DELAY_MS);

const EITHER_DELAY: Rule = Rule::Without {
    this: "delay",
    other: "delay_seconds",
};

/// Absent and null are the same. Either delay or delay_seconds may be given, not both. A property
/// may come once. A number without a fraction is an integer, 5.0 and 1e3 too. A byte order mark is
/// ignored.
// A field of the request is written here: its name, its type, its words for clients, its limits and
// its examples. The decoder and the API's description are made from this struct. Tests compare
// the numbers, and the tables of the documents, with `check`.
//
// `None` means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Registration)]
pub(crate) struct RegisterInput {
    /// What to print, as one line: control characters are escaped.
    /// Absent or empty it is: Job executed successfully.
    pub(crate) message: Option<String>,
    /// How many seconds to wait, unless delay says so. Absent or 0 it is 180.
    #[schema(minimum = 0, maximum = 31_622_400)]
    pub(crate) delay_seconds: Option<i64>,
    /// Instead of delay_seconds: numbers with units (ns, us, ms, s, m, h, days, weeks, months,
    /// years), 366days together at most. Zero means now. A part of a millisecond counts as a whole
    /// one. The pattern is of usual forms within that limit; further ones are taken as well.
    #[schema(
        examples("250ms", "2m 30s", "1.5h", "1y", "0s"),
        pattern = "^(?:(?:[0-6]?[0-9](?:\\.[0-9])? ?d(?:ays?)?|[0-9]{1,3}(?:\\.[0-9]{1,2})? ?h(?:ours?)?\
            |[0-9]{1,4}(?:\\.[0-9]{1,2})? ?m(?:in(?:utes?)?)?\
            |[0-9]{1,6}(?:\\.[0-9]{1,3})? ?s(?:ec(?:onds?)?)?|[0-9]{1,9} ?ms|[0-9]{1,12} ?us\
            |[0-9]{1,15} ?ns)(?: ?(?:[0-6]?[0-9](?:\\.[0-9])? ?d(?:ays?)?\
            |[0-9]{1,3}(?:\\.[0-9]{1,2})? ?h(?:ours?)?\
            |[0-9]{1,4}(?:\\.[0-9]{1,2})? ?m(?:in(?:utes?)?)?\
            |[0-9]{1,6}(?:\\.[0-9]{1,3})? ?s(?:ec(?:onds?)?)?|[0-9]{1,9} ?ms|[0-9]{1,12} ?us\
            |[0-9]{1,15} ?ns)){0,4}|(?:36[0-6]|3[0-5][0-9]|[12][0-9]{2}|[789][0-9]) ?d(?:ays?)?\
            |[0-7][0-9]{3} ?h(?:ours?)?|[0-9]{1,5} ?m(?:in(?:utes?)?)?|[0-9]{7} ?s(?:ec(?:onds?)?)?\
            |(?:[0-4]?[0-9]|5[0-2]) ?w(?:eeks?)?|(?:[0-9]|1[0-2]) ?(?:M|months?)|[01] ?y(?:ears?)?)$"
    )]
    pub(crate) delay: Option<String>,
    /// How many times a failed attempt is repeated. Absent or 0 it is 10.
    #[schema(minimum = 0, maximum = 1000)]
    pub(crate) max_retry: Option<i64>,
}

impl RegisterInput {
    /// Applies the defaults and checks the limits.
    ///
    /// # Errors
    ///
    /// All rules that the input breaks.
    pub(crate) fn check(self) -> Result<Registration, Vec<Violation>> {
        let mut violations = Vec::new();
        let delay = match (self.delay, self.delay_seconds) {
            (Some(_), Some(_)) => Err(("delay", EITHER_DELAY)),
            (Some(text), None) => duration(&text).map_err(|rule| ("delay", rule)),
            (None, seconds) => within(seconds, MAX_DELAY.as_secs())
                .map(|seconds| seconds.map_or(DEFAULT_DELAY, Duration::from_secs))
                .map_err(|rule| ("delay_seconds", rule)),
        };
        let max_retry = within(self.max_retry, MAX_RETRY)
            .map(|retries| retries.unwrap_or(DEFAULT_MAX_RETRY))
            .map_err(|rule| ("max_retry", rule));

        let mut note = |(field, rule)| violations.push(Violation { field, rule });
        let delay = delay.map_err(&mut note);
        let max_retry = max_retry.map_err(&mut note);
        match (delay, max_retry) {
            (Ok(delay), Ok(max_retry)) => Ok(Registration {
                message: self
                    .message
                    .filter(|message| !message.is_empty())
                    .unwrap_or_else(|| DEFAULT_MESSAGE.to_owned()),
                delay,
                max_retry,
            }),
            _ => Err(violations),
        }
    }
}

/// An input that breaks no rule, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    message: String,
    delay: Duration,
    max_retry: u32,
}

impl Registration {
    pub(super) fn into_job(self) -> Job {
        let payload = DelayPrintPayload {
            message: Some(self.message),
        };
        let job = Job::new(JOB_TYPE_DELAY_PRINT, &payload)
            .expect("cannot fail because a string can always be written as JSON");
        job.delay(self.delay).max_retry(self.max_retry)
    }
}

/// The value, if it is not above `max`. `None` when it is absent or 0, which both mean the default.
fn within<T>(value: Option<i64>, max: T) -> Result<Option<T>, Rule>
where
    T: TryFrom<i64> + PartialOrd + Into<i128>,
{
    match value {
        None | Some(0) => Ok(None),
        Some(..0) => Err(Rule::AtLeast(0)),
        Some(value) => match T::try_from(value) {
            Ok(value) if value <= max => Ok(Some(value)),
            _ => Err(Rule::AtMost(max.into())),
        },
    }
}

fn duration(text: &str) -> Result<Duration, Rule> {
    duration::parse(text, MAX_DELAY).map_err(|why| match why {
        BadDuration::TooLong => Rule::DaysAtMost(MAX_DELAY.as_secs() / (24 * 60 * 60)),
        BadDuration::NotADuration(why) => Rule::Duration(why.to_string()),
    })
}

#[cfg(test)]
mod tests;
