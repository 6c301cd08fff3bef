//! What a client may ask of a delay-print job: the defaults, the limits, and the job that follows
//! from them.
//!
//! `api` knows how the values arrive and how errors are shown.

use std::time::Duration;

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

/// What a client asks for. `None` means the default.
///
/// An integer that `i64` cannot hold may be given as the nearest `i64`, since all limits are far
/// smaller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegisterInput {
    /// The text to print; empty means the default.
    pub(crate) message: Option<String>,
    /// The delay in seconds; 0 means the default.
    pub(crate) delay_seconds: Option<i64>,
    /// The delay in humantime's notation (`2m 30s`). Zero means no delay.
    pub(crate) delay: Option<String>,
    /// How many times a failed attempt is repeated; 0 means the default.
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
    T: TryFrom<i64> + PartialOrd + Into<u64>,
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
