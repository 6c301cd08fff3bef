//! A job as it travels: the JSON in the `job` field of a stream entry.

use serde_json::value::RawValue;

/// The number of retries of a job that does not say.
pub const DEFAULT_MAX_RETRY: u32 = 10;

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Names the job for its whole life; absent in a bare entry until its first move.
    pub id: Option<String>,
    /// Which handler runs it.
    pub job_type: String,
    /// What the handler gets, byte for byte as the producer wrote it.
    pub payload: Option<Box<RawValue>>,
    /// How long after its registration it may run at the earliest.
    pub delay_ms: u64,
    /// How many times a failed attempt is repeated.
    pub max_retry: u32,
    /// How many attempts have failed so far.
    pub attempt: u32,
}
