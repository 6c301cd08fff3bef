//! What a move between the stream and the scheduled set changes in a job's JSON.
//!
//! Redis makes the changes in the text that it holds, so the job is not sent back to it. The JSON
//! is not written anew: payload and unknown fields stay as they are, byte for byte.

use std::ops::Range;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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
}

/// Without this a member that is null would be as one that is absent.
fn even_if_null<'de, D: Deserializer<'de>>(member: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(member).map(Some)
}

/// What has to change in a job's JSON when the job moves to the scheduled set.
///
/// The job loses its delay, because the score in the set says when it is due. It gets `attempt`,
/// the number of attempts that have failed. It gets `id`, unless it has one. And it gets
/// `unknown_for_ms`, for how long no worker has known its type: 0 when the worker that moves it
/// knows it.
///
/// # Errors
/// When `json` is not a job's JSON.
pub(crate) fn moved(
    json: &[u8],
    id: &str,
    attempt: u32,
    unknown_for_ms: u64,
) -> Result<Edits, serde_json::Error> {
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
        set("id", members.id, serde_json::to_string(id)?);
    }
    if attempt > 0 {
        set("attempt", members.attempt, attempt.to_string());
    }
    if unknown_for_ms > 0 || members.unknown_for_ms.is_some() {
        let waited = unknown_for_ms.to_string();
        set("unknown_for_ms", members.unknown_for_ms, waited);
    }
    if let Some(delay) = members.delay_ms {
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
        // Its name is written with escapes, so it stays. With 0 it says what a job without it
        // says.
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

/// Where a member stands, with one of the commas beside it.
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

#[cfg(test)]
mod tests {
    use proptest::strategy::{BoxedStrategy, Strategy};

    use super::*;
    use crate::service::jobqueue::job::{Job, MAX_JOB_BYTES, MAX_MOVED_BYTES, MAX_RETRY};

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
