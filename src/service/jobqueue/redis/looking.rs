//! What an operator looks at: parts of the stream, of the dead letters and of the finished jobs. `scheduled`
//! and `pending` have the rest.
//!
//! A part is bounded in entries and in bytes, so that Redis is not held for long. The same commands search:
//! then Redis answers only what may be looked for, and says how far it came.

use redis::{Cmd, Value};

use super::entry::EntryId;
use super::error::Error;
use super::keys::JOB_FIELD;
use super::link::Link;
use super::overview::natural;
use super::reply::{array, bytes, entry_id, items};
use super::scripts::{STREAM_PAGE, evalsha_ro};
use super::window::time_for;
use crate::service::jobqueue::job::MAX_ENTRY_BYTES;

/// About so many bytes of work are done in one step. Redis takes one or two milliseconds for them.
pub(super) const STEP_BYTES: usize = 256 * 1024;
/// So many bytes of a text are shown. No job has more, so what has as many was cut.
pub(crate) const SHOWN_BYTES: usize = MAX_ENTRY_BYTES + 1024;
/// An entry of a stream, with all its fields. Long ones are cut.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: EntryId,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Stored {
    /// The value of the first field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(field, _)| field == name.as_bytes())?;
        Some(&found.1)
    }

    /// The job, when this is the entry of one and no dead letter.
    pub(crate) fn only_job(&self) -> Option<&[u8]> {
        self.field(JOB_FIELD).filter(|_| self.fields.len() == 1)
    }
}

/// A part of a stream or of the scheduled set.
#[derive(Debug)]
pub(crate) struct Part<T, P> {
    pub(crate) found: Vec<T>,
    /// How many it looked at.
    pub(crate) looked: u64,
    /// The place of the last one that it looked at, when there may be more behind it.
    pub(crate) last: Option<P>,
}

/// A part of a stream.
pub(crate) type StreamPart = Part<Stored, EntryId>;

/// What part of a stream is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    /// Only entries behind this one.
    pub(crate) after: Option<EntryId>,
    /// Only entries before this one.
    pub(crate) before: Option<EntryId>,
    /// Whether the newest come first.
    pub(crate) newest_first: bool,
}

impl Range {
    /// This entry alone.
    pub(crate) fn only(id: EntryId) -> Self {
        Self {
            after: Some(id.previous()),
            before: Some(id.next()),
            newest_first: false,
        }
    }

    /// What is left of it when one has come to `last`.
    pub(crate) fn behind(self, last: EntryId) -> Self {
        match self.newest_first {
            true => Self {
                before: Some(last),
                ..self
            },
            false => Self {
                after: Some(last),
                ..self
            },
        }
    }

    fn add_to(self, cmd: &mut Cmd) {
        let low = self.after.map_or("-".to_owned(), |id| format!("({id}"));
        let high = self.before.map_or("+".to_owned(), |id| format!("({id}"));
        match self.newest_first {
            true => cmd.arg("XREVRANGE").arg(high).arg(low),
            false => cmd.arg("XRANGE").arg(low).arg(high),
        };
    }
}

/// Looks at up to `most` entries of the stream `key`. With `texts`, only those are answered that have one of
/// them in a field.
pub(crate) async fn stream_part(
    link: &mut Link,
    key: &String,
    range: Range,
    most: usize,
    texts: &[String],
) -> Result<StreamPart, Error> {
    let mut cmd = evalsha_ro(&STREAM_PAGE, &[key]);
    range.add_to(&mut cmd);
    cmd.arg(most).arg(STEP_BYTES).arg(SHOWN_BYTES).arg(texts);
    let reply = look(link, &cmd).await?;
    let part = || {
        let [ended, last, looked, found] = array(reply)?;
        let ended = natural(&ended)? == 1;
        Some(Part {
            found: items(found)?
                .into_iter()
                .map(stored)
                .collect::<Option<_>>()?,
            looked: natural(&looked)?,
            last: entry_id(&last).filter(|_| !ended),
        })
    };
    part().ok_or_else(|| Error::unexpected_reply("the stream page script"))
}

/// Sends a script that looks.
pub(super) async fn look(link: &mut Link, cmd: &Cmd) -> Result<Value, Error> {
    link.call_within("look", cmd, time_for(2 * STEP_BYTES))
        .await
}

/// An entry as Redis answers it: `[id, [field, value, ...]]`.
pub(super) fn stored(entry: Value) -> Option<Stored> {
    let [id, fields] = array(entry)?;
    let mut texts = items(fields)?.into_iter().map(bytes);
    let mut fields = Vec::with_capacity(texts.len() / 2);
    while let Some(name) = texts.next() {
        fields.push((name?, texts.next()??));
    }
    Some(Stored {
        id: entry_id(&id)?,
        fields,
    })
}
