//! A job as it travels: the JSON in the `job` field of a stream entry.
//!
//! Reading it takes what the worker decides by; the payload stays the bytes that the
//! producer wrote. A move between stream and scheduled set changes only what it must in
//! the text, so that fields this version does not know survive.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The number of retries of a job that does not say.
pub const DEFAULT_MAX_RETRY: u32 = 10;
/// The largest number of retries.
pub const MAX_RETRY: u32 = 1000;
/// The longest delay in milliseconds: a year, be it a leap year.
pub const MAX_DELAY_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// The largest job, as bytes of JSON. The API takes bodies of 64 KiB; four times
/// that leaves room for escapes, and bounds what a worker holds.
pub const MAX_JOB_BYTES: usize = 256 * 1024;
/// What a move may add to a job beyond that: `"id":"<entry id>",`
const MAX_ID_BYTES: usize = 49;
/// and `"attempt":1000,`
const MAX_ATTEMPT_BYTES: usize = 15;
/// and `"unknown_for_ms":<u64>,`.
const MAX_UNKNOWN_BYTES: usize = 38;
const MAX_MOVED_BYTES: usize = MAX_JOB_BYTES + MAX_ID_BYTES + MAX_ATTEMPT_BYTES + MAX_UNKNOWN_BYTES;

/// What is larger than this is no job's entry: the largest job, under its field's name.
pub(crate) const MAX_ENTRY_BYTES: usize = MAX_MOVED_BYTES + "job".len();

/// One job. In its JSON, null means the same as an absent field: serializers of other
/// languages write it for what a producer left out.
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
    #[serde(
        default,
        deserialize_with = "integer_or_zero",
        skip_serializing_if = "is_zero"
    )]
    pub delay_ms: u64,
    /// How many times a failed attempt is repeated; 0 means never.
    #[serde(
        default = "default_max_retry",
        deserialize_with = "max_retry",
        skip_serializing_if = "is_default_max_retry"
    )]
    pub max_retry: u32,
    /// How many attempts have failed so far.
    #[serde(
        default,
        deserialize_with = "count_or_zero",
        skip_serializing_if = "is_zero_u32"
    )]
    pub attempt: u32,
    /// How long it has waited so far, in pauses between deliveries, for a worker that knows
    /// its type. Pauses are summed up, and no two clocks or times of one clock are compared.
    #[serde(
        default,
        deserialize_with = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub unknown_for_ms: Option<u64>,
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
            unknown_for_ms: None,
        }
    }

    /// Reads a job.
    ///
    /// # Errors
    /// Says what is wrong with one that is malformed.
    pub fn parse(json: &[u8]) -> Result<Self, MalformedJob> {
        if json.len() > MAX_MOVED_BYTES {
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
        let unknown = self.unknown_for_ms.map_or(0, |_| MAX_UNKNOWN_BYTES);
        MAX_JOB_BYTES + id + attempt + unknown
    }

    /// The job as JSON, without the fields that equal their default.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("cannot fail because a job is strings, numbers and JSON that was parsed")
    }
}

/// What a move changes in a job's JSON, to be done by Redis to the text that it holds: a
/// job is never sent back. Everything else stays as it was, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edits {
    /// How long the text is that these are for, in bytes.
    pub(crate) of_bytes: usize,
    /// In the order of their places, which do not overlap.
    pub(crate) edits: Vec<Edit>,
}

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Which bytes go.
    pub(crate) cut: Range<usize>,
    /// What comes in their place.
    pub(crate) text: String,
}

/// What a job's JSON needs to move to the scheduled set: it loses its delay, which the
/// set's score stands for, is told the attempts made so far, and has an id from now on. It
/// says for how long no worker knew its type; 0 when the one that moves it does.
///
/// # Errors
/// When `json` is not a job's JSON.
pub(crate) fn moved(
    json: &[u8],
    id: &str,
    attempt: u32,
    unknown_for_ms: u64,
) -> Result<Edits, serde_json::Error> {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(json)?;
    // The values are borrowed from `json`, so where they are says where they stand in it.
    let span = |value: &RawValue| {
        let start = value.get().as_ptr().addr() - json.as_ptr().addr();
        start..start + value.get().len()
    };
    let inside = json.len() - json.trim_ascii_start().len() + 1;
    let mut edits = Vec::new();
    let mut set = |name: &str, value: String| {
        edits.push(match fields.get(name) {
            Some(old) => Edit {
                cut: span(old),
                text: value,
            },
            // A job has a type, so another member follows.
            None => Edit {
                cut: inside..inside,
                text: format!("\"{name}\":{value},"),
            },
        });
    };
    if fields.get("id").is_none_or(|id| id.get() == "null") {
        set("id", serde_json::to_string(id)?);
    }
    if attempt > 0 {
        set("attempt", attempt.to_string());
    }
    if unknown_for_ms > 0 || fields.contains_key("unknown_for_ms") {
        set("unknown_for_ms", unknown_for_ms.to_string());
    }
    if let Some(delay) = fields.get("delay_ms") {
        edits.push(without(json, "delay_ms", span(delay)));
    }
    edits.sort_by_key(|edit| edit.cut.start);
    Ok(Edits {
        of_bytes: json.len(),
        edits,
    })
}

