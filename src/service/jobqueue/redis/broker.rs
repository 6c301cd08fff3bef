//! The one file that knows Redis commands: what the queue does, as one command or
//! script each, with typed arguments and replies.
//!
//! Scripts are sent whole (EVAL) and not by their hash: what a script flush, a
//! restart or a failover forgets then needs no second round trip and no error path,
//! and hashing two kilobytes costs Redis a few microseconds per batch.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Cmd;

use super::error::Error;
use super::keys::{JOB_FIELD, Keys};
use super::link::Link;
use super::reply::{
    Entry, EntryId, array, counted, delivered, entry_id, int, items, owned, promoted, reclaimed,
};
use crate::service::jobqueue::constants::GROUP;

/// A script of `scripts/` behind the prelude that all of them stand on, and behind parts of
/// its own.
macro_rules! script {
    ($($name:literal),+) => {
        concat!(
            include_str!("scripts/prelude.lua"),
            $(include_str!(concat!("scripts/", $name, ".lua"))),+
        )
    };
}

pub(super) const ACKNOWLEDGE: &str = script!("acknowledge");
pub(super) const BURY: &str = script!("bury");
const PROMOTE: &str = script!("promote");
const READ: &str = script!("read");
const RECOGNISE: &str = script!("recognise");
/// The longest script, and the one that is sent most often: without what is for its readers
/// it has half the length.
static RECLAIM: LazyLock<String> = LazyLock::new(|| {
    let lines = script!("hold", "mend", "reclaim").lines();
    let code = lines.enumerate().map(|(at, line)| match line.trim_start() {
        // The first line has the flags.
        comment if at > 0 && comment.starts_with("--") => "",
        code => code,
    });
    code.map(|line| format!("{line}\n")).collect()
});
const REMOVE_CONSUMERS: &str = script!("remove_consumers");
pub(super) const SCHEDULE: &str = script!("schedule");
const TAKE: &str = script!("take");
const TOUCH: &str = script!("touch");
/// Writes nothing, and says so.
const MAY_ENQUEUE: &str = include_str!("scripts/may_enqueue.lua");
const HAS_ROOM: &str = include_str!("scripts/has_room.lua");

/// How the log calls whatever needs to XCLAIM. The heartbeat tries that again and again,
/// so that the trouble ends when it is mended: the others may have no reason to.
const RENEW: &str = "renew";

/// A living worker looks for expired leases more often than this, wherever it is.
const MIN_CONSUMER_IDLE: Duration = Duration::from_secs(5);

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
    /// Something was found that looks soon should go on to mend.
    pub(crate) unmended: bool,
    /// Entries that were found to be read, and pending for nobody.
    pub(crate) stranded: u64,
    /// How much longer than a hold nobody has claimed, because Redis or all workers seemed to
    /// stand still again and again.
    pub(crate) overdue: Duration,
    /// The shortest and the longest lease of the workers that are known.
    pub(crate) leases: (Duration, Duration),
}

/// The settings by which a stalled Redis is told from a dead worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    /// How long it takes to reconnect and send a heartbeat.
    pub(crate) reconnect: Duration,
    /// How often to look for expired leases.
    pub(crate) interval: Duration,
}

/// The times that one look for expired leases judges by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) lease: Duration,
    /// After a longer gap between two looks, leases may be over that nobody could renew.
    pub(crate) stall: Duration,
    /// A gap that is no longer than this is explained by how rarely this worker looks.
    pub(crate) usual: Duration,
    /// How long nobody claims after a gap that is not explained.
    pub(crate) hold: Duration,
    /// The part of the hold that does not depend on the lease.
    pub(crate) reconnect: Duration,
    pub(crate) interval: Duration,
}

/// What a dead letter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) reason: &'static str,
    pub(crate) error: String,
    /// How many attempts have failed.
    pub(crate) attempt: u32,
    pub(crate) deliveries: u32,
    /// The job's id for the log, when it could be read.
    pub(crate) job_id: Option<String>,
    /// How many bytes the entry holds.
    pub(crate) bytes: usize,
}

/// What the touch script does to an entry that this consumer owns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Touch {
    Renew,
    /// Anybody may claim it, at once.
    PutBack,
    /// It looks as if it had been idle for so long: what is left of a lease later, anybody
    /// may claim it.
    Idle(Duration),
}

