//! The JSON of a job that is to run at once: a scheduled one before its time, or a dead letter.
//!
//! The JSON is not written anew: all that stays is as it was, byte for byte. A dead letter may hold anything,
//! members that stand there twice and names with escapes included.

use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_MOVED_BYTES;

/// Why a job cannot run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotRun {
    /// The dead letter has fields of somebody else.
    #[error(
        "it was a foreign entry and no job: append a job made of its fields with XADD, then XDEL this"
    )]
    Foreign,
    /// It is larger than a job may be, before or after it got what it needs.
    #[error("its job is larger than a job may be")]
    TooLarge,
    /// It is an array, a text or whatever else.
    #[error("its job is not a JSON object")]
    NotAnObject,
    /// It is no JSON.
    #[error("its job is not valid JSON")]
    NotJson,
    /// Nobody could say which handler runs it.
    #[error("its job has no type")]
    NoType,
}

/// What the job does not know by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The id of an entry that the job had, by which it is known when it has no id of its own.
    pub(crate) entry: Option<&'a str>,
    /// When it was registered, unless it says so itself.
    pub(crate) registered_ms: Option<u64>,
}

/// A scheduled job as it is to run now. It loses its expiry, a delay, and the time that it waited for a
/// worker that knows its type. It keeps the count of its attempts.
///
/// # Errors
/// When it is no job.
pub(crate) fn run_now(json: &[u8], known: Known<'_>) -> Result<Vec<u8>, CannotRun> {
    anew(
        json,
        known,
        &[
            "unknown_for_ms",
            "expires_in_ms",
            "expires_at_ms",
            "delay_ms",
        ],
    )
}

/// The same for the job of a dead letter, which also gets all its attempts again.
///
/// # Errors
/// When it is no job.
pub(crate) fn retried(json: &[u8], known: Known<'_>) -> Result<Vec<u8>, CannotRun> {
    anew(
        json,
        known,
        &[
            "attempt",
            "unknown_for_ms",
            "expires_in_ms",
            "expires_at_ms",
            "delay_ms",
        ],
    )
}

fn anew(json: &[u8], known: Known<'_>, lost: &[&str]) -> Result<Vec<u8>, CannotRun> {
    if json.len() > MAX_MOVED_BYTES {
        return Err(CannotRun::TooLarge);
    }
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(CannotRun::NotAnObject);
    }
    let text = std::str::from_utf8(json).map_err(|_| CannotRun::NotJson)?;
    let Members(members) = serde_json::from_str(text).map_err(|_| CannotRun::NotJson)?;
    let is_string = |member: &Member<'_>| member.name == "type" && member.value.starts_with('"');
    if !members.iter().any(is_string) {
        return Err(CannotRun::NoType);
    }

    // A member that is null is as one that is absent.
    let stays = |member: &Member<'_>| match member.name.as_str() {
        "id" | "registered_ms" => member.value != "null",
        name => !lost.contains(&name),
    };
    let has = |name| {
        members
            .iter()
            .any(|member| member.name == name && stays(member))
    };
    let mut added = String::new();
    if let Some(entry) = known.entry
        && !has("id")
    {
        added = format!("\"id\":\"{entry}\",");
    }
    if let Some(ms) = known.registered_ms
        && !has("registered_ms")
    {
        added.push_str(&format!("\"registered_ms\":{ms},"));
    }

    let span = |member: &Member<'_>| member.span(text);
    let (first, last) = (span(&members[0]), span(&members[members.len() - 1]));
    let mut job = text[..first.start].to_owned() + &added;
    let mut is_first = true;
    for (at, member) in members
        .iter()
        .enumerate()
        .filter(|(_, member)| stays(member))
    {
        // The comma and the spaces that stood before it.
        if !is_first {
            job.push_str(&text[span(&members[at - 1]).end..span(member).start]);
        }
        job.push_str(&text[span(member)]);
        is_first = false;
    }
    job.push_str(&text[last.end..]);
    match job.len() > MAX_MOVED_BYTES {
        true => Err(CannotRun::TooLarge),
        false => Ok(job.into_bytes()),
    }
}

/// A member of the outer object.
struct Member<'a> {
    name: String,
    /// Its name as it stands in the JSON.
    key: &'a str,
    value: &'a str,
}

impl Member<'_> {
    /// Where it stands. Its parts are borrowed from `text`, so their addresses say that.
    fn span(&self, text: &str) -> Range<usize> {
        let place = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
        place(self.key)..place(self.value) + self.value.len()
    }
}