/// Takes out the member `name`, whose value stands at `value`.
fn without(json: &[u8], name: &str, value: Range<usize>) -> Edit {
    member(json, name, &value).map_or(
        // Its name is written with escapes. Zero is what a job without it has.
        Edit {
            cut: value,
            text: "0".to_owned(),
        },
        |cut| Edit {
            cut,
            text: String::new(),
        },
    )
}

/// Where a member with one of the commas beside it stands.
fn member(json: &[u8], name: &str, value: &Range<usize>) -> Option<Range<usize>> {
    let key = json[..value.start].trim_ascii_end().strip_suffix(b":")?;
    let key = key.trim_ascii_end().strip_suffix(b"\"")?;
    let before = key.strip_suffix(name.as_bytes())?.strip_suffix(b"\"")?;
    let after = json[value.end..].trim_ascii_start();
    if let Some(rest) = after.strip_prefix(b",") {
        return Some(before.len()..json.len() - rest.len());
    }
    let before = before.trim_ascii_end().strip_suffix(b",")?;
    Some(before.len()..value.end)
}

/// An integer up to `max`, or nothing for null. As in JSON Schema, a number with a zero
/// fraction is an integer, however it is written: `5`, `5.0`, `5e0`.
fn integer<'de, D: Deserializer<'de>>(json: D, max: u64) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(json)? else {
        return Ok(None);
    };
    let whole = number.as_u64().or_else(|| {
        // A float is shown with all its digits and without a zero fraction, and adding zero
        // makes 0 of -0.
        let shown = (number.as_f64()? + 0.0).to_string();
        shown.parse().ok()
    });
    match whole.filter(|whole| *whole <= max) {
        Some(whole) => Ok(Some(whole)),
        None => {
            let expected = format!("an integer from 0 to {max}");
            let found = number.to_string();
            Err(D::Error::invalid_value(
                Unexpected::Other(&found),
                &expected.as_str(),
            ))
        }
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    integer(json, u64::MAX)
}

fn integer_or_zero<'de, D: Deserializer<'de>>(json: D) -> Result<u64, D::Error> {
    Ok(integer(json, u64::MAX)?.unwrap_or(0))
}

fn count<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u32>, D::Error> {
    let count = integer(json, u32::MAX.into())?;
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}

fn count_or_zero<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    Ok(count(json)?.unwrap_or(0))
}

