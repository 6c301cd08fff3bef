//! A job as it travels: the JSON in the `job` field of a stream entry, and its limits.
//!
//! Reading it takes out what the worker decides by. The payload stays as the bytes that the
//! producer wrote. `wire` has the fields of a job and of its JSON. What a move between the stream and the scheduled
//! set changes in it is in `edits`, and what an operator changes who runs it at once is in `anew`. `outline` has
//! what an operator is shown of it.

pub(crate) mod anew;
mod edits;
mod integer;
mod outline;
mod wire;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::to_raw_value;
use uuid::Uuid;

pub(crate) use self::edits::{Edits, Move, moved};
pub(crate) use self::outline::Outline;
pub(crate) use self::wire::DEFAULT_MAX_RETRY;
pub use self::wire::Job;
use self::wire::Wire;

/// The largest number of retries.
pub(crate) const MAX_RETRY: u32 = 1000;
/// The longest delay in milliseconds: a leap year.
pub(crate) const MAX_DELAY_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// The longest time until a job expires.
pub(crate) const MAX_EXPIRES_IN_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// The largest job, in bytes of JSON. The API takes bodies of 64 KiB. Four times that leaves
/// room for escapes, and still bounds what a worker holds.
pub(crate) const MAX_JOB_BYTES: usize = 256 * 1024;
/// How many bytes a move may add to a job for its id: `"id":"<entry id>",`.
const MAX_ID_BYTES: usize = 49;
/// How many bytes a move may add for its attempts: `"attempt":1000,`.
const MAX_ATTEMPT_BYTES: usize = 15;
/// How many bytes a move may add for its wait: `"unknown_for_ms":<u64>,`.
const MAX_UNKNOWN_BYTES: usize = 38;
/// How many bytes a move may add for the time when it expires: `"expires_at_ms":<u64>,`.
const MAX_EXPIRES_BYTES: usize = 37;
const MAX_MOVED_BYTES: usize =
    MAX_JOB_BYTES + MAX_ID_BYTES + MAX_ATTEMPT_BYTES + MAX_UNKNOWN_BYTES + MAX_EXPIRES_BYTES;

/// The largest entry that can be a job: the largest job, with the name of its field.
pub(crate) const MAX_ENTRY_BYTES: usize = MAX_MOVED_BYTES + "job".len();

/// Why an entry is no job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedJob {
    /// It is larger than a job may be.
    #[error("the job has {0} bytes, expected at most {MAX_JOB_BYTES}")]
    TooLarge(usize),
    /// It does not begin as a JSON object does.
    #[error("the job is not a JSON object")]
    NotAnObject,
    /// It is not UTF-8, as JSON must be. serde does not look into fields that it skips, but a
    /// move does.
    #[error("the job is not UTF-8: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is not JSON, or not the JSON of a job.
    #[error("the job cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Its delay is beyond the limit.
    #[error("found delay_ms {0}, expected at most {MAX_DELAY_MS}")]
    Delay(u64),
    /// It expires beyond the limit.
    #[error("found expires_in_ms {0}, expected at most {MAX_EXPIRES_IN_MS}")]
    Expiry(u64),
    /// It has too many retries.
    #[error("found max_retry {0}, expected at most {MAX_RETRY}")]
    MaxRetry(u32),
}

