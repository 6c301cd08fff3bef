//! The fields of a job and of its JSON: their names, which of them may be left out, and their numbers.
//!
//! The limits of the values are not checked here. `Job` is public and `Wire` is not, so a job is read
//! by `Job::parse` alone, which checks them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::integer::{count, count_or_zero, milliseconds, milliseconds_or_zero};

/// The number of retries of a job that does not say.
pub(crate) const DEFAULT_MAX_RETRY: u32 = 10;

/// A job, for a [`Client`] to append: its type, its payload and its id, and when and how often it is
/// tried.
///
/// ```
/// use std::time::Duration;
///
/// use dm_jobqueue::Job;
///
/// let job = Job::new("mail:send", "you@example.com")?
///     .delay(Duration::from_secs(60))
///     .max_retry(3);
/// println!("the mail's job is {}", job.id());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// [`Client`]: crate::Client
#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) id: Option<String>,
    pub(crate) job_type: String,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) delay_ms: u64,
    pub(crate) max_retry: u32,
    pub(crate) attempt: u32,
    pub(crate) unknown_for_ms: Option<u64>,
    pub(crate) registered_ms: Option<u64>,
    pub(crate) expires_in_ms: u64,
    pub(crate) expires_at_ms: Option<u64>,
}

/// How a [`Job`] is written. A field that only one of them has does not compile.
///
/// Null means the same as an absent field, because serializers of other languages write null for what
/// a producer left out.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Job")]
pub(super) struct Wire {
    /// Names the job for its whole life. A bare entry has none until its first move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Which handler runs it.
    #[serde(rename = "type")]
    job_type: String,
    /// What the handler gets, byte for byte as the producer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    /// How long after its registration the job may run at the earliest.
    #[serde(
        default,
        deserialize_with = "milliseconds_or_zero",
        skip_serializing_if = "is_default"
    )]
    delay_ms: u64,
    /// How many times a failed attempt is repeated; 0 means never.
    #[serde(
        default = "default_max_retry",
        deserialize_with = "max_retry",
        skip_serializing_if = "is_default_max_retry"
    )]
    max_retry: u32,
    /// How many attempts have failed so far.
    #[serde(
        default,
        deserialize_with = "count_or_zero",
        skip_serializing_if = "is_default"
    )]
    attempt: u32,
    /// How long the job has waited so far for a worker that knows its type. This is the sum of
    /// the pauses between its deliveries, so that no two clocks are compared, and no two times
    /// of one clock.
    #[serde(
        default,
        deserialize_with = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    unknown_for_ms: Option<u64>,
    /// When the job was registered, by Redis' clock. It is absent until the first move: until then the
    /// id of the entry says it.
    #[serde(
        default,
        deserialize_with = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    registered_ms: Option<u64>,
    /// How long after its registration and its delay the job may be started for the first time; 0 means
    /// that it does not expire. The first move writes `expires_at_ms` instead.
    #[serde(
        default,
        deserialize_with = "milliseconds_or_zero",
        skip_serializing_if = "is_default"
    )]
    expires_in_ms: u64,
    /// From when on, by Redis' clock, the job is not started for the first time.
    #[serde(
        default,
        deserialize_with = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    expires_at_ms: Option<u64>,
}

impl Wire {
    /// # Errors
    /// When `json` is not the JSON of a job.
    pub(super) fn read(json: &str) -> Result<Job, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(json);
        let job = Self::deserialize(&mut json)?;
        json.end()?;
        Ok(job)
    }

    /// The JSON without the fields that equal their default.
    ///
    /// # Errors
    /// As serde has them.
    pub(super) fn write(job: &Job) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = Vec::new();
        Self::serialize(job, &mut serde_json::Serializer::new(&mut json))?;
        Ok(json)
    }
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
