//! Registering a delay-print job: the defaults, the limits, and the job that
//! follows from them.
//!
//! How the wishes of a client arrive, and how its mistakes are shown to it, is the
//! business of `api`; how the job reaches the workers, that of the queue's client.

use std::time::Duration;

use serde_json::value::to_raw_value;

use crate::{
    duration::{self, BadDuration},
    service::jobqueue::{
        client::{Client, EnqueueError},
        constants::JOB_TYPE_DELAY_PRINT,
        job::{DEFAULT_MAX_RETRY, Job, MAX_DELAY_MS, MAX_RETRY},
    },
    usecase::jobqueue::delay_print::{DEFAULT_MESSAGE, DelayPrintPayload},
};

/// The delay of a job whose registration names none.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(180);

/// The longest delay that can be asked for.
const MAX_DELAY: Duration = Duration::from_millis(MAX_DELAY_MS);

/// Registers delay-print jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DmJobqueueUsecase {
    client: Client,
}

impl DmJobqueueUsecase {
    /// Registers through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Registers the job and returns its id, within `time_left`.
    ///
    /// # Errors
    ///
    /// Those of the client. After [`EnqueueError::OutcomeUnknown`] the job may run all
    /// the same; it is not registered a second time.
    pub async fn register(
        &self,
        registration: Registration,
        time_left: Duration,
    ) -> Result<String, EnqueueError> {
        let job = registration.into_job();
        self.client.enqueue(&job, time_left).await?;
        Ok(job
            .id
            .expect("cannot fail because a new job is given an id"))
    }
}

/// What a client asks for; `None` where it leaves the choice to the defaults.
///
/// Integers beyond `i64` may be given as its nearest value: all limits lie far within.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterInput {
    /// The text to print; empty means the default.
    pub message: Option<String>,
    /// The delay in seconds; 0 means the default.
    pub delay_seconds: Option<i64>,
    /// The delay in humantime's notation (`2m 30s`), in which zero means none.
    pub delay: Option<String>,
    /// How many times a failed attempt is repeated; 0 means the default.
    pub max_retry: Option<i64>,
}

impl RegisterInput {
    /// Applies the defaults and checks the limits.
    ///
    /// # Errors
    ///
    /// Every rule that the input breaks, not just the first.
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
    /// What was expected of it.
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

/// An input that keeps all rules, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    message: String,
    delay: Duration,
    max_retry: u32,
}

impl Registration {
    fn into_job(self) -> Job {
        let payload = to_raw_value(&DelayPrintPayload {
            message: Some(self.message),
        })
        .expect("cannot fail because a string can always be written as JSON");
        let mut job = Job::new(JOB_TYPE_DELAY_PRINT, payload);
        job.delay_ms = whole_ms(self.delay);
        job.max_retry = self.max_retry;
        job
    }
}

/// `None` for an absent value and for 0, which both mean the default.
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
        // Not as humantime shows it: in years, months and what is left of days.
        BadDuration::TooLong => {
            let days = MAX_DELAY.as_secs() / (24 * 60 * 60);
            format!("expected duration <= {days}days")
        }
        BadDuration::NotOne(why) => format!("expected duration such as 250ms or 2m 30s: {why}"),
    })
}

