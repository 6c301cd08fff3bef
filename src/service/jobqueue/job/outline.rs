//! What can be seen of a job without running it. A job that a worker would refuse for its limits is seen too.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DEFAULT_MAX_RETRY;
use super::integer::{count, milliseconds};

/// The members by which people know a job.
#[derive(Debug, Deserialize)]
struct Names {
    #[serde(default)]
    id: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

/// The members of a job's JSON that an operator is shown.
#[derive(Debug, Default, Deserialize)]
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
        if !is_object {
            return None;
        }
        let outline = serde_json::from_slice(json);
        // A job is malformed for a number that makes no sense, and is called by its id all the same.
        outline.ok().or_else(|| {
            let Names {
                id,
                job_type,
                payload,
            } = serde_json::from_slice(json).ok()?;
            Some(Self {
                id,
                job_type,
                payload,
                ..Self::default()
            })
        })
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
        let bad = br#"{"id":"a","type":"x","expires_in_ms":-1,"payload":7}"#;
        let seen = Outline::read(bad).unwrap();
        assert_eq!((seen.id.as_deref(), seen.expires_in_ms), (Some("a"), None));
        assert_eq!(Outline::read(b"{}").unwrap().max_retry(), DEFAULT_MAX_RETRY);
        for other in [&b"[]"[..], b"", b"7", b"{\"type\":7}", b"{\"type\":\"x\""] {
            assert!(Outline::read(other).is_none(), "{other:?}");
        }
    }
}
