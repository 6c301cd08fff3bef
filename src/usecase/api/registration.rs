//! What a client may ask of a delay-print job: the defaults, the limits, and the job that follows
//! from them.
//!
//! `api` knows how the values arrive and how errors are shown.

mod span;

use std::time::Duration;

use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

pub(crate) use self::span::Span;
use super::violation::{Rule, Violation, within};
use crate::{
    duration::{self, BadDuration},
    service::jobqueue::job::{DEFAULT_MAX_RETRY, Job, MAX_DELAY_MS, MAX_RETRY},
    usecase::jobqueue::delay_print::{DEFAULT_MESSAGE, DelayPrintPayload, JOB_TYPE_DELAY_PRINT},
};

/// The delay of a job whose registration names none.
pub(crate) const DEFAULT_DELAY: Duration = Duration::from_secs(180);

/// The longest delay that can be asked for.
const MAX_DELAY: Duration = Duration::from_millis(MAX_DELAY_MS);

const EITHER_DELAY: Violation = Violation {
    field: "delay",
    rule: Rule::Without {
        this: "delay",
        other: "delay_seconds",
    },
};

/// Absent and null are the same. Either delay or delay_seconds may be given, not both. A property
/// may come once. A number without a fraction is an integer, 5.0 and 1e3 too. A byte order mark is
/// ignored.
// A field of the request is written here: its name, its type, its words for clients, its limits and
// its examples. The decoder and the API's description are made from this struct. Tests compare
// the numbers, and the tables of the documents, with the conversion to a job.
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
    #[schema(required = false, schema_with = expiry)]
    pub(crate) expires_in: Option<Span>,
}

fn expiry() -> RefOr<Schema> {
    let description = "How long after its delay the job may wait for a worker: numbers with units as in \
        delay, or a number of seconds, 366days at most. A job that was not started by then becomes a \
        dead letter. Absent or 0 it never expires. The pattern is of usual forms within that limit; further \
        ones are taken as well.";
    span::schema(description, ["10m", "36h"], 0..=MAX_DELAY.as_secs())
}

impl TryFrom<RegisterInput> for Job {
    /// All rules that the input breaks.
    type Error = Vec<Violation>;

    /// Applies the defaults and checks the limits.
    fn try_from(input: RegisterInput) -> Result<Self, Vec<Violation>> {
        let delay = match (input.delay, input.delay_seconds) {
            (Some(_), Some(_)) => Err(EITHER_DELAY),
            (Some(text), None) => duration("delay", &text),
            (None, seconds) => {
                let limits = 0..=MAX_DELAY.as_secs();
                within("delay_seconds", seconds.unwrap_or(0), limits).map(|seconds| match seconds {
                    0 => DEFAULT_DELAY,
                    seconds => Duration::from_secs(seconds),
                })
            }
        };
        let max_retry = within("max_retry", input.max_retry.unwrap_or(0), 0..=MAX_RETRY);
        let expires_in = match input.expires_in {
            None => Ok(Duration::ZERO),
            Some(Span::Text(text)) => duration("expires_in", &text),
            Some(Span::Seconds(seconds)) => {
                let limits = 0..=MAX_DELAY.as_secs();
                within("expires_in", seconds, limits).map(Duration::from_secs)
            }
        };
        let (delay, max_retry, expires_in) = match (delay, max_retry, expires_in) {
            (Ok(delay), Ok(0), Ok(expires_in)) => (delay, DEFAULT_MAX_RETRY, expires_in),
            (Ok(delay), Ok(max_retry), Ok(expires_in)) => (delay, max_retry, expires_in),
            (delay, max_retry, expires_in) => {
                let violations = [delay.err(), max_retry.err(), expires_in.err()];
                return Err(violations.into_iter().flatten().collect());
            }
        };
        let message = input.message.filter(|message| !message.is_empty());
        let payload = DelayPrintPayload {
            message: Some(message.unwrap_or_else(|| DEFAULT_MESSAGE.to_owned())),
        };
        let job = Self::new(JOB_TYPE_DELAY_PRINT, &payload)
            .expect("cannot fail because a string can always be written as JSON");
        Ok(job.delay(delay).max_retry(max_retry).expires_in(expires_in))
    }
}

fn duration(field: &'static str, text: &str) -> Result<Duration, Violation> {
    duration::parse(text, MAX_DELAY).map_err(|why| {
        let rule = match why {
            BadDuration::TooLong => Rule::DaysAtMost(MAX_DELAY.as_secs() / (24 * 60 * 60)),
            BadDuration::NotADuration(why) => Rule::Duration(why.to_string()),
        };
        Violation { field, rule }
    })
}

#[cfg(test)]
mod tests;