impl Job {
    /// A job that runs at once, with a new id and 10 retries.
    ///
    /// `payload` becomes JSON, and the handler gets it back from that JSON. The whole job may have 256
    /// KiB of JSON. This does not look at the size: [`Client::enqueue`] refuses a larger job as
    /// [`EnqueueError::Malformed`]. What is larger belongs elsewhere, with its place in the payload.
    ///
    /// [`Client::enqueue`]: super::client::Client::enqueue
    /// [`EnqueueError::Malformed`]: super::client::EnqueueError::Malformed
    ///
    /// # Errors
    /// When `payload` cannot be JSON, as a map whose keys are no strings.
    pub fn new(
        job_type: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: Some(Uuid::now_v7().to_string()),
            job_type: job_type.to_owned(),
            payload: Some(to_raw_value(payload)?),
            delay_ms: 0,
            max_retry: DEFAULT_MAX_RETRY,
            attempt: 0,
            unknown_for_ms: None,
            registered_ms: None,
            expires_in_ms: 0,
            expires_at_ms: None,
        })
    }

    /// The same job, which does not start before `delay` is over, by Redis' clock, from the moment
    /// when Redis gets it. Parts of a millisecond count as a whole one. A client refuses more than 366
    /// days.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = whole_ms(delay);
        self
    }

    /// The same job, which becomes a dead letter with the reason `expired` if no worker has started it
    /// before `time` is over. That counts by Redis' clock, from the moment when Redis gets the job, or
    /// from the end of its delay. A job that was started once does not expire any more. Parts of a
    /// millisecond count as a whole one, and zero means that the job does not expire. A client refuses
    /// more than 366 days.
    #[must_use]
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in_ms = whole_ms(time);
        self
    }

    /// The same job, which is repeated up to `max_retry` times when it fails; 0 means never, and 10 is
    /// the default. A client refuses more than 1000.
    #[must_use]
    pub fn max_retry(mut self, max_retry: u32) -> Self {
        self.max_retry = max_retry;
        self
    }

    /// The job's id, a UUID of version 7: what [`Context::job_id`] tells the handler, and what log
    /// lines show.
    ///
    /// [`Context::job_id`]: super::handler::Context::job_id
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Reads a job.
    ///
    /// # Errors
    /// Says what is wrong with one that is malformed.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, MalformedJob> {
        if json.len() > MAX_MOVED_BYTES {
            return Err(MalformedJob::TooLarge(json.len()));
        }
        // serde would take an array of the fields' values as well.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(MalformedJob::NotAnObject);
        }
        let job = Wire::read(std::str::from_utf8(json)?)?;
        if json.len() > job.max_bytes() {
            return Err(MalformedJob::TooLarge(json.len()));
        }
        job.check_limits()?;
        Ok(job)
    }

    fn check_limits(&self) -> Result<(), MalformedJob> {
        if self.delay_ms > MAX_DELAY_MS {
            return Err(MalformedJob::Delay(self.delay_ms));
        }
        if self.max_retry > MAX_RETRY {
            return Err(MalformedJob::MaxRetry(self.max_retry));
        }
        if self.expires_in_ms > MAX_EXPIRES_IN_MS {
            return Err(MalformedJob::Expiry(self.expires_in_ms));
        }
        Ok(())
    }

    /// From when on, by Redis' clock, this job is not started for the first time, if it expires.
    /// `entry_ms` is the time in the id of its entry, which says when a job was registered that has not
    /// moved yet.
    pub(crate) fn expires_at(&self, entry_ms: u64) -> Option<u64> {
        let after = self.delay_ms.saturating_add(self.expires_in_ms);
        let unmoved = (self.expires_in_ms > 0).then(|| entry_ms.saturating_add(after));
        self.expires_at_ms.or(unmoved)
    }

    /// How large this job may be. A move adds fields, and a job that was small enough when it
    /// was added must stay so when it moves.
    fn max_bytes(&self) -> usize {
        let id = if self.id.is_some() { MAX_ID_BYTES } else { 0 };
        let attempt = if self.attempt > 0 {
            MAX_ATTEMPT_BYTES
        } else {
            0
        };
        let unknown = self.unknown_for_ms.map_or(0, |_| MAX_UNKNOWN_BYTES);
        let expires = self.expires_at_ms.map_or(0, |_| MAX_EXPIRES_BYTES);
        MAX_JOB_BYTES + id + attempt + unknown + expires
    }

    /// The JSON of a job that a worker will not refuse.
    ///
    /// # Errors
    /// Says what is wrong with a job that is malformed.
    pub(crate) fn to_valid_json(&self) -> Result<Vec<u8>, MalformedJob> {
        self.check_limits()?;
        let json = self.to_json();
        match json.len() > self.max_bytes() {
            true => Err(MalformedJob::TooLarge(json.len())),
            false => Ok(json),
        }
    }

    /// The job as JSON, without the fields that equal their default: the field `job` of a stream
    /// entry.
    pub fn to_json(&self) -> Vec<u8> {
        Wire::write(self)
            .expect("cannot fail because a job is strings, numbers and JSON that was parsed")
    }
}

