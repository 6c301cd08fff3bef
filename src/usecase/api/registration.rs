//! What a client may ask of a delay-print job: the defaults, the limits, and the job that follows
//! from them.
//!
//! `api` knows how the values arrive and how errors are shown.

use std::time::Duration;

use crate::{
    duration::{self, BadDuration},
    service::jobqueue::{
        constants::JOB_TYPE_DELAY_PRINT,
        job::{DEFAULT_MAX_RETRY, Job, MAX_DELAY_MS, MAX_RETRY},
    },
    usecase::jobqueue::delay_print::{DEFAULT_MESSAGE, DelayPrintPayload},
};

/// The delay of a job whose registration names none.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(180);

/// The longest delay that can be asked for.
const MAX_DELAY: Duration = Duration::from_millis(MAX_DELAY_MS);

/// What a client asks for. `None` means the default.
///
/// An integer that `i64` cannot hold may be given as the nearest `i64`, since all limits are far
/// smaller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterInput {
    /// The text to print; empty means the default.
    pub message: Option<String>,
    /// The delay in seconds; 0 means the default.
    pub delay_seconds: Option<i64>,
    /// The delay in humantime's notation (`2m 30s`). Zero means no delay.
    pub delay: Option<String>,
    /// How many times a failed attempt is repeated; 0 means the default.
    pub max_retry: Option<i64>,
}

impl RegisterInput {
    /// Applies the defaults and checks the limits.
    ///
    /// # Errors
    ///
    /// All rules that the input breaks.
    pub fn check(self) -> Result<Registration, Vec<Violation>> {
        let mut violations = Vec::new();
        let delay = match (self.delay, self.delay_seconds) {
            (Some(_), Some(_)) => Err(Violation::new(
                "delay",
                "expected either delay or delay_seconds, not both",
            )),
            (Some(text), None) => duration(&text).map_err(|why| Violation::new("delay", why)),
            (None, seconds) => within(seconds, MAX_DELAY.as_secs())
                .map(|seconds| seconds.map_or(DEFAULT_DELAY, Duration::from_secs))
                .map_err(|why| Violation::new("delay_seconds", why)),
        };
        let max_retry = within(self.max_retry, MAX_RETRY)
            .map(|retries| retries.unwrap_or(DEFAULT_MAX_RETRY))
            .map_err(|why| Violation::new("max_retry", why));

        let delay = delay.map_err(|violation| violations.push(violation));
        let max_retry = max_retry.map_err(|violation| violations.push(violation));
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

/// A rule that an input breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field of [`RegisterInput`] that is at fault.
    pub field: &'static str,
    /// What was expected of the field.
    pub message: String,
}

impl Violation {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
        }
    }
}

/// An input that breaks no rule, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
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
fn within<T>(value: Option<i64>, max: T) -> Result<Option<T>, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    match value {
        None | Some(0) => Ok(None),
        Some(..0) => Err("expected number >= 0".to_owned()),
        Some(value) => match T::try_from(value) {
            Ok(value) if value <= max => Ok(Some(value)),
            _ => Err(format!("expected number <= {max}")),
        },
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text, MAX_DELAY).map_err(|why| match why {
        // humantime would write 366 days in years, months and days.
        BadDuration::TooLong => {
            let days = MAX_DELAY.as_secs() / (24 * 60 * 60);
            format!("expected duration <= {days}days")
        }
        BadDuration::NotADuration(why) => {
            format!("expected duration such as 250ms or 2m 30s: {why}")
        }
    })
}

#[cfg(test)]
mod tests;
