//! A job as it travels: the JSON in the `job` field of a stream entry.
//!
//! Reading it takes what the worker decides by; the payload stays the bytes that the
//! producer wrote. A move between stream and scheduled set edits the JSON as a map,
//! so that fields this version does not know survive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The number of retries of a job that does not say.
pub const DEFAULT_MAX_RETRY: u32 = 10;
/// The largest number of retries.
pub const MAX_RETRY: u32 = 1000;
/// The longest delay: one year, in milliseconds.
pub const MAX_DELAY_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// The largest job, as bytes of JSON. The API takes bodies of 64 KiB; four times
/// that leaves room for escapes, and bounds what a worker holds.
pub const MAX_JOB_BYTES: usize = 256 * 1024;
/// What a move may add to a job beyond that: `"id":"<entry id>",`
const MAX_ID_BYTES: usize = 49;
/// and `"attempt":1000,`.
const MAX_ATTEMPT_BYTES: usize = 15;

/// One job.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Job {
    /// Names the job for its whole life; absent in a bare entry until its first move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Which handler runs it.
    #[serde(rename = "type")]
    pub job_type: String,
    /// What the handler gets, byte for byte as the producer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// How long after its registration it may run at the earliest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delay_ms: u64,
    /// How many times a failed attempt is repeated; 0 means never.
    #[serde(
        default = "default_max_retry",
        skip_serializing_if = "is_default_max_retry"
    )]
    pub max_retry: u32,
    /// How many attempts have failed so far.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub attempt: u32,
}

/// Why an entry is no job.
#[derive(Debug, thiserror::Error)]
pub enum MalformedJob {
    /// Larger than any producer's job may be.
    #[error("the job has {0} bytes, expected at most {MAX_JOB_BYTES}")]
    TooLarge(usize),
    /// Not even the beginning of a job.
    #[error("the job is not a JSON object")]
    NotAnObject,
    /// JSON is UTF-8. serde does not look into fields that it skips, but a move does.
    #[error("the job is not UTF-8: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// Not JSON, or not a job's JSON.
    #[error("the job cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A delay beyond the limit.
    #[error("found delay_ms {0}, expected at most {MAX_DELAY_MS}")]
    Delay(u64),
    /// Too many retries.
    #[error("found max_retry {0}, expected at most {MAX_RETRY}")]
    MaxRetry(u32),
}

impl Job {
    /// A job to run once at once: with a fresh id, no delay and the default retries.
    pub fn new(job_type: &str, payload: Box<RawValue>) -> Self {
        Self {
            id: Some(Uuid::now_v7().to_string()),
            job_type: job_type.to_owned(),
            payload: Some(payload),
            delay_ms: 0,
            max_retry: DEFAULT_MAX_RETRY,
            attempt: 0,
        }
    }

    /// Reads a job.
    ///
    /// # Errors
    /// Says what is wrong with one that is malformed.
    pub fn parse(json: &[u8]) -> Result<Self, MalformedJob> {
        if json.len() > MAX_JOB_BYTES + MAX_ID_BYTES + MAX_ATTEMPT_BYTES {
            return Err(MalformedJob::TooLarge(json.len()));
        }
        // serde would take an array of the fields' values as well.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(MalformedJob::NotAnObject);
        }
        let job: Self = serde_json::from_str(std::str::from_utf8(json)?)?;
        if json.len() > job.max_bytes() {
            return Err(MalformedJob::TooLarge(json.len()));
        }
        if job.delay_ms > MAX_DELAY_MS {
            return Err(MalformedJob::Delay(job.delay_ms));
        }
        if job.max_retry > MAX_RETRY {
            return Err(MalformedJob::MaxRetry(job.max_retry));
        }
        Ok(job)
    }

    /// A job that was small enough when it was added stays so when it moves.
    fn max_bytes(&self) -> usize {
        let id = if self.id.is_some() { MAX_ID_BYTES } else { 0 };
        let attempt = if self.attempt > 0 {
            MAX_ATTEMPT_BYTES
        } else {
            0
        };
        MAX_JOB_BYTES + id + attempt
    }

    /// The job as JSON, without the fields that equal their default.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("cannot fail because a job is strings, numbers and JSON that was parsed")
    }
}

