//! What there is to know of a queue as a whole, without any job.

use redis::Value;

use super::entry::EntryId;
use super::error::Error;
use super::keys::Keys;
use super::link::Link;
use super::questions::is_paused;
use super::reply::{array, bytes, entry_id, int, items, text};
use super::scripts::{OVERVIEW, evalsha_ro};
use crate::service::jobqueue::constants::GROUP;

/// How the name of the consumer begins that marks the group. It is no worker.
const MARK: &str = "incarnation:";

/// A queue at one moment. A queue that nobody has used yet has nothing of everything.
#[derive(Debug, Default)]
pub(crate) struct Overview {
    /// Redis' clock.
    pub(crate) now_ms: u64,
    /// How many entries the stream has, and how many of them are delivered.
    pub(crate) entries: u64,
    pub(crate) pending: u64,
    /// The first entry that was never delivered.
    pub(crate) next: Option<EntryId>,
    pub(crate) scheduled: u64,
    /// How many scheduled jobs are due now, and when the first one is.
    pub(crate) due: u64,
    pub(crate) due_ms: Option<u64>,
    pub(crate) dead: u64,
    pub(crate) done: u64,
    pub(crate) paused: bool,
    /// What each worker tells of itself: its name, and JSON.
    pub(crate) workers: Vec<(String, Vec<u8>)>,
    /// The consumers of the group that read.
    pub(crate) consumers: Vec<Consumer>,
    /// The leases of workers, by their names.
    pub(crate) leases: Vec<(String, u64)>,
    /// How often each thing happened today.
    pub(crate) totals: Vec<(String, u64)>,
    /// How many jobs were completed in this minute of the clock, and in the one before.
    pub(crate) this_minute: u64,
    pub(crate) minute_before: u64,
}

/// A consumer of the group, as Redis knows it.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) pending: u64,
    pub(crate) idle_ms: u64,
}

/// Reads what there is to know of the queue as a whole.
pub(crate) async fn overview(keys: &Keys, link: &mut Link) -> Result<Overview, Error> {
    let cmd = evalsha_ro(
        &OVERVIEW,
        &[
            &keys.stream,
            &keys.scheduled,
            &keys.dead,
            &keys.state,
            &keys.workers,
            &keys.leases,
            &keys.totals,
            &keys.done,
        ],
    )
    .arg(GROUP)
    .clone();
    let reply = link.call("overview", &cmd).await?;
    read(reply).ok_or_else(|| Error::unexpected_reply("the overview script"))
}

fn read(reply: Value) -> Option<Overview> {
    let [
        now,
        entries,
        pending,
        next,
        scheduled,
        due,
        due_ms,
        dead,
        done,
        paused,
        rest @ ..,
    ] = array::<16>(reply)?;
    let [
        workers,
        consumers,
        leases,
        totals,
        this_minute,
        minute_before,
    ] = rest;
    let workers = pairs(workers)?.map(|(name, json)| Some((text(name)?, bytes(json)?)));
    let consumers = items(consumers)?.into_iter().map(|consumer| {
        let [name, pending, idle] = array(consumer)?;
        Some(Consumer {
            name: text(name)?,
            pending: natural(&pending)?,
            idle_ms: natural(&idle)?,
        })
    });
    let consumers: Vec<Consumer> = consumers.collect::<Option<_>>()?;
    Some(Overview {
        now_ms: natural(&now)?,
        entries: natural(&entries)?,
        pending: natural(&pending)?,
        next: entry_id(&next),
        scheduled: natural(&scheduled)?,
        due: natural(&due)?,
        due_ms: score_ms(&text(due_ms)?),
        dead: natural(&dead)?,
        done: natural(&done)?,
        paused: is_paused(&text(paused)?),
        workers: workers.collect::<Option<_>>()?,
        consumers: consumers
            .into_iter()
            .filter(|consumer| !consumer.name.starts_with(MARK))
            .collect(),
        leases: counts(leases)?,
        totals: counts(totals)?,
        this_minute: natural(&this_minute)?,
        minute_before: natural(&minute_before)?,
    })
}

/// Names with a number each. A number that is none was written by somebody else, and counts as 0.
fn counts(flat: Value) -> Option<Vec<(String, u64)>> {
    let counts = pairs(flat)?.map(|(name, count)| {
        let count = text(count)?;
        Some((text(name)?, count.parse().unwrap_or(0)))
    });
    counts.collect()
}

/// Names and values that stand in turn.
fn pairs(flat: Value) -> Option<impl Iterator<Item = (Value, Value)>> {
    let mut flat = items(flat)?.into_iter();
    Some(std::iter::from_fn(move || flat.next().zip(flat.next())))
}

/// A number that is not negative.
pub(super) fn natural(value: &Value) -> Option<u64> {
    int(value)?.try_into().ok()
}

/// The due time in a score. Somebody else may have written one that has no time of its own.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number that is too large or negative becomes the nearest time"
)]
pub(super) fn score_ms(score: &str) -> Option<u64> {
    let score: f64 = score.parse().ok()?;
    Some(score.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_score_is_a_time() {
        for (score, ms) in [
            ("1767225600123", Some(1_767_225_600_123)),
            ("1.5", Some(2)),
            ("-7", Some(0)),
            ("inf", Some(u64::MAX)),
            ("", None),
        ] {
            assert_eq!(score_ms(score), ms, "{score}");
        }
    }
}
