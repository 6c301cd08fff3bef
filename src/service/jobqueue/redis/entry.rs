//! A stream entry, as this consumer gets it: its id, what it holds, and how often it was
//! delivered.

use std::fmt;
use std::str::FromStr;

use redis::{RedisWrite, ToRedisArgs};

/// The id of a stream entry: milliseconds of Redis' clock, and a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId {
    ms: u64,
    seq: u64,
}

impl EntryId {
    /// The time when it was appended, by Redis' clock. A clock that was set back leaves a time that is
    /// yet to come.
    pub(crate) fn ms(self) -> u64 {
        self.ms
    }

    /// The id that follows this one.
    pub(crate) fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self::first_at(self.ms.saturating_add(1)),
        }
    }

    /// The id before this one.
    pub(crate) fn previous(self) -> Self {
        match self.seq.checked_sub(1) {
            Some(seq) => Self { seq, ..self },
            None => Self {
                ms: self.ms.saturating_sub(1),
                seq: u64::MAX,
            },
        }
    }

    /// The first id of that millisecond.
    pub(crate) fn first_at(ms: u64) -> Self {
        Self { ms, seq: 0 }
    }
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
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

/// A stream entry that was delivered to this consumer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) body: Body,
    /// How many bytes the names and values of all its fields have.
    pub(crate) bytes: usize,
    /// How often the entry has been delivered. This delivery counts.
    pub(crate) deliveries: u32,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// The value of its one field, `job`.
    Job(Vec<u8>),
    /// Other fields: somebody else's entry.
    Foreign,
    /// So many bytes, which are more than the reply was allowed to carry.
    TooLarge(usize),
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
}