fn whole_ms(time: Duration) -> u64 {
    let ms = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_bare_job_gets_the_defaults() {
        let job = Job::parse(br#"{"type":"demo:delay_print"}"#).unwrap();
        assert_eq!(job.job_type, "demo:delay_print");
        assert!(job.id.is_none() && job.payload.is_none());
        assert_eq!((job.delay_ms, job.max_retry, job.attempt), (0, 10, 0));
        let none = Job::parse(br#"{"type":"x","max_retry":0}"#).unwrap();
        assert_eq!(none.max_retry, 0);
    }

    #[test]
    fn a_producer_leaves_out_what_equals_its_default() {
        let payload = RawValue::from_string(r#"{"message":"hi"}"#.to_owned()).unwrap();
        let mut job = Job::new("demo:delay_print", &payload).unwrap();
        job.id = Some("an-id".to_owned());
        assert_eq!(
            String::from_utf8(job.to_json()).unwrap(),
            r#"{"id":"an-id","type":"demo:delay_print","payload":{"message":"hi"}}"#
        );
        let mut job = job.delay(Duration::from_micros(179_999_001)).max_retry(3);
        job.attempt = 2;
        assert!(
            String::from_utf8(job.to_json())
                .unwrap()
                .ends_with(r#","delay_ms":180000,"max_retry":3,"attempt":2}"#)
        );
    }

    #[test]
    fn malformed_jobs_are_refused() {
        let over_delay = format!(r#"{{"type":"x","delay_ms":{}}}"#, MAX_DELAY_MS + 1);
        let over_retry = format!(r#"{{"type":"x","max_retry":{}}}"#, MAX_RETRY + 1);
        let large = format!(
            r#"{{"type":"x","payload":"{}"}}"#,
            "a".repeat(MAX_JOB_BYTES)
        );
        for json in [
            "",
            "null",
            "[]",
            r#"["id","x"]"#,
            "{",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":"x","type":"y"}"#,
            r#"{"type":"x","delay_ms":-1}"#,
            r#"{"type":"x","delay_ms":1.5}"#,
            r#"{"type":"x","delay_ms":-1.0}"#,
            r#"{"type":"x","delay_ms":1e30}"#,
            r#"{"type":"x","delay_ms":true}"#,
            r#"{"type":"x","attempt":4294967296}"#,
            r#"{"type":"x","attempt":null,"attempt":1}"#,
            r#"{"type":"x","delay_ms":"10"}"#,
            r#"{"type":"x","delay_ms":1e400}"#,
            r#"{"type":"x","delay_ms":NaN}"#,
            r#"{"type":"x","max_retry":9223372036854775808}"#,
            r#"{"type":"x","id":7}"#,
            r#"{"type":"x"} trailing"#,
            over_delay.as_str(),
            over_retry.as_str(),
            large.as_str(),
        ] {
            assert!(Job::parse(json.as_bytes()).is_err(), "{json:.60}");
        }
        let skipped = b"{\"type\":\"x\",\"trace\":\"\xff\"}";
        assert!(matches!(Job::parse(skipped), Err(MalformedJob::NotUtf8(_))));
        let at_limit =
            format!(r#"{{"type":"x","delay_ms":{MAX_DELAY_MS},"max_retry":{MAX_RETRY}}}"#);
        Job::parse(at_limit.as_bytes()).unwrap();
    }

    #[test]
    fn null_is_absent_and_a_zero_fraction_is_an_integer() {
        let nulls = br#"{"type":"x","id":null,"payload":null,"delay_ms":null,
            "max_retry":null,"attempt":null,"trace":null}"#;
        let job = Job::parse(nulls).unwrap();
        assert!(job.id.is_none() && job.payload.is_none());
        assert_eq!((job.delay_ms, job.max_retry, job.attempt), (0, 10, 0));
        let floats = br#"{"type":"x","delay_ms":1.5e3,"max_retry":5.0,"attempt":-0.0}"#;
        let job = Job::parse(floats).unwrap();
        assert_eq!((job.delay_ms, job.max_retry, job.attempt), (1500, 5, 0));
    }
}