/// The members of the outer object in their order, also those that stand there twice.
struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push(Member {
                        // Half of a surrogate pair is no text. No name that matters here has one.
                        name: serde_json::from_str(key.get()).unwrap_or_default(),
                        key: key.get(),
                        value: value.get(),
                    });
                }
                Ok(Members(members))
            }
        }

        json.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::jobqueue::job::{Job, MAX_JOB_BYTES};

    const OF_ENTRY: Known<'_> = Known {
        entry: Some("1000-7"),
        registered_ms: Some(1000),
    };
    const UNKNOWN: Known<'_> = Known {
        entry: None,
        registered_ms: None,
    };

    fn text(job: Result<Vec<u8>, CannotRun>) -> String {
        String::from_utf8(job.unwrap()).unwrap()
    }

    #[test]
    fn only_the_queues_own_counts_are_taken_out() {
        for (job, expected) in [
            (
                r#"{"type":"x","attempt":3,"payload":{"attempt":3},"id":"a"}"#,
                r#"{"type":"x","payload":{"attempt":3},"id":"a"}"#,
            ),
            (
                "\n{ \"attempt\" :\t3 , \"id\":\"a\", \"type\":\"x\" } ",
                "\n{ \"id\":\"a\", \"type\":\"x\" } ",
            ),
            (
                r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\","attempt":3}"#,
                r#"{"id":"a","t\"attempt\":1":"\"attempt\":3,","type":"\\"}"#,
            ),
            (
                r#"{"attempt":1,"id":"a","\u0061ttempt":2,"type":"x","attempt":null}"#,
                r#"{"id":"a","type":"x"}"#,
            ),
            (
                r#"{"id":"a","type":"x","unknown_for_ms":3600000,"attempt":1}"#,
                r#"{"id":"a","type":"x"}"#,
            ),
            (
                r#"{"id":"a","expires_at_ms":5,"type":"x","expires_in_ms":1,"delay_ms":"5"}"#,
                r#"{"id":"a","type":"x"}"#,
            ),
            (
                r#"{"id":"a","id":"b","type":"x","type":"y","attempt":1,"big":1e400}"#,
                r#"{"id":"a","id":"b","type":"x","type":"y","big":1e400}"#,
            ),
            (
                r#"{"id":"a","type":"x","trace\ud83d":{"attempt":1},"cut":"\uDE00","attempt":3}"#,
                r#"{"id":"a","type":"x","trace\ud83d":{"attempt":1},"cut":"\uDE00"}"#,
            ),
        ] {
            assert_eq!(text(retried(job.as_bytes(), UNKNOWN)), expected);
        }
    }

    #[test]
    fn a_job_gets_what_it_was_known_by() {
        for (job, expected) in [
            (
                r#"{"type":"x","delay_ms":5000}"#,
                r#"{"id":"1000-7","registered_ms":1000,"type":"x"}"#,
            ),
            (
                r#"{ "id":null, "registered_ms":null , "type":"x"}"#,
                r#"{ "id":"1000-7","registered_ms":1000,"type":"x"}"#,
            ),
            (
                r#"{"id":"a","type":"x","registered_ms":7}"#,
                r#"{"id":"a","type":"x","registered_ms":7}"#,
            ),
            (
                r#"{"registered_ms":7,"type":"x"}"#,
                r#"{"id":"1000-7","registered_ms":7,"type":"x"}"#,
            ),
        ] {
            let again = text(retried(job.as_bytes(), OF_ENTRY));
            assert_eq!(again, expected);
            assert_eq!(text(retried(again.as_bytes(), OF_ENTRY)), expected);
        }
    }

    #[test]
    fn a_job_that_runs_now_keeps_its_attempts() {
        let job = br#"{"id":"a","type":"x","attempt":3,"unknown_for_ms":9,"expires_at_ms":5}"#;
        assert_eq!(
            text(run_now(job, UNKNOWN)),
            r#"{"id":"a","type":"x","attempt":3}"#
        );
    }

    #[test]
    fn what_is_no_job_is_refused_with_the_reason() {
        for (job, why) in [
            ("[1]", CannotRun::NotAnObject),
            ("", CannotRun::NotAnObject),
            (r#"{"type":"x",}"#, CannotRun::NotJson),
            (r#"{"type":"x"} x"#, CannotRun::NotJson),
            ("{}", CannotRun::NoType),
            (r#"{"id":"x"}"#, CannotRun::NoType),
            (r#"{"type":7}"#, CannotRun::NoType),
        ] {
            assert_eq!(retried(job.as_bytes(), OF_ENTRY), Err(why), "{job}");
        }
        assert_eq!(
            retried(b"{\"type\":\"\xff\"}", OF_ENTRY),
            Err(CannotRun::NotJson)
        );
        let large = |bytes: usize| {
            let rest = r#"{"type":"x","payload":""}"#.len();
            format!(r#"{{"type":"x","payload":"{}"}}"#, "a".repeat(bytes - rest)).into_bytes()
        };
        let most = large(MAX_JOB_BYTES);
        Job::parse(&retried(&most, UNKNOWN).unwrap()).unwrap();
        assert_eq!(
            retried(&large(MAX_MOVED_BYTES + 1), UNKNOWN),
            Err(CannotRun::TooLarge)
        );
        assert_eq!(
            retried(&large(MAX_MOVED_BYTES), OF_ENTRY),
            Err(CannotRun::TooLarge)
        );
        // Deeper than the recursion of the reader goes.
        let deep = format!(
            r#"{{"type":"x","deep":{}{}}}"#,
            "[".repeat(2000),
            "]".repeat(2000)
        );
        assert_eq!(text(retried(deep.as_bytes(), UNKNOWN)), deep);
    }
}
