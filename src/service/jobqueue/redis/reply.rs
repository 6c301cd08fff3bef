//! What Redis answers to the broker's commands, as types.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::{ToRedisArgs, Value};

use super::broker::{Promoted, PromotedJob, Reclaimed};
use super::error::Error;
use super::keys::JOB_FIELD;

/// The id of a stream entry: milliseconds of Redis' clock, and a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId {
    ms: u64,
    seq: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EntryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, seq) = text.split_once('-').ok_or(())?;
        Ok(Self {
            ms: ms.parse().map_err(|_| ())?,
            seq: seq.parse().map_err(|_| ())?,
        })
    }
}

impl ToRedisArgs for EntryId {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

/// A stream entry that was delivered to this consumer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) body: Body,
    /// What all its fields have, names and values, in bytes.
    pub(crate) bytes: usize,
    /// How often the entry has been delivered, this time included.
    pub(crate) deliveries: u32,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// The value of its one field, `job`.
    Job(Vec<u8>),
    /// Anything else: somebody else's entry.
    Foreign,
    /// More bytes than the reply was to carry: so many.
    TooLarge(usize),
}

/// Whether each of the entries was this consumer's.
pub(crate) fn owned(reply: Value) -> Result<Vec<bool>, Error> {
    let flags = items(reply).ok_or_else(|| Error::unexpected_reply("the touch script"))?;
    Ok(flags.iter().map(|flag| int(flag) == Some(1)).collect())
}

/// The entries of XREADGROUP's reply: `{stream: [[id, [field, value, ...]], ...]}`.
pub(crate) fn delivered(reply: Value) -> Result<Vec<Entry>, Error> {
    let streams = match reply {
        // Nothing came in time.
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => streams,
        _ => return Err(Error::unexpected_reply("XREADGROUP")),
    };
    streams
        .into_iter()
        .filter_map(|(_, entries)| items(entries))
        .flatten()
        .map(|entry| {
            let [id, fields] = array(entry)?;
            Some(body(fields).in_entry(entry_id(&id)?, 1))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::unexpected_reply("XREADGROUP"))
}

/// The entries of a script's reply: `[[id, [field, value, ...], deliveries], ...]`.
pub(crate) fn counted(reply: Value) -> Option<Vec<Entry>> {
    items(reply)?
        .into_iter()
        .map(|entry| {
            let [id, fields, deliveries] = array(entry)?;
            let deliveries = u32::try_from(int(&deliveries)?).unwrap_or(u32::MAX);
            Some(body(fields).in_entry(entry_id(&id)?, deliveries))
        })
        .collect()
}

/// The reply of the reclaim script.
pub(crate) fn reclaimed(reply: Value) -> Option<Reclaimed> {
    let [
        paused,
        more,
        deleted,
        entries,
        unmended,
        stranded,
        rest @ ..,
    ] = array::<9>(reply)?;
    let count = |value: &Value| int(value)?.try_into().ok();
    let [overdue, shortest, longest] = rest.map(|value| count(&value).map(Duration::from_millis));
    Some(Reclaimed {
        paused: int(&paused)? == 1,
        more: int(&more)? == 1,
        deleted: count(&deleted)?,
        entries: counted(entries)?,
        unmended: int(&unmended)? == 1,
        stranded: count(&stranded)?,
        overdue: overdue?,
        leases: (shortest?, longest?),
    })
}

/// The reply of the promote script.
pub(crate) fn promoted(reply: Value) -> Result<Promoted, Error> {
    let shape = || Error::unexpected_reply("the promote script");
    let [moved, due_in, told] = array(reply).ok_or_else(shape)?;
    let told = items(told).ok_or_else(shape)?.into_iter().map(|job| {
        let [left, entry_id, job_id] = array(job)?.map(text);
        let job_id = job_id.filter(|id| !id.is_empty());
        Some(PromotedJob {
            left: left?,
            entry_id: entry_id?,
            job_id,
        })
    });
    Ok(Promoted {
        moved: int(&moved).and_then(|n| n.try_into().ok()).unwrap_or(0),
        due_in: micros(&due_in),
        told: told.collect::<Option<_>>().ok_or_else(shape)?,
    })
}

/// What an entry holds, and how many bytes that is.
struct Contents {
    body: Body,
    bytes: usize,
}

impl Contents {
    fn in_entry(self, id: EntryId, deliveries: u32) -> Entry {
        let Self { body, bytes } = self;
        Entry {
            id,
            body,
            bytes,
            deliveries,
        }
    }
}

/// An entry's fields and values in turn, or only how many bytes those are.
fn body(fields: Value) -> Contents {
    if let Some(bytes) = int(&fields) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        return Contents {
            body: Body::TooLarge(bytes),
            bytes,
        };
    }
    let strings = items(fields).unwrap_or_default().into_iter();
    let mut strings: Vec<Vec<u8>> = strings.filter_map(bytes).collect();
    let bytes = strings.iter().map(Vec::len).sum();
    let body = if strings.len() == 2 && strings[0] == JOB_FIELD.as_bytes() {
        Body::Job(strings.swap_remove(1))
    } else {
        Body::Foreign
    };
    Contents { body, bytes }
}

pub(crate) fn items(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

pub(crate) fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    items(value)?.try_into().ok()
}

pub(crate) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(value)?).into_owned())
}

pub(crate) fn entry_id(value: &Value) -> Option<EntryId> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// A time in microseconds, where a negative one means none.
pub(crate) fn micros(value: &Value) -> Option<Duration> {
    int(value)?.try_into().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_keep_their_text() {
        let largest = format!("{0}-{0}", u64::MAX);
        for text in ["0-1", "1700000000000-0", largest.as_str()] {
            assert_eq!(text.parse::<EntryId>().unwrap().to_string(), text);
        }
        for text in ["", "1", "-1", "a-1", "1-", "18446744073709551616-0"] {
            assert!(text.parse::<EntryId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_an_entry_with_the_one_field_job_is_a_job() {
        let entry = |strings: &[&str]| {
            let strings = strings
                .iter()
                .map(|s| Value::BulkString(s.as_bytes().to_vec()));
            body(Value::Array(strings.collect())).body
        };
        assert_eq!(entry(&["job", "{}"]), Body::Job(b"{}".to_vec()));
        assert_eq!(body(Value::Int(7)).body, Body::TooLarge(7));
        for foreign in [
            &["task", "{}"][..],
            &["job", "1", "job", "2"],
            &["job", "{}", "x", "y"],
            &[],
        ] {
            assert_eq!(entry(foreign), Body::Foreign, "{foreign:?}");
        }
    }
}
