//! What is delivered and not acknowledged, as an operator looks at it.

use redis::Value;

use super::entry::EntryId;
use super::error::Error;
use super::keys::Keys;
use super::link::Link;
use super::looking::{SHOWN_BYTES, STEP_BYTES, Stored, look, stored};
use super::overview::natural;
use super::reply::{array, bytes, entry_id, items, text};
use super::scripts::{ENTRIES, PENDING_PAGE, evalsha_ro};
use crate::service::jobqueue::constants::GROUP;

/// An entry that was put back got a time of delivery that is no later than this.
const PUT_BACK_MS: u64 = 1000;

/// An entry that is delivered and not acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: EntryId,
    pub(crate) consumer: String,
    pub(crate) deliveries: u64,
    /// It was put back, so it waits.
    pub(crate) is_put_back: bool,
}

/// A part of what is pending.
#[derive(Debug)]
pub(crate) struct PendingPart {
    /// The entry up to which the group has read. None when there is no group.
    pub(crate) read_up_to: Option<EntryId>,
    pub(crate) rows: Vec<Pending>,
}

/// Up to `most` pending entries behind an id, of one consumer or of all.
pub(crate) async fn pending_part(
    link: &mut Link,
    keys: &Keys,
    after: Option<EntryId>,
    most: usize,
    consumer: Option<&str>,
) -> Result<PendingPart, Error> {
    let mut cmd = evalsha_ro(&PENDING_PAGE, &[&keys.stream]);
    let from = after.map_or("-".to_owned(), |id| format!("({id}"));
    cmd.arg(GROUP).arg(from).arg(most).arg(consumer);
    let reply = look(link, &cmd).await?;
    let part = || {
        let [now, read_up_to, rows] = array(reply)?;
        let now_ms = natural(&now)?;
        let rows = items(rows)?.into_iter().map(|row| {
            let [id, consumer, idle, deliveries] = array(row)?;
            pending(now_ms, entry_id(&id)?, consumer, &idle, &deliveries)
        });
        Some(PendingPart {
            read_up_to: entry_id(&read_up_to),
            rows: rows.collect::<Option<_>>()?,
        })
    };
    part().ok_or_else(|| Error::unexpected_reply("the pending page script"))
}

/// An entry of the stream, and what is known of its delivery.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) entry: Stored,
    pub(crate) pending: Option<Pending>,
    /// Somebody has asked for its end.
    pub(crate) cancelling: bool,
}

/// Entries of the stream.
#[derive(Debug)]
pub(crate) struct KnownPart {
    /// How many of the ids it looked at.
    pub(crate) looked: usize,
    pub(crate) found: Vec<Known>,
}

/// The entries of the stream with these ids, as many as one reply carries. Those that are gone are left out.
pub(crate) async fn entries(
    link: &mut Link,
    keys: &Keys,
    ids: &[EntryId],
) -> Result<KnownPart, Error> {
    let mut cmd = evalsha_ro(&ENTRIES, &[&keys.stream, &keys.cancel]);
    cmd.arg(GROUP).arg(STEP_BYTES).arg(SHOWN_BYTES).arg(ids);
    let reply = look(link, &cmd).await?;
    let part = || {
        let [now, _read_up_to, looked, found] = array(reply)?;
        let now_ms = natural(&now)?;
        let found = items(found)?.into_iter().map(|entry| {
            let [id, fields, consumer, idle, deliveries, cancel] = array(entry)?;
            let pending = pending(now_ms, entry_id(&id)?, consumer, &idle, &deliveries)?;
            Some(Known {
                entry: stored(Value::Array(vec![id, fields]))?,
                pending: Some(pending).filter(|pending| !pending.consumer.is_empty()),
                cancelling: !bytes(cancel)?.is_empty(),
            })
        });
        Some(KnownPart {
            looked: natural(&looked)?.try_into().ok()?,
            found: found.collect::<Option<_>>()?,
        })
    };
    part().ok_or_else(|| Error::unexpected_reply("the entries script"))
}

fn pending(
    now_ms: u64,
    id: EntryId,
    consumer: Value,
    idle: &Value,
    deliveries: &Value,
) -> Option<Pending> {
    Some(Pending {
        id,
        consumer: text(consumer)?,
        deliveries: natural(deliveries)?,
        is_put_back: natural(idle)? > now_ms.saturating_sub(PUT_BACK_MS),
    })
}
