//! The one file that knows Redis commands: what the queue does, as one command or
//! script each, with typed arguments and replies.
//!
//! Scripts are sent whole (EVAL) and not by their hash: what a script flush, a
//! restart or a failover forgets then needs no second round trip and no error path,
//! and hashing two kilobytes costs Redis a few microseconds per batch.

use std::time::Duration;

use redis::{Cmd, Pipeline};

use super::constants::GROUP;
use super::error::Error;
use super::link::Link;
use super::reply::{
    Entry, EntryId, array, counted, delivered, entry_id, int, items, micros, owned,
};

/// A script of `scripts/` behind the prelude that all of them stand on.
macro_rules! script {
    ($name:literal) => {
        concat!(
            include_str!("scripts/prelude.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        )
    };
}

const ACKNOWLEDGE: &str = script!("acknowledge");
const BURY: &str = script!("bury");
const PROMOTE: &str = script!("promote");
const RECLAIM: &str = script!("reclaim");
const REMOVE_CONSUMERS: &str = script!("remove_consumers");
const SCHEDULE: &str = script!("schedule");
const TAKE: &str = script!("take");
const TOUCH: &str = script!("touch");
/// Writes nothing, and says so.
const MAY_ENQUEUE: &str = include_str!("scripts/may_enqueue.lua");

/// How the log calls whatever needs to XCLAIM. The heartbeat tries that again and again,
/// so that the trouble ends when it is mended: the others may have no reason to.
const RENEW: &str = "renew";

/// The field of a stream entry that holds the job.
pub(super) const JOB_FIELD: &str = "job";

/// The keys of one queue. Their common hash tag keeps them in one cluster slot.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Stream: jobs that wait or run.
    pub stream: String,
    /// Sorted set: jobs that are not due yet.
    pub scheduled: String,
    /// Stream: dead letters.
    pub dead: String,
    /// Hash: what the workers share.
    pub state: String,
}

impl Keys {
    /// The keys of the queue named `queue`.
    pub fn new(queue: &str) -> Self {
        let stream = format!("jobqueue:{{{queue}}}");
        Self {
            scheduled: format!("{stream}:scheduled"),
            dead: format!("{stream}:dead"),
            state: format!("{stream}:state"),
            stream,
        }
    }
}

/// What a look for expired leases brought.
#[derive(Debug, Default)]
pub(crate) struct Reclaimed {
    /// An operator has paused the queue.
    pub(crate) paused: bool,
    /// The pass goes on: there may be more to claim now.
    pub(crate) more: bool,
    /// Pending entries that were found without their stream entry.
    pub(crate) deleted: u64,
    pub(crate) entries: Vec<Entry>,
}

/// The times by which a stalled Redis is told from a dead worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    pub(crate) lease: Duration,
    /// A mark older than this means that nobody looked: Redis or all workers stood still.
    pub(crate) stall: Duration,
    /// How long nobody claims after that.
    pub(crate) hold: Duration,
    pub(crate) interval: Duration,
}

/// A job on its way to the scheduled set.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) id: EntryId,
    pub(crate) due: Due,
    /// The job as the scheduled set carries it.
    pub(crate) job: Vec<u8>,
}

/// When a moved job is due, by Redis' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// So many milliseconds after the entry's own id.
    AfterEntry(u64),
    /// So many milliseconds from now.
    AfterNow(u64),
}

/// What the touch script does to an entry that this consumer owns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Touch {
    Renew,
    /// Anybody may claim it, at once.
    PutBack,
}

impl Touch {
    fn word(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::PutBack => "put_back",
        }
    }
}

/// A dead letter: fields and values, whatever bytes they are.
pub(crate) type DeadLetter = Vec<(Vec<u8>, Vec<u8>)>;

/// What a promotion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promoted {
    pub(crate) moved: u64,
    /// How long until the next job is due, when there is one.
    pub(crate) due_in: Option<Duration>,
}

/// One consumer's view of one queue.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) keys: Keys,
    pub(crate) consumer: String,
}

impl Broker {
    pub(crate) fn new(queue: &str, consumer: String) -> Self {
        Self {
            keys: Keys::new(queue),
            consumer,
        }
    }

