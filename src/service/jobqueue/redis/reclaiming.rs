//! Reclaiming: a look for expired leases, by the times that tell a stalled Redis from a dead
//! worker.

use std::time::Duration;

use redis::Value;

use super::broker::Broker;
use super::entry::Entry;
use super::error::Error;
use super::link::Link;
use super::reply::{array, counted, int};
use super::scripts::{RECLAIM, evalsha, millis};
use crate::service::jobqueue::constants::GROUP;

/// A worker's settings by which a stalled Redis is told from a dead worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    /// How long it takes to reconnect and send a heartbeat.
    pub(crate) reconnect: Duration,
    /// How often to look for expired leases.
    pub(crate) interval: Duration,
}

/// The times by which one look for expired leases judges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) lease: Duration,
    /// After a longer gap between two looks, leases may be over that nobody could renew.
    pub(crate) stall: Duration,
    /// A gap that is no longer than this is usual, because this worker looks so rarely.
    pub(crate) usual: Duration,
    /// How long nobody claims anything after a gap that is not usual.
    pub(crate) hold: Duration,
    /// The part of the hold that does not depend on the lease.
    pub(crate) reconnect: Duration,
    pub(crate) interval: Duration,
}

/// What a look for expired leases brought.
#[derive(Debug, Default)]
pub(crate) struct Reclaimed {
    /// An operator has paused the queue.
    pub(crate) paused: bool,
    /// The pass is not over: there may be more to claim at once.
    pub(crate) more: bool,
    /// How many pending entries had no stream entry any more.
    pub(crate) deleted: u64,
    /// The entries that were taken over.
    pub(crate) entries: Vec<Entry>,
    /// There is more to mend, so the next look should come soon.
    pub(crate) unmended: bool,
    /// How many entries were found that had been read and were pending for nobody.
    pub(crate) stranded: u64,
    /// How long nobody has claimed anything beyond the length of one hold. It grows while Redis
    /// or all workers seem to stand still again and again.
    pub(crate) overdue: Duration,
    /// The shortest and the longest lease of all known workers.
    pub(crate) leases: (Duration, Duration),
}

impl Broker {
    /// Keeps the mark of the last look, and takes over up to `room` entries whose lease ran out.
    /// Their bodies have up to `max_bytes` together. The reply may take `time` longer than
    /// others.
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
        let keys = self.keys();
        let mut cmd = evalsha(&RECLAIM, &[&keys.stream, &keys.state, &keys.leases]);
        cmd.arg(GROUP).arg(self.consumer()).arg(&numbers);
        let reply = link.call_within("reclaim", &cmd, time).await?;
        reclaimed(reply).ok_or_else(|| Error::unexpected_reply("the reclaim script"))
    }
}

/// The reply of the reclaim script.
fn reclaimed(reply: Value) -> Option<Reclaimed> {
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
