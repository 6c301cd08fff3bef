//! What a move between the stream and the scheduled set changes in a job's JSON.
//!
//! Redis makes the changes in the text that it holds, so the job is not sent back to it. The JSON
//! is not written anew: payload and unknown fields stay as they are, byte for byte.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Job, MAX_JOB_BYTES};

/// How many bytes a move may add for the time of a registration: `"registered_ms":<u64>,`.
const MAX_REGISTERED_BYTES: usize = 37;

/// A move of a job to the scheduled set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'a> {
    pub(crate) job: &'a Job,
    /// The entry that the job leaves.
    pub(crate) entry_id: &'a str,
    /// The time in that id, in milliseconds.
    pub(crate) entry_ms: u64,
    /// How many attempts have failed.
    pub(crate) attempt: u32,
    /// For how long no worker has known the job's type: 0 when the worker that moves it knows it.
    pub(crate) unknown_for_ms: u64,
    /// It was started, or may have been. So it does not expire any more.
    pub(crate) was_started: bool,
}

/// What a move changes in a job's JSON. Everything else stays as it was, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edits {
    /// How many bytes the text has that the edits are for.
    pub(crate) of_bytes: usize,
    /// In the order of their places, which do not overlap.
    pub(crate) edits: Vec<Edit>,
}

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Which bytes are taken out.
    pub(crate) cut: Range<usize>,
    /// What comes in their place.
    pub(crate) text: String,
}

/// The members that a move changes, as they stand in the JSON. One that is null is there.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    attempt: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    unknown_for_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    delay_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    registered_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    expires_in_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_if_null")]
    expires_at_ms: Option<&'a RawValue>,
}

/// Without this a member that is null would be as one that is absent.
fn even_if_null<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(member).map(Some)
}

/// What has to change in a job's JSON when the job moves to the scheduled set.
///
/// The job gets `id` and `registered_ms`, unless it has them: it loses the entry that said so. It loses
/// its delay, because the score in the set says when it is due. It gets `expires_at_ms` instead of
/// `expires_in_ms`, and loses both once it was started. It gets the counts `attempt` and
/// `unknown_for_ms`.
///
/// # Errors
/// When `json` is not a job's JSON.
pub(crate) fn moved(json: &[u8], to: Move<'_>) -> Result<Edits, serde_json::Error> {
    let job = to.job;
    let members: Members<'_> = serde_json::from_slice(json)?;
    // The values are borrowed from `json`, so their addresses say where they stand in it.
    let span = |value: &RawValue| {
        let start = value.get().as_ptr().addr() - json.as_ptr().addr();
        start..start + value.get().len()
    };
    let inside = json.len() - json.trim_ascii_start().len() + 1;
    let mut edits = Vec::new();
    let mut set = |name: &str, old: Option<&RawValue>, value: String| {
        edits.push(match old {
            Some(old) => Edit {
                cut: span(old),
                text: value,
            },
            // Another member follows, because a job has a type.
            None => Edit {
                cut: inside..inside,
                text: format!("\"{name}\":{value},"),
            },
        });
    };
    if members.id.is_none_or(|id| id.get() == "null") {
        set("id", members.id, serde_json::to_string(to.entry_id)?);
    }
    if job.registered_ms.is_none() && says_registered(json.len()) {
        set(
            "registered_ms",
            members.registered_ms,
            to.entry_ms.to_string(),
        );
    }
    if to.attempt > 0 {
        set("attempt", members.attempt, to.attempt.to_string());
    }
    if to.unknown_for_ms > 0 || members.unknown_for_ms.is_some() {
        let waited = to.unknown_for_ms.to_string();
        set("unknown_for_ms", members.unknown_for_ms, waited);
    }
    let mut gone = vec![
        ("delay_ms", members.delay_ms),
        ("expires_in_ms", members.expires_in_ms),
    ];
    match job.expires_at(to.entry_ms).filter(|_| !to.was_started) {
        Some(at) if job.expires_at_ms == Some(at) => {}
        Some(at) => set("expires_at_ms", members.expires_at_ms, at.to_string()),
        None => gone.push(("expires_at_ms", members.expires_at_ms)),
    }
    let gone = gone.into_iter();
    let gone = gone.filter_map(|(name, value)| Some((name, span(value?))));
    edits.append(&mut without(json, gone.collect()));
    edits.sort_by_key(|edit| edit.cut.start);
    Ok(Edits {
        of_bytes: json.len(),
        edits,
    })
}