    /// Delivers up to `count` waiting entries, waiting up to `block` for the first.
    /// The link's reply timeout must be longer than `block`.
    pub(crate) async fn read(
        &self,
        link: &mut Link,
        count: usize,
        block: Duration,
    ) -> Result<Vec<Entry>, Error> {
        // BLOCK 0 would wait for ever.
        let block_ms = block.as_millis().max(1);
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.consumer);
        cmd.arg("COUNT").arg(count);
        cmd.arg("BLOCK").arg(block_ms.to_string());
        cmd.arg("STREAMS").arg(&self.keys.stream).arg(">");
        let reply = link.call("read", &cmd).await?;
        delivered(reply)
    }

    /// Keeps the reclaim mark, and takes over up to `room` entries whose lease ran out.
    pub(crate) async fn reclaim(
        &self,
        link: &mut Link,
        times: LeaseTimes,
        room: usize,
    ) -> Result<Reclaimed, Error> {
        let numbers = [
            millis(times.lease),
            millis(times.stall),
            millis(times.hold),
            millis(times.interval),
            room.to_string(),
        ];
        let mut cmd = eval(RECLAIM, &[&self.keys.stream, &self.keys.state], &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(&numbers);
        let reply = link.call("reclaim", &cmd).await?;
        let shape = || Error::unexpected_reply("the reclaim script");
        let [paused, more, deleted, entries] = array(reply).ok_or_else(shape)?;
        Ok(Reclaimed {
            paused: int(&paused) == Some(1),
            more: int(&more) == Some(1),
            deleted: int(&deleted).and_then(|n| n.try_into().ok()).unwrap_or(0),
            entries: counted(entries).ok_or_else(shape)?,
        })
    }

    /// A page of the ids that are pending for this consumer, in order, beyond `after`.
    pub(crate) async fn pending(
        &self,
        link: &mut Link,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<EntryId>, Error> {
        let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(&self.keys.stream).arg(GROUP).arg(start).arg("+");
        cmd.arg(count).arg(&self.consumer);
        let reply = link.call("pending", &cmd).await?;
        items(reply)
            .and_then(|rows| {
                rows.into_iter()
                    .map(|row| entry_id(items(row)?.first()?))
                    .collect()
            })
            .ok_or_else(|| Error::unexpected_reply("XPENDING"))
    }

    /// Delivers again what this consumer owns of `ids` under a running lease, without
    /// counting a delivery.
    pub(crate) async fn take(
        &self,
        link: &mut Link,
        lease: Duration,
        ids: &[EntryId],
    ) -> Result<Vec<Entry>, Error> {
        let mut cmd = eval(TAKE, &[&self.keys.stream], &[]);
        cmd.arg(GROUP)
            .arg(&self.consumer)
            .arg(millis(lease))
            .arg(ids);
        let reply = link.call(RENEW, &cmd).await?;
        counted(reply).ok_or_else(|| Error::unexpected_reply("the take script"))
    }

    /// Renews the leases of `ids`. Tells for each whether it was still this consumer's.
    /// Without any it still finds out whether it could.
    pub(crate) async fn renew(&self, link: &mut Link, ids: &[EntryId]) -> Result<Vec<bool>, Error> {
        let cmd = self.touch(Touch::Renew, ids.iter().map(|id| (*id, None)));
        owned(link.call(RENEW, &cmd).await?)
    }

    /// Sets the delivery counts of entries that this consumer owns, and renews their leases
    /// or puts them back. When that fails the counts are one too high, which is no reason
    /// to stop.
    pub(crate) async fn recount(&self, link: &mut Link, touch: Touch, counts: &[(EntryId, u32)]) {
        if !counts.is_empty() {
            let counts = counts.iter().map(|(id, count)| (*id, Some(*count)));
            drop(link.ask(&self.touch(touch, counts)).await);
        }
    }

    /// Moves up to `limit` due jobs to the stream.
    pub(crate) async fn promote(&self, link: &mut Link, limit: usize) -> Result<Promoted, Error> {
        let mut cmd = eval(PROMOTE, &[&self.keys.scheduled, &self.keys.stream], &[]);
        cmd.arg(limit);
        let reply = link.call("promote", &cmd).await?;
        let [moved, due_in] =
            array(reply).ok_or_else(|| Error::unexpected_reply("the promote script"))?;
        Ok(Promoted {
            moved: int(&moved).and_then(|n| n.try_into().ok()).unwrap_or(0),
            due_in: micros(&due_in),
        })
    }

    /// Removes consumers that have nothing pending and were idle for `idle`; only
    /// `name` when given. Answers how many it removed.
    pub(crate) async fn remove_consumers(
        &self,
        link: &mut Link,
        idle: Duration,
        name: Option<&str>,
    ) -> Result<i64, Error> {
        let mut cmd = eval(REMOVE_CONSUMERS, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(millis(idle)).arg(name.unwrap_or(""));
        let reply = link.call("remove consumers", &cmd).await?;
        Ok(int(&reply).unwrap_or(0))
    }

    /// The id by which other connections can address this one; none when an ACL keeps
    /// it secret.
    pub(crate) async fn client_id(&self, link: &mut Link) -> Option<i64> {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("ID");
        int(&link.ask(&cmd).await.ok()?)
    }

    /// Ends the blocking read of connection `client_id`, if it is in one and an ACL
    /// allows it.
    pub(crate) async fn unblock(&self, link: &mut Link, client_id: i64) {
        let mut cmd = redis::cmd("CLIENT");
        cmd.arg("UNBLOCK").arg(client_id);
        drop(link.ask(&cmd).await);
    }

    // The commands that settle deliveries, for the settler to send together. Where the
    // reply says more than that it was done, a function below reads it.

    /// Acknowledges and deletes finished entries, as one step. Not fenced: the job ran.
    pub(crate) fn acknowledge(&self, pipeline: &mut Pipeline, ids: &[EntryId]) {
        let mut cmd = eval(ACKNOWLEDGE, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(ids);
        pipeline.add_command(cmd);
    }

    /// Moves entries that this consumer owns to the scheduled set.
    pub(crate) fn schedule(&self, pipeline: &mut Pipeline, moves: &[Move]) {
        let mut cmd = eval(SCHEDULE, &[&self.keys.stream, &self.keys.scheduled], &[]);
        cmd.arg(GROUP).arg(&self.consumer);
        for Move { id, due, job } in moves {
            let (from, delay_ms) = match due {
                Due::AfterEntry(ms) => ("entry", ms),
                Due::AfterNow(ms) => ("now", ms),
            };
            cmd.arg(id).arg(from).arg(delay_ms).arg(job);
        }
        pipeline.add_command(cmd);
    }

    /// Moves entries that this consumer owns to the dead letters, of which `max_len`
    /// are kept.
    pub(crate) fn bury<'a>(
        &self,
        pipeline: &mut Pipeline,
        max_len: u64,
        letters: impl Iterator<Item = (EntryId, &'a DeadLetter)>,
    ) {
        let mut cmd = eval(BURY, &[&self.keys.stream, &self.keys.dead], &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(max_len);
        for (id, letter) in letters {
            cmd.arg(id).arg(letter.len() * 2).arg(letter);
        }
        pipeline.add_command(cmd);
    }

    /// Gives entries that this consumer owns up without an outcome: they are at once
    /// anybody's to claim, with the delivery count given.
    pub(crate) fn put_back(
        &self,
        pipeline: &mut Pipeline,
        counts: impl Iterator<Item = (EntryId, u32)>,
    ) {
        let counts = counts.map(|(id, count)| (id, Some(count)));
        pipeline.add_command(self.touch(Touch::PutBack, counts));
    }

    fn touch(&self, touch: Touch, entries: impl Iterator<Item = (EntryId, Option<u32>)>) -> Cmd {
        let mut cmd = eval(TOUCH, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(touch.word());
        for (id, count) in entries {
            cmd.arg(id);
            match count {
                Some(count) => cmd.arg(count),
                None => cmd.arg(""),
            };
        }
        cmd
    }
}

/// XADD of a job: what the producer does.
pub(crate) fn enqueue(keys: &Keys, job: &[u8]) -> Cmd {
    // With its room known: a producer makes one for each job.
    let mut cmd = Cmd::with_capacity(5, job.len() + keys.stream.len() + 16);
    cmd.arg("XADD").arg(&keys.stream).arg("*");
    cmd.arg(JOB_FIELD).arg(job);
    cmd
}

/// Asks whether the producer may do so.
pub(crate) fn may_enqueue(keys: &Keys) -> Cmd {
    eval(MAY_ENQUEUE, &[&keys.stream], &[])
}

/// A script with its keys and first arguments.
pub(crate) fn eval(script: &str, keys: &[&String], args: &[&[u8]]) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(script).arg(keys.len()).arg(keys).arg(args);
    cmd
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_queue_share_one_hash_tag() {
        let keys = Keys::new("mail");
        for key in [&keys.stream, &keys.scheduled, &keys.dead, &keys.state] {
            assert!(key.starts_with("jobqueue:{mail}"), "{key}");
        }
    }
}
