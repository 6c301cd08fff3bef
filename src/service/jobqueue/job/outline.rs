//! What can be seen of a job without running it. A job that a worker would refuse for its limits is seen too.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DEFAULT_MAX_RETRY;
use super::integer::{count, milliseconds};

/// The members of a job's JSON that an operator is shown.
#[derive(Debug, Deserialize)]
pub(crate) struct Outline {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) job_type: Option<String>,
    #[serde(default)]
    pub(crate) payload: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "milliseconds")]
    pub(crate) delay_ms: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    max_retry: Option<u32>,
    #[serde(default, deserialize_with = "count")]
    attempt: Option<u32>,
    #[serde(default, deserialize_with = "milliseconds")]
    pub(crate) registered_ms: Option<u64>,
    #[serde(default, deserialize_with = "milliseconds")]
    pub(crate) expires_in_ms: Option<u64>,
    #[serde(default, deserialize_with = "milliseconds")]
    pub(crate) expires_at_ms: Option<u64>,
}

impl Outline {
    /// None when it is not the JSON of a job.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        // serde would take an array of the members' values as well.
        let is_object = json.trim_ascii_start().first() == Some(&b'{');
        is_object.then(|| serde_json::from_slice(json).ok())?
    }

    /// How many attempts have failed.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt.unwrap_or_default()
    }

    /// How many times a failed attempt is repeated.
    pub(crate) fn max_retry(&self) -> u32 {
        self.max_retry.unwrap_or(DEFAULT_MAX_RETRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_beyond_its_limits_is_seen_and_what_is_no_job_is_not() {
        let job =
            br#"{"id":null,"type":"x","max_retry":5000,"attempt":2.0,"registered_ms":7,"more":[]}"#;
        let seen = Outline::read(job).unwrap();
        assert_eq!(
            (seen.id.as_deref(), seen.job_type.as_deref()),
            (None, Some("x"))
        );
        assert_eq!((seen.max_retry(), seen.attempt()), (5000, 2));
        assert_eq!(seen.registered_ms, Some(7));
        assert_eq!(Outline::read(b"{}").unwrap().max_retry(), DEFAULT_MAX_RETRY);
        for other in [&b"[]"[..], b"", b"7", b"{\"type\":7}", b"{\"type\":\"x\""] {
            assert!(Outline::read(other).is_none(), "{other:?}");
        }
    }
}