/// Whether a job of so many bytes gets the time of its registration. It is for people to read. A job that
/// is as large as it may be goes without, because workers of older versions would refuse it.
pub(super) fn says_registered(bytes: usize) -> bool {
    bytes + MAX_REGISTERED_BYTES <= MAX_JOB_BYTES
}

/// Takes out members, of which each has a name, and a value at a place.
fn without(json: &[u8], mut members: Vec<(&str, Range<usize>)>) -> Vec<Edit> {
    members.sort_by_key(|(_, value)| value.start);
    let mut edits: Vec<Edit> = Vec::new();
    for (name, value) in members {
        let Some(key) = key_of(json, name, &value) else {
            // Its name is written with escapes, so it stays. With 0 it says what a job without it says.
            edits.push(Edit {
                cut: value,
                text: "0".to_owned(),
            });
            continue;
        };
        let after = json[value.end..].trim_ascii_start();
        let mut cut = match after.strip_prefix(b",") {
            Some(rest) => key..json.len() - rest.len(),
            None => before_comma(json, key)..value.end,
        };
        // The comma before the last member may be gone with the member before it.
        while let Some(last) = edits.pop_if(|last| last.cut.end > cut.start) {
            cut.start = before_comma(json, last.cut.start);
        }
        edits.push(Edit {
            cut,
            text: String::new(),
        });
    }
    edits
}

/// Where the name of a member begins, if it is written without escapes.
fn key_of(json: &[u8], name: &str, value: &Range<usize>) -> Option<usize> {
    let key = json[..value.start].trim_ascii_end().strip_suffix(b":")?;
    let key = key.trim_ascii_end().strip_suffix(b"\"")?;
    let before = key.strip_suffix(name.as_bytes())?.strip_suffix(b"\"")?;
    Some(before.len())
}