/// The JSON of a job that moves to the scheduled set: without its delay, which the
/// set's score stands for, with the attempts made so far, and with an id from now
/// on. Everything else stays as it was.
///
/// # Errors
/// When `json` is not a job's JSON.
pub(crate) fn moved(json: &[u8], id: &str, attempt: u32) -> Result<Vec<u8>, serde_json::Error> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(json)?;
    fields.remove("delay_ms");
    if fields.get("id").is_none_or(|id| id.get() == "null") {
        fields.insert("id".to_owned(), serde_json::value::to_raw_value(id)?);
    }
    if attempt > 0 {
        fields.insert(
            "attempt".to_owned(),
            serde_json::value::to_raw_value(&attempt)?,
        );
    }
    serde_json::to_vec(&fields)
}

fn default_max_retry() -> u32 {
    DEFAULT_MAX_RETRY
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_default_max_retry(max_retry: &u32) -> bool {
    *max_retry == DEFAULT_MAX_RETRY
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::constants::JOB_TYPE_DELAY_PRINT;

    #[test]
    fn a_bare_job_gets_the_defaults() {
        let job = Job::parse(br#"{"type":"demo:delay_print"}"#).unwrap();
        assert_eq!(job.job_type, JOB_TYPE_DELAY_PRINT);
        assert!(job.id.is_none() && job.payload.is_none());
        assert_eq!((job.delay_ms, job.max_retry, job.attempt), (0, 10, 0));
        let none = Job::parse(br#"{"type":"x","max_retry":0}"#).unwrap();
        assert_eq!(none.max_retry, 0);
    }

    #[test]
    fn a_producer_leaves_out_what_equals_its_default() {
        let payload = RawValue::from_string(r#"{"message":"hi"}"#.to_owned()).unwrap();
        let mut job = Job::new(JOB_TYPE_DELAY_PRINT, payload);
        job.id = Some("an-id".to_owned());
        assert_eq!(
            String::from_utf8(job.to_json()).unwrap(),
            r#"{"id":"an-id","type":"demo:delay_print","payload":{"message":"hi"}}"#
        );
        (job.delay_ms, job.max_retry, job.attempt) = (180_000, 3, 2);
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
            r#"{"type":"x","delay_ms":1.0}"#,
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
    fn a_move_keeps_payload_bytes_and_unknown_fields() {
        let json =
            br#"{"type":"x","payload":{ "a" : 1.00, "b":1e400 },"trace":"00-ab","delay_ms":5}"#;
        let moved = String::from_utf8(moved(json, "7-1", 2).unwrap()).unwrap();
        assert!(
            moved.contains(r#""payload":{ "a" : 1.00, "b":1e400 }"#),
            "{moved}"
        );
        assert!(moved.contains(r#""trace":"00-ab""#), "{moved}");
        assert!(
            moved.contains(r#""id":"7-1""#) && moved.contains(r#""attempt":2"#),
            "{moved}"
        );
        assert!(!moved.contains("delay_ms"), "{moved}");
    }

    #[test]
    fn a_job_of_the_largest_size_is_still_one_after_its_moves() {
        let sized = |bytes: usize| {
            let rest = r#"{"type":"x","payload":""}"#.len();
            format!(r#"{{"type":"x","payload":"{}"}}"#, "a".repeat(bytes - rest)).into_bytes()
        };
        let entry = format!("{0}-{0}", u64::MAX);
        let added = sized(MAX_JOB_BYTES);
        Job::parse(&added).unwrap();
        let parked = moved(&added, &entry, 0).unwrap();
        Job::parse(&parked).unwrap();
        let retried = moved(&parked, &entry, MAX_RETRY).unwrap();
        Job::parse(&retried).unwrap();
        assert_eq!(
            retried.len(),
            MAX_JOB_BYTES + MAX_ID_BYTES + MAX_ATTEMPT_BYTES
        );
        assert!(Job::parse(&sized(MAX_JOB_BYTES + 1)).is_err());
    }

    #[test]
    fn a_move_keeps_the_id_that_is_there() {
        let moved = moved(br#"{"id":"mine","type":"x"}"#, "7-1", 0).unwrap();
        assert_eq!(moved, br#"{"id":"mine","type":"x"}"#);
    }
}
