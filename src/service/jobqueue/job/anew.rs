//! The JSON of a job that is to run at once: a scheduled one before its time, or a dead letter.
//!
//! The JSON is not written anew: all that stays is as it was, byte for byte. A dead letter may hold anything,
//! members that stand there twice and names with escapes included.

use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_MOVED_BYTES;
use super::edits::says_registered;

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
        && says_registered(text.len())
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
mod tests;
