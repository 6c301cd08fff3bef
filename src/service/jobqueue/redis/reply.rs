//! Reads what Redis answers: single values, and the entries of a reply.
//!
//! The replies that only one command has are read beside that command.

use std::time::Duration;

use redis::Value;

use super::entry::{Body, Entry, EntryId};
use super::error::Error;
use super::keys::JOB_FIELD;

/// The entries of XREADGROUP's reply: `{stream: [[id, [field, value, ...]], ...]}`.
pub(super) fn delivered(reply: Value) -> Result<Vec<Entry>, Error> {
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
            Some(contents(fields).in_entry(entry_id(&id)?, 1))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::unexpected_reply("XREADGROUP"))
}

/// The entries of a script's reply: `[[id, [field, value, ...] or bytes, deliveries], ...]`.
pub(super) fn counted(reply: Value) -> Option<Vec<Entry>> {
    items(reply)?
        .into_iter()
        .map(|entry| {
            let [id, fields, deliveries] = array(entry)?;
            let deliveries = u32::try_from(int(&deliveries)?).unwrap_or(u32::MAX);
            Some(contents(fields).in_entry(entry_id(&id)?, deliveries))
        })
        .collect()
}

/// One flag for each of `count` entries: whether the entry was this consumer's, or whatever
/// else `script` was asked.
///
/// A reply with more or fewer flags is an error: nobody can say which entries it is about.
pub(super) fn flags(reply: Value, count: usize, script: &str) -> Result<Vec<bool>, Error> {
    let flags = items(reply).filter(|flags| flags.len() == count);
    let flags = flags.ok_or_else(|| Error::unexpected_reply(script))?;
    Ok(flags.iter().map(|flag| int(flag) == Some(1)).collect())
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

/// Reads the names and values of an entry's fields, which stand in turn, or the number of
/// their bytes, which stands instead of them in an entry that is too large.
fn contents(fields: Value) -> Contents {
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

pub(super) fn items(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

pub(super) fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    items(value)?.try_into().ok()
}

pub(super) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        _ => None,
    }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(value)?).into_owned())
}

pub(super) fn entry_id(value: &Value) -> Option<EntryId> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// A time in microseconds. A negative number means that there is none.
pub(super) fn micros(value: &Value) -> Option<Duration> {
    int(value)?.try_into().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_with_the_one_field_job_is_a_job() {
        let entry = |strings: &[&str]| {
            let strings = strings
                .iter()
                .map(|s| Value::BulkString(s.as_bytes().to_vec()));
            contents(Value::Array(strings.collect())).body
        };
        assert_eq!(entry(&["job", "{}"]), Body::Job(b"{}".to_vec()));
        assert_eq!(contents(Value::Int(7)).body, Body::TooLarge(7));
        for foreign in [
            &["task", "{}"][..],
            &["job", "1", "job", "2"],
            &["job", "{}", "x", "y"],
            &[],
        ] {
            assert_eq!(entry(foreign), Body::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn a_reply_has_one_flag_for_each_entry_or_is_an_error() {
        let reply = || Value::Array(vec![Value::Int(1), Value::Int(0)]);
        assert_eq!(flags(reply(), 2, "the script").unwrap(), [true, false]);
        for count in [1, 3] {
            assert!(flags(reply(), count, "the script").is_err(), "{count}");
        }
        assert!(flags(Value::Int(1), 1, "the script").is_err());
    }
}