/// Where the comma stands that ends at `at`, white space aside, or `at` if there is none.
fn before_comma(json: &[u8], at: usize) -> usize {
    let before = json[..at].trim_ascii_end().strip_suffix(b",");
    before.map_or(at, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{BoxedStrategy, Strategy};

    use super::*;
    use crate::service::jobqueue::job::{MAX_EXPIRES_BYTES, MAX_MOVED_BYTES, MAX_RETRY};

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
                member("registered_ms", &["null", "3", "4.0"]),
                member("expires_in_ms", &["null", "0", "60", "1e3"]),
                member("expires_at_ms", &["null", "99"]),
            ).prop_map(|(a, b, c, d, e, f, g, h, i, j)| {
                vec![a, b, c, d, e, f, g, h, i, j, "\"type\" : \"x\"".to_owned()]
            })
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
            proptest::prop_assert_eq!(waited.registered_ms, Some(before.registered_ms.unwrap_or(7)));
            let expires_at = before.expires_at(7);
            proptest::prop_assert_eq!(waited.expires_at_ms, expires_at.filter(|_| before.attempt == 0));
            proptest::prop_assert_eq!(waited.attempt, before.attempt);
            for (moves, moved) in [parked, retried, again].iter().enumerate() {
                // Reading a job refuses a field that is there twice.
                let after = Job::parse(moved.as_bytes()).expect(moved);
                let made = before.attempt + u32::try_from(moves).unwrap();
                proptest::prop_assert_eq!(after.attempt, made);
                proptest::prop_assert_eq!(after.delay_ms, 0);
                proptest::prop_assert_eq!(after.expires_in_ms, 0);
                let keeps = |_: &u64| made == 0;
                proptest::prop_assert_eq!(after.expires_at_ms, expires_at.filter(keeps));
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
            r#"{"id":"7-1","registered_ms":7,"attempt":2,"type":"x","payload":{ "a" : 1.00, "b":1e400 },"trace":"00-ab"}"#
        );
    }

    #[test]
    fn a_move_changes_only_what_it_must_wherever_that_stands() {
        for (json, attempt, moved) in [
            (
                r#"{"type":"x"}"#,
                0,
                r#"{"id":"7-1","registered_ms":7,"type":"x"}"#,
            ),
            (
                r#" { "delay_ms" : 5 , "type":"x","id":"a"} "#,
                0,
                r#" {"registered_ms":7,  "type":"x","id":"a"} "#,
            ),
            (
                r#"{"id":null,"type":"x","attempt":1,"delay_ms":5}"#,
                2,
                r#"{"registered_ms":7,"id":"7-1","type":"x","attempt":2}"#,
            ),
            (
                r#"{"type":"x","id":"a","delay_ms":0}"#,
                1,
                r#"{"registered_ms":7,"attempt":1,"type":"x","id":"a"}"#,
            ),
            (
                r#"{"id":"a","registered_ms":3,"type":"x","expires_in_ms":60 , "delay_ms":5}"#,
                0,
                r#"{"expires_at_ms":72,"id":"a","registered_ms":3,"type":"x"}"#,
            ),
            (
                r#"{"delay_ms":5,"expires_in_ms":60,"type":"x","id":"a","registered_ms":3}"#,
                0,
                r#"{"expires_at_ms":72,"type":"x","id":"a","registered_ms":3}"#,
            ),
            (
                r#"{"id":"a","type":"x","registered_ms":3,"expires_in_ms":60,"expires_at_ms":99}"#,
                1,
                r#"{"attempt":1,"id":"a","type":"x","registered_ms":3}"#,
            ),
            (
                r#"{"type":"x","payload":{"delay_ms":7,"id":null},"id":"a","delay\u005fms":5}"#,
                0,
                r#"{"registered_ms":7,"type":"x","payload":{"delay_ms":7,"id":null},"id":"a","delay\u005fms":0}"#,
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
        let to = Move {
            job: &Job::parse(json).unwrap(),
            entry_id: id,
            entry_ms: id.split('-').next().unwrap().parse().unwrap(),
            attempt,
            unknown_for_ms,
            was_started: attempt > 0,
        };
        let Edits { of_bytes, edits } = moved(json, to).unwrap();
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
        assert_eq!(retried.len(), MAX_MOVED_BYTES - MAX_EXPIRES_BYTES);
        let known = edited(retried.as_bytes(), &entry, MAX_RETRY);
        Job::parse(known.as_bytes()).unwrap();
        assert!(Job::parse(&sized(MAX_JOB_BYTES + 1)).is_err());
    }

    #[test]
    fn a_job_says_when_it_was_registered_unless_it_is_as_large_as_it_may_be() {
        let sized = |bytes: usize| {
            let rest = r#"{"id":"a","type":"x","payload":"","expires_in_ms":1}"#;
            let payload = "a".repeat(bytes - rest.len());
            rest.replace("\"\"", &format!("\"{payload}\""))
        };
        for (bytes, says_so) in [
            (MAX_JOB_BYTES, false),
            (MAX_JOB_BYTES - MAX_REGISTERED_BYTES, true),
        ] {
            let moved = edited(sized(bytes).as_bytes(), "7-1", 0);
            let job = Job::parse(moved.as_bytes()).unwrap();
            assert_eq!(job.registered_ms.is_some(), says_so);
            assert_eq!(job.expires_at_ms, Some(8));
        }
    }

    #[test]
    fn a_move_keeps_the_id_that_is_there() {
        let json = r#"{"id":"mine","type":"x","registered_ms":3}"#;
        assert_eq!(edited(json.as_bytes(), "7-1", 0), json);
    }
}