/// Rounds up: a job that started a part of a millisecond early would be early.
fn whole_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos().div_ceil(1_000_000))
        .expect("cannot fail because a delay is at most 366 days")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delay(text: &str) -> RegisterInput {
        RegisterInput {
            delay: Some(text.to_owned()),
            ..RegisterInput::default()
        }
    }

    fn delay_seconds(seconds: i64) -> RegisterInput {
        RegisterInput {
            delay_seconds: Some(seconds),
            ..RegisterInput::default()
        }
    }

    fn max_retry(retries: i64) -> RegisterInput {
        RegisterInput {
            max_retry: Some(retries),
            ..RegisterInput::default()
        }
    }

    fn job(input: RegisterInput) -> Job {
        input.check().unwrap().into_job()
    }

    fn violation(input: RegisterInput) -> (&'static str, String) {
        let [violation] = input.check().unwrap_err().try_into().unwrap();
        (violation.field, violation.message)
    }

    #[test]
    fn defaults_fill_what_is_absent_or_empty_or_zero() {
        let zeroes = RegisterInput {
            message: Some(String::new()),
            delay_seconds: Some(0),
            delay: None,
            max_retry: Some(0),
        };
        for input in [RegisterInput::default(), zeroes] {
            let job = job(input);
            assert_eq!(job.job_type, "demo:delay_print");
            assert_eq!(
                job.payload.unwrap().get(),
                r#"{"message":"Job executed successfully"}"#
            );
            assert_eq!(job.delay_ms, 180_000);
            assert_eq!(job.max_retry, 10);
            assert_eq!(job.attempt, 0);
        }
    }

    #[test]
    fn what_is_given_is_kept() {
        let job = job(RegisterInput {
            message: Some(" \"hi\"\n".to_owned()),
            delay_seconds: Some(7),
            delay: None,
            max_retry: Some(3),
        });
        assert_eq!(job.payload.unwrap().get(), r#"{"message":" \"hi\"\n"}"#);
        assert_eq!(job.delay_ms, 7_000);
        assert_eq!(job.max_retry, 3);
    }

    #[test]
    fn every_job_has_its_own_id() {
        let ids = [(); 2].map(|()| job(RegisterInput::default()).id.unwrap());
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn delay_seconds_has_two_limits() {
        assert_eq!(job(delay_seconds(1)).delay_ms, 1_000);
        assert_eq!(job(delay_seconds(31_622_400)).delay_ms, 31_622_400_000);
        for over in [31_622_401, i64::MAX] {
            let expected = ("delay_seconds", "expected number <= 31622400".to_owned());
            assert_eq!(violation(delay_seconds(over)), expected);
        }
        for under in [-1, i64::MIN] {
            let expected = ("delay_seconds", "expected number >= 0".to_owned());
            assert_eq!(violation(delay_seconds(under)), expected);
        }
    }

    #[test]
    fn max_retry_has_two_limits() {
        assert_eq!(job(max_retry(1)).max_retry, 1);
        assert_eq!(job(max_retry(1000)).max_retry, 1000);
        for over in [1001, i64::from(u32::MAX) + 2, i64::MAX] {
            let expected = ("max_retry", "expected number <= 1000".to_owned());
            assert_eq!(violation(max_retry(over)), expected);
        }
        for under in [-1, i64::MIN] {
            let expected = ("max_retry", "expected number >= 0".to_owned());
            assert_eq!(violation(max_retry(under)), expected);
        }
    }

    #[test]
    fn delay_takes_humantime_and_zero_means_now() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("2m 30s", 150_000),
            ("366days", 31_622_400_000),
            ("1y", 31_557_600_000),
            ("1year", 31_557_600_000),
        ] {
            assert_eq!(job(delay(text)).delay_ms, ms, "{text}");
        }
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        for (text, ms) in [("1ns", 1), ("1ms", 1), ("1ms 1us", 2), ("999us", 1)] {
            assert_eq!(job(delay(text)).delay_ms, ms, "{text}");
        }
    }

    #[test]
    fn delay_of_more_than_366_days_is_refused() {
        for text in ["366days 1ns", "1y 1day", "500000years"] {
            let (field, message) = violation(delay(text));
            assert_eq!(field, "delay");
            assert_eq!(message, "expected duration <= 366days", "{text}");
        }
    }

    #[test]
    fn delays_whose_sum_no_duration_holds_are_refused() {
        const MAX: &str = "18446744073709551615";
        for text in [
            &format!("{MAX}s 1s"),
            &format!("{MAX}s 1000ms"),
            &format!("{MAX}s1000000000ns"),
            "18446744073709551614 s 1s\t1000ms",
            "584542046090y 19767615s 1000ms",
            // A year at a time.
            &"365d ".repeat(10_000),
        ] {
            let (field, message) = violation(delay(text));
            assert_eq!(field, "delay");
            assert_eq!(message, "expected duration <= 366days", "{text:.60}");
        }
    }

    #[test]
    fn delay_that_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "soon",
            "10",
            "-1s",
            "1 parsec",
            "99999999999999999999s",
        ] {
            let (field, message) = violation(delay(text));
            assert_eq!(field, "delay");
            assert!(
                message.starts_with("expected duration such as 250ms or 2m 30s: "),
                "{text}: {message}"
            );
        }
    }

    #[test]
    fn delay_and_delay_seconds_exclude_each_other() {
        for seconds in [0, 5, -1] {
            let input = RegisterInput {
                delay: Some("5s".to_owned()),
                ..delay_seconds(seconds)
            };
            let (field, message) = violation(input);
            assert_eq!(field, "delay");
            assert_eq!(message, "expected either delay or delay_seconds, not both");
        }
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let input = RegisterInput {
            delay_seconds: Some(-1),
            max_retry: Some(1001),
            ..RegisterInput::default()
        };
        let fields: Vec<_> = input
            .check()
            .unwrap_err()
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, ["delay_seconds", "max_retry"]);
    }

    proptest! {
        #[test]
        fn no_delay_panics(text in "[0-9]{0,25}\\.?[0-9]{0,25} ?(ns|us|ms|s|m|h|d|w|M|y)?|\\PC*") {
            if let Ok(registration) = delay(&text).check() {
                prop_assert!(registration.into_job().delay_ms <= 31_622_400_000);
            }
        }
    }
}
