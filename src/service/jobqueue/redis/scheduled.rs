//! The scheduled set, as an operator looks at it: its members in the order of their due times, and the places
//! between them.

use std::fmt;
use std::str::FromStr;

use super::entry::EntryId;
use super::error::Error;
use super::keys::Keys;
use super::link::Link;
use super::looking::{Part, SHOWN_BYTES, STEP_BYTES, look};
use super::overview::{natural, score_ms};
use super::reply::{array, bytes, items, text};
use super::scripts::{SCHEDULED_PAGE, evalsha_ro};

/// So many bytes of a member of the scheduled set tell it from the others that are due at the same moment.
const PLACE_BYTES: usize = 1024;

/// A part of the scheduled set.
pub(crate) type ScheduledPart = Part<Member, Place>;

/// A member of the scheduled set.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// All of it, unless it is longer than a job can be.
    pub(crate) bytes: Vec<u8>,
    score: String,
}

impl Member {
    /// The id of the entry that the job left, and the job. A member of somebody else may have no such id.
    pub(crate) fn parts(&self) -> (Option<EntryId>, &[u8]) {
        let colon = self.bytes.iter().position(|byte| *byte == b':');
        let entry = colon.and_then(|at| std::str::from_utf8(&self.bytes[..at]).ok()?.parse().ok());
        match (entry, colon) {
            (Some(entry), Some(at)) => (Some(entry), &self.bytes[at + 1..]),
            _ => (None, &self.bytes),
        }
    }

    /// When it is due.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        score_ms(&self.score)
    }
}

/// A place in the scheduled set: what is due at the same moment is in the order of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    score: String,
    beginning: Vec<u8>,
}

impl Place {
    fn new(score: String, beginning: &[u8]) -> Self {
        let is_of_id = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
        let end = beginning.iter().position(|byte| !is_of_id(byte));
        // An entry id with its colon is enough to tell a member from all others.
        let beginning = match end {
            Some(end) if beginning[end] == b':' => &beginning[..=end],
            _ => beginning,
        };
        Self {
            score,
            beginning: beginning.to_vec(),
        }
    }

    /// The entry id that tells a member from others, when it has one.
    fn entry_id(&self) -> Option<&str> {
        let id = std::str::from_utf8(self.beginning.strip_suffix(b":")?).ok()?;
        id.parse::<EntryId>().is_ok().then_some(id)
    }

    fn is_whole_member(&self) -> bool {
        self.entry_id().is_none() && self.beginning.len() < PLACE_BYTES
    }
}

/// As it stands in a list: `<due_ms>:<entry id>`. A member without an entry id has its bytes there, in hex.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.score)?;
        match self.entry_id() {
            Some(id) => f.write_str(id),
            None => {
                f.write_str("x")?;
                self.beginning
                    .iter()
                    .try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (score, rest) = text.split_once(':').ok_or(())?;
        let number: f64 = score.parse().map_err(|_| ())?;
        if number.is_nan() {
            return Err(());
        }
        let beginning = match rest.strip_prefix('x') {
            Some(hex) => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
                .collect::<Option<_>>()
                .ok_or(())?,
            None => format!("{}:", rest.parse::<EntryId>()?).into_bytes(),
        };
        let score = score.to_owned();
        Ok(Self { score, beginning })
    }
}

/// Looks at up to `most` members of the scheduled set behind a place. With `texts`, only those are answered
/// that have one of them.
pub(crate) async fn scheduled_part(
    link: &mut Link,
    keys: &Keys,
    after: Option<&Place>,
    most: usize,
    texts: &[String],
) -> Result<ScheduledPart, Error> {
    let mut cmd = evalsha_ro(&SCHEDULED_PAGE, &[&keys.scheduled]);
    let place = after.map(|place| (place.score.as_str(), place.beginning.as_slice()));
    let (score, beginning) = place.unwrap_or_default();
    let is_whole = after.is_some_and(Place::is_whole_member);
    cmd.arg(score).arg(beginning).arg(most);
    cmd.arg(STEP_BYTES).arg(SHOWN_BYTES).arg(PLACE_BYTES);
    cmd.arg(u8::from(is_whole)).arg(texts);
    let reply = look(link, &cmd).await?;
    let part = || {
        let [ended, score, beginning, looked, found] = array(reply)?;
        let last = Place::new(text(score)?, &bytes(beginning)?);
        let ended = natural(&ended)? == 1;
        let found = items(found)?.into_iter().map(|member| {
            let [member, score] = array(member)?;
            Some(Member {
                bytes: bytes(member)?,
                score: text(score)?,
            })
        });
        Some(Part {
            found: found.collect::<Option<_>>()?,
            looked: natural(&looked)?,
            last: Some(last).filter(|_| !ended),
        })
    };
    part().ok_or_else(|| Error::unexpected_reply("the scheduled page script"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(bytes: &[u8], score: &str) -> Member {
        Member {
            bytes: bytes.to_vec(),
            score: score.to_owned(),
        }
    }

    #[test]
    fn a_member_has_the_id_that_its_job_left_and_the_job() {
        let (id, job) = (Some("5-1".parse().unwrap()), &br#"{"a":1}"#[..]);
        assert_eq!(member(br#"5-1:{"a":1}"#, "7").parts(), (id, job));
        for foreign in [&br#"{"a":1}"#[..], b"5:x", b"\xff:x", b"", b":"] {
            assert_eq!(member(foreign, "7").parts(), (None, foreign));
        }
    }

    #[test]
    fn a_place_is_a_due_time_and_what_tells_members_apart() {
        for (bytes, shown) in [
            (&b"5-1:{}"[..], "1767225600123:5-1"),
            (br#"{"a":1}"#, "1767225600123:x7b2261223a317d"),
            (b"5:{}", "1767225600123:x353a"),
            (b"", "1767225600123:x"),
        ] {
            let place = Place::new("1767225600123".to_owned(), bytes);
            assert_eq!(place.to_string(), shown);
            assert_eq!(shown.parse(), Ok(place));
        }
        for wrong in [
            "",
            "5-1",
            "x:5-1",
            "7:5",
            "7:xz",
            "7:x1",
            "nan:5-1",
            "7:x\u{e9}",
        ] {
            assert_eq!(wrong.parse::<Place>(), Err(()), "{wrong}");
        }
    }
}