fn max_retry<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    Ok(count(json)?.unwrap_or(DEFAULT_MAX_RETRY))
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
    use proptest::strategy::{BoxedStrategy, Strategy};

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

    /// A member of a job's JSON, or nothing where it is absent.
    fn member(name: &'static str, values: &'static [&'static str]) -> BoxedStrategy<String> {
        let present = move |value: &&str| format!("\"{name}\":{value}");
        let values = proptest::sample::select(values);
        proptest::option::of(values.prop_map(move |value| present(&value)))
            .prop_map(Option::unwrap_or_default)
            .boxed()
    }

    proptest::proptest! {
        /// Whatever is null, absent or given, in whatever order: a park and two retries give
        /// JSON without a field twice, with the same job in it, and with the rest untouched.
        #[test]
        fn a_job_survives_its_moves_whatever_of_it_is_null(
            members in (
                member("id", &["null", "\"a\""]),
                member("payload", &["null", "{ \"id\" : null }", "[1.0]"]),
                member("delay_ms", &["null", "0", "5", "5.0", "1e3"]),
                member("max_retry", &["null", "0", "3.0"]),
                member("attempt", &["null", "0", "2", "2.0"]),
                member("trace", &["null", "\"delay_ms\""]),
                member("unknown_for_ms", &["null", "0", "7.0"]),
            ).prop_map(|(a, b, c, d, e, f, g)| vec![a, b, c, d, e, f, g, "\"type\" : \"x\"".to_owned()])
             .prop_shuffle(),
            space in proptest::sample::select(&["", " ", "\n  "][..]),
        ) {
            let members: Vec<_> = members.into_iter().filter(|one| !one.is_empty()).collect();
            let json = format!("{{{space}{}{space}}}", members.join(&format!("{space},{space}")));
            let before = Job::parse(json.as_bytes()).unwrap();
            let parked = edited(json.as_bytes(), "7-1", before.attempt);
            let unknown = edited_unknown(parked.as_bytes(), "8-1", before.attempt, 1000);
            let retried = edited(unknown.as_bytes(), "8-1", before.attempt + 1);
            let again = edited(retried.as_bytes(), "9-1", before.attempt + 2);
            let waited = Job::parse(unknown.as_bytes()).expect(&unknown);
            proptest::prop_assert_eq!(waited.unknown_for_ms, Some(1000));
            proptest::prop_assert_eq!(waited.attempt, before.attempt);
            for (moves, moved) in [parked, retried, again].iter().enumerate() {
                // Reading a job refuses a field that is there twice.
                let after = Job::parse(moved.as_bytes()).expect(moved);
                let made = before.attempt + u32::try_from(moves).unwrap();
                proptest::prop_assert_eq!(after.attempt, made);
                proptest::prop_assert_eq!(after.delay_ms, 0);
                proptest::prop_assert_eq!(after.unknown_for_ms.unwrap_or(0), 0);
                proptest::prop_assert_eq!(after.max_retry, before.max_retry);
                let id = before.id.clone().unwrap_or("7-1".to_owned());
                proptest::prop_assert_eq!(after.id.as_ref(), Some(&id));
                let payload = |job: &Job| job.payload.as_ref().map(|payload| payload.get().to_owned());
                proptest::prop_assert_eq!(payload(&after), payload(&before));
                let trace = members.iter().find(|one| one.starts_with("\"trace\""));
                proptest::prop_assert!(trace.is_none_or(|trace| moved.contains(trace)));
            }
        }
    }

    #[test]
    fn a_move_keeps_payload_bytes_and_unknown_fields() {
        let json =
            br#"{"type":"x","payload":{ "a" : 1.00, "b":1e400 },"trace":"00-ab","delay_ms":5}"#;
        assert_eq!(
            edited(json, "7-1", 2),
            r#"{"id":"7-1","attempt":2,"type":"x","payload":{ "a" : 1.00, "b":1e400 },"trace":"00-ab"}"#
        );
    }

    #[test]
    fn a_move_changes_only_what_it_must_wherever_that_stands() {
        for (json, attempt, moved) in [
            (r#"{"type":"x"}"#, 0, r#"{"id":"7-1","type":"x"}"#),
            (
                r#" { "delay_ms" : 5 , "type":"x","id":"a"} "#,
                0,
                r#" {  "type":"x","id":"a"} "#,
            ),
            (
                r#"{"id":null,"type":"x","attempt":1,"delay_ms":5}"#,
                2,
                r#"{"id":"7-1","type":"x","attempt":2}"#,
            ),
            (
                r#"{"type":"x","id":"a","delay_ms":0}"#,
                1,
                r#"{"attempt":1,"type":"x","id":"a"}"#,
            ),
            (
                r#"{"type":"x","payload":{"delay_ms":7,"id":null},"id":"a","delay\u005fms":5}"#,
                0,
                r#"{"type":"x","payload":{"delay_ms":7,"id":null},"id":"a","delay\u005fms":0}"#,
            ),
        ] {
            assert_eq!(edited(json.as_bytes(), "7-1", attempt), moved);
            let before = Job::parse(json.as_bytes()).unwrap();
            let after = Job::parse(moved.as_bytes()).unwrap();
            assert_eq!(after.delay_ms, 0, "{moved}");
            assert_eq!(after.id, Some(before.id.unwrap_or("7-1".to_owned())));
        }
    }

    /// What Redis makes of a job's JSON when it moves.
    fn edited(json: &[u8], id: &str, attempt: u32) -> String {
        edited_unknown(json, id, attempt, 0)
    }

    fn edited_unknown(json: &[u8], id: &str, attempt: u32, unknown_for_ms: u64) -> String {
        let Edits { of_bytes, edits } = moved(json, id, attempt, unknown_for_ms).unwrap();
        assert_eq!(of_bytes, json.len());
        let (mut text, mut from) = (Vec::new(), 0);
        for Edit { cut, text: new } in edits {
            text.extend_from_slice(&json[from..cut.start]);
            text.extend_from_slice(new.as_bytes());
            from = cut.end;
        }
        text.extend_from_slice(&json[from..]);
        String::from_utf8(text).unwrap()
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
        let parked = edited_unknown(&added, &entry, 0, u64::MAX);
        Job::parse(parked.as_bytes()).unwrap();
        let retried = edited_unknown(parked.as_bytes(), &entry, MAX_RETRY, u64::MAX);
        Job::parse(retried.as_bytes()).unwrap();
        assert_eq!(retried.len(), MAX_MOVED_BYTES);
        let known = edited(retried.as_bytes(), &entry, MAX_RETRY);
        Job::parse(known.as_bytes()).unwrap();
        assert!(Job::parse(&sized(MAX_JOB_BYTES + 1)).is_err());
    }

    #[test]
    fn a_move_keeps_the_id_that_is_there() {
        let json = r#"{"id":"mine","type":"x"}"#;
        assert_eq!(edited(json.as_bytes(), "7-1", 0), json);
    }
}