impl Touch {
    fn word(self) -> Cow<'static, str> {
        match self {
            Self::Renew => "renew".into(),
            Self::PutBack => "put_back".into(),
            Self::Idle(idle) => millis(idle).into(),
        }
    }
}

/// What [`Broker::take`] is to bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    pub(crate) lease: Duration,
    /// How much longer than an empty reply this one may take.
    pub(crate) time: Duration,
    /// The bytes of all entries in the reply, and of each: a larger one comes without body.
    pub(crate) max_bytes: usize,
    /// Whether it counts as a delivery.
    pub(crate) counts: bool,
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promoted {
    pub(crate) moved: u64,
    /// How long until the next job is due, when there is one.
    pub(crate) due_in: Option<Duration>,
    /// The moved jobs, for the log, if they were asked for.
    pub(crate) told: Vec<PromotedJob>,
}

/// A job that was moved to the stream, as far as the script knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PromotedJob {
    /// The entry that it left for the scheduled set.
    pub(crate) left: String,
    pub(crate) entry_id: String,
    pub(crate) job_id: Option<String>,
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

    /// Delivers up to `count` waiting entries, waiting up to `block` for the first. The
    /// link's reply timeout must be longer than `block`; `time` comes on top of it.
    pub(crate) async fn read(
        &self,
        link: &mut Link,
        count: usize,
        block: Duration,
        time: Duration,
    ) -> Result<Vec<Entry>, Error> {
        // BLOCK 0 would wait for ever.
        let block_ms = block.as_millis().max(1);
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.consumer);
        cmd.arg("COUNT").arg(count);
        cmd.arg("BLOCK").arg(block_ms.to_string());
        cmd.arg("STREAMS").arg(&self.keys.stream).arg(">");
        let reply = link.call_within("read", &cmd, time).await?;
        delivered(reply)
    }

    /// Delivers up to `count` waiting entries, without waiting for any, in a reply of at
    /// most `max_bytes`: one that does not fit comes without body. The reply may take `time`
    /// longer than others.
    pub(crate) async fn read_bounded(
        &self,
        link: &mut Link,
        count: usize,
        max_bytes: usize,
        time: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let mut cmd = eval(READ, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(count).arg(max_bytes);
        let reply = link.call_within("read", &cmd, time).await?;
        counted(reply).ok_or_else(|| Error::unexpected_reply("the read script"))
    }

    /// Keeps the reclaim mark, and takes over up to `room` entries whose lease ran out, with
    /// bodies of up to `max_bytes` together. The reply may take `time` longer than others.
    pub(crate) async fn reclaim(
        &self,
        link: &mut Link,
        look: &Look,
        room: usize,
        max_bytes: usize,
        time: Duration,
    ) -> Result<Reclaimed, Error> {
        let numbers = [
            millis(look.lease),
            millis(look.stall),
            millis(look.usual),
            millis(look.hold),
            millis(look.reconnect),
            millis(look.interval),
            room.to_string(),
            max_bytes.to_string(),
        ];
        let keys = [&self.keys.stream, &self.keys.state, &self.keys.leases];
        let mut cmd = eval(&RECLAIM, &keys, &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(&numbers);
        let reply = link.call_within("reclaim", &cmd, time).await?;
        reclaimed(reply).ok_or_else(|| Error::unexpected_reply("the reclaim script"))
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

    /// Delivers again what this consumer owns of `ids` under a running lease, as far as one
    /// reply carries it. Tells how many of the ids it looked at as well.
    pub(crate) async fn take(
        &self,
        link: &mut Link,
        take: Take,
        ids: &[EntryId],
    ) -> Result<(usize, Vec<Entry>), Error> {
        let mut cmd = eval(TAKE, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(&self.consumer);
        cmd.arg(millis(take.lease)).arg(take.max_bytes);
        cmd.arg(u8::from(take.counts)).arg(ids);
        let reply = link.call_within(RENEW, &cmd, take.time).await?;
        let shape = || Error::unexpected_reply("the take script");
        let [looked, entries] = array(reply).ok_or_else(shape)?;
        let looked = int(&looked).and_then(|n| n.try_into().ok());
        let entries = counted(entries);
        looked.zip(entries).ok_or_else(shape)
    }

    /// Those of the ids for which there is an entry whose job has the digest beside the id.
    pub(crate) async fn recognise(
        &self,
        link: &mut Link,
        digests: Vec<(EntryId, String)>,
    ) -> Result<Vec<EntryId>, Error> {
        let mut cmd = eval(RECOGNISE, &[&self.keys.stream], &[]);
        for (id, digest) in &digests {
            cmd.arg(id).arg(digest);
        }
        let same = owned(link.call("recognise", &cmd).await?)?;
        let answered = digests.into_iter().zip(same).filter(|(_, same)| *same);
        Ok(answered.map(|((id, _), _)| id).collect())
    }

    /// Renews the leases of `ids`. Tells for each whether it was still this consumer's.
    /// Without any it still finds out whether it could.
    /// The reply may take `time` longer than others.
    pub(crate) async fn renew(
        &self,
        link: &mut Link,
        ids: &[EntryId],
        time: Duration,
    ) -> Result<Vec<bool>, Error> {
        let mut cmd = self.touch(Touch::Renew);
        for id in ids {
            cmd.arg(id).arg("");
        }
        owned(link.call_within(RENEW, &cmd, time).await?)
    }

    /// Sets the delivery counts of entries that this consumer owns, and renews their leases
    /// or puts them back. When that fails the counts are one too high, which is no reason
    /// to stop.
    pub(crate) async fn recount(&self, link: &mut Link, touch: Touch, counts: &[(EntryId, u32)]) {
        if !counts.is_empty() {
            let mut cmd = self.touch(touch);
            for (id, count) in counts {
                cmd.arg(id).arg(count);
            }
            drop(link.ask(&cmd).await);
        }
    }

    /// Moves up to `limit` due jobs to the stream. `tell`: which, for the log.
    pub(crate) async fn promote(
        &self,
        link: &mut Link,
        limit: usize,
        tell: bool,
    ) -> Result<Promoted, Error> {
        let mut cmd = eval(PROMOTE, &[&self.keys.scheduled, &self.keys.stream], &[]);
        cmd.arg(limit).arg(u8::from(tell));
        let reply = link.call("promote", &cmd).await?;
        promoted(reply)
    }

    /// Removes other consumers that have nothing pending and were idle for two leases of
    /// theirs, but none after a stall until the living had time to look for expired leases
    /// again. Answers how many it removed.
    pub(crate) async fn remove_consumers(
        &self,
        link: &mut Link,
        times: &LeaseTimes,
    ) -> Result<i64, Error> {
        let recovery = times.reconnect + 2 * times.interval;
        self.remove(link, false, recovery.max(MIN_CONSUMER_IDLE))
            .await
    }

    /// Removes this consumer, if it has nothing pending.
    pub(crate) async fn leave(&self, link: &mut Link) -> Result<i64, Error> {
        self.remove(link, true, Duration::ZERO).await
    }

    async fn remove(
        &self,
        link: &mut Link,
        leaving: bool,
        recovery: Duration,
    ) -> Result<i64, Error> {
        let keys = [&self.keys.stream, &self.keys.leases, &self.keys.state];
        let mut cmd = eval(REMOVE_CONSUMERS, &keys, &[]);
        cmd.arg(GROUP).arg(&self.consumer).arg(u8::from(leaving));
        cmd.arg(millis(MIN_CONSUMER_IDLE)).arg(millis(recovery));
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

    /// The command that does `touch` to entries. For each of them follow its id and the
    /// delivery count that it gets, which is empty where the count stays.
    pub(super) fn touch(&self, touch: Touch) -> Cmd {
        let mut cmd = eval(TOUCH, &[&self.keys.stream], &[]);
        cmd.arg(GROUP).arg(&self.consumer);
        cmd.arg(touch.word().as_ref());
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

/// Asks whether there is memory for another job: the error `OOM` says that there is none.
pub(crate) fn has_room(keys: &Keys) -> Cmd {
    eval(HAS_ROOM, &[&keys.stream], &[])
}

/// Asks for what an operator pauses the queue with.
pub(crate) fn paused(keys: &Keys) -> Cmd {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(&keys.state).arg("paused");
    cmd
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
