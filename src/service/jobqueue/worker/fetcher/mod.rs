//! Gets entries from Redis: reads new ones, takes over expired leases, finds those
//! whose delivery got lost on the way.
//!
//! One task, one connection of its own, one command at a time; what a read brought is
//! handed on while the next one is on its way. It alone adds to [`Held`], so what it sees
//! there cannot be started behind its back.

mod lease_log;
mod rhythm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::lease_log::LeaseLog;
use self::rhythm::Rhythm;
use super::held::{Held, Room};
use super::pace::{MAX_REPLY, ReplySize};
use super::trail::Step;
use super::triage::Triage;
use crate::service::jobqueue::redis::broker::{Broker, LeaseTimes, Take, Touch};
use crate::service::jobqueue::redis::connector::OPERATOR_RETRY;
use crate::service::jobqueue::redis::error::{Class, Error};
use crate::service::jobqueue::redis::link::Link;
use crate::service::jobqueue::redis::reply::{Body, Entry, EntryId};
use crate::service::jobqueue::redis::window::{NAME_BYTES, time_for};

/// The longest a read blocks. Redis notices a vanished client no sooner, and a
/// deleted stream or a stop that could not be sent is noticed within this time.
pub(crate) const MAX_BLOCK: Duration = Duration::from_secs(1);
/// How long a delivery may wait behind long jobs before others get a chance.
const MAX_READY_AGE: Duration = Duration::from_millis(50);
/// What the reply of an orphan check carries at most, in bytes. A larger entry is fetched by
/// itself: it may be why its delivery was lost.
const ORPHAN_BYTES: usize = 64 * 1024;
/// How long reads are bounded in bytes after an entry was met that is too large for a reply.
const BOUNDED_READS: Duration = Duration::from_secs(10);
/// How often such a read, which cannot wait for entries, is repeated.
const BOUNDED_READ_INTERVAL: Duration = Duration::from_millis(50);
const FOUND: &str = "found jobs whose delivery was lost on the way";
/// How soon to look again when there is more to mend: reads come between.
const MEND_PAUSE: Duration = Duration::from_millis(10);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) triage: Triage,
    pub(crate) link: Link,
    pub(crate) times: LeaseTimes,
    /// A handler that was started longer ago hangs: nobody should wait for it.
    pub(crate) hang_limit: Duration,
    /// The connection's id, for who wants to end a blocking read; 0 when unknown.
    pub(crate) client_id: Arc<AtomicI64>,
    pub(crate) stop: CancellationToken,
    /// The queue is paused, as the last look found.
    pub(crate) paused: Arc<AtomicBool>,
    /// While it is set there is no room for anything; see [`crate::service::jobqueue::server::Server::suspended`].
    pub(crate) suspended: Arc<AtomicBool>,
    pub(crate) schedule: Schedule,
}

/// What is to be done when.
#[derive(Debug)]
pub(crate) struct Schedule {
    next_reclaim: Instant,
    /// The last reclaim left something to claim, or had no room to claim anything: the
    /// next room is for it, or a busy queue would never take over from a dead worker.
    reclaim_first: bool,
    /// Where an unfinished orphan check goes on.
    orphans: Option<OrphanCheck>,
    /// When to look for orphans once more: a command that failed may still have been
    /// on its way to Redis when the first look was taken.
    second_look: Option<Instant>,
    reply_size: ReplySize,
    rhythm: Rhythm,
    log: LeaseLog,
    /// Until when reads are bounded in bytes.
    bounded_until: Option<Instant>,
    /// When the next of them is due.
    next_bounded: Instant,
    /// The newest entry that this process was given in this epoch, by a read or otherwise.
    newest: Option<EntryId>,
    /// In which epoch it reads.
    epoch: u64,
}

/// The most urgent of what is due.
#[derive(Debug, Clone, Copy)]
enum Errand {
    Reclaim(Room),
    RecoverOrphans(OrphanCheck),
    /// Short jobs turned out to wait behind long ones: others shall have them.
    PutBackReady,
    Read {
        count: usize,
        block: Duration,
    },
    /// The same, with no more bytes than a reply carries.
    ReadBounded {
        count: usize,
    },
    /// Nothing can be had for this long.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy)]
struct OrphanCheck {
    after: Option<EntryId>,
    /// A reply got lost; otherwise entries came whose ids are old.
    lost: bool,
}

impl Schedule {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next_reclaim: now,
            reclaim_first: false,
            orphans: None,
            second_look: None,
            reply_size: ReplySize::new(),
            bounded_until: None,
            next_bounded: now,
            rhythm: Rhythm::default(),
            log: LeaseLog::default(),
            newest: None,
            epoch: 0,
        }
    }

    fn remember(&mut self, entries: &[Entry]) {
        self.newest = self.newest.max(entries.iter().map(|entry| entry.id).max());
    }

    fn look_for_orphans(&mut self, now: Instant, lost: bool) {
        self.orphans = Some(OrphanCheck { after: None, lost });
        self.second_look = Some(now + MAX_BLOCK);
    }
}

impl Fetcher {
    /// Fetches until `stop`.
    ///
    /// Not cancel safe: dropping it in a read loses the delivery until the lease ends.
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            if let Err(error) = self.step().await {
                self.schedule.look_for_orphans(Instant::now(), true);
                if error.code.is_none() {
                    self.schedule.reply_size.lost();
                }
                if error.class == Class::Operator {
                    self.pause(OPERATOR_RETRY).await;
                }
            }
        }
        self.client_id.store(0, Ordering::Relaxed);
    }

    async fn step(&mut self) -> Result<(), Error> {
        tokio::select! {
            fresh = self.link.connect() => if fresh { self.greet().await?; },
            () = self.stop.cancelled() => return Ok(()),
        }
        if self.link.epoch() != self.schedule.epoch {
            tokio::select! {
                () = self.held.wait_recognised(self.link.epoch()) => self.begin_epoch(),
                () = self.link.next_epoch() => {}
                () = self.stop.cancelled() => {}
            }
            return Ok(());
        }
        match self.next_errand(0) {
            Errand::Reclaim(room) => self.reclaim(room).await,
            Errand::RecoverOrphans(check) => self.recover_orphans(check).await,
            Errand::PutBackReady => {
                let long_ago = Instant::now() - MAX_READY_AGE;
                self.held.put_back_ready(long_ago);
                Ok(())
            }
            Errand::Read { count, block } => self.read(count, block).await,
            Errand::ReadBounded { count } => self.read_bounded(count).await,
            Errand::Wait(time) => {
                tokio::select! {
                    () = self.held.wait_for_room() => {}
                    () = sleep(time) => {}
                    () = self.stop.cancelled() => {}
                }
                Ok(())
            }
        }
    }

    /// What to do next, with `fetched` entries in hand that are not admitted yet.
    fn next_errand(&mut self, fetched: usize) -> Errand {
        let now = Instant::now();
        let mut room = self.held.room(now);
        room.entries = room.entries.saturating_sub(fetched);
        if self.suspended.load(Ordering::Relaxed) {
            room.entries = 0;
        }
        let schedule = &mut self.schedule;
        if schedule.next_reclaim <= now || (schedule.reclaim_first && room.entries > 0) {
            return Errand::Reclaim(room);
        }
        if schedule.second_look.is_some_and(|at| at <= now) {
            schedule.second_look = None;
            schedule.orphans = Some(OrphanCheck {
                after: None,
                lost: true,
            });
        }
        if let Some(check) = schedule.orphans {
            return Errand::RecoverOrphans(check);
        }
        let too_old = room.waiting_since.map(|since| since + MAX_READY_AGE);
        if too_old.is_some_and(|at| at <= now) {
            return Errand::PutBackReady;
        }
        let may_fetch = room.entries > 0 && !self.paused.load(Ordering::Relaxed);
        let bounded = schedule.bounded_until.is_some_and(|until| now < until);
        let dates = [
            Some(schedule.next_reclaim),
            schedule.second_look,
            too_old,
            (bounded && may_fetch).then_some(schedule.next_bounded),
        ];
        let next = dates.into_iter().flatten().min();
        let patience = next.map_or(MAX_BLOCK, |at| at.saturating_duration_since(now));
        let block = patience.min(MAX_BLOCK);
        if !may_fetch || (bounded && now < schedule.next_bounded) {
            return Errand::Wait(block);
        }
        let count = schedule.reply_size.ask(room.entries);
        if bounded {
            Errand::ReadBounded { count }
        } else {
            Errand::Read { count, block }
        }
    }

    /// Reads until something else is due. What a read brought is handed on while the next
    /// one is on its way: neither this worker nor Redis waits for the other.
    async fn read(&mut self, count: usize, block: Duration) -> Result<(), Error> {
        let epoch = self.schedule.epoch;
        let (mut began, mut time) = (Instant::now(), self.schedule.reply_size.time());
        let read = self.broker.read(&mut self.link, count, block, time);
        let mut entries = read.await?;
        loop {
            self.came(&entries, began);
            self.leave_to_orphan_check(&mut entries);
            let errand = self.next_errand(entries.len());
            let triage = &self.triage;
            match errand {
                Errand::Read { count, block } if !self.stop.is_cancelled() => {
                    (began, time) = (Instant::now(), self.schedule.reply_size.time());
                    let read = self.broker.read(&mut self.link, count, block, time);
                    let deliver = async { triage.deliver(Step::Delivered, entries, epoch) };
                    // The read first, which sends its command at once.
                    let (next, ()) = tokio::join!(biased; read, deliver);
                    entries = next?;
                }
                _ => {
                    triage.deliver(Step::Delivered, entries, epoch);
                    return Ok(());
                }
            }
        }
    }

    /// Reads what waits, and no more of it than a reply carries.
    async fn read_bounded(&mut self, count: usize) -> Result<(), Error> {
        let began = Instant::now();
        let (bytes, time) = self.schedule.reply_size.bytes_and_time();
        let read = self.broker.read_bounded(&mut self.link, count, bytes, time);
        let mut entries = read.await?;
        if entries.is_empty() {
            self.schedule.next_bounded = Instant::now() + BOUNDED_READ_INTERVAL;
        }
        self.came(&entries, began);
        self.leave_to_orphan_check(&mut entries);
        self.triage
            .deliver(Step::Delivered, entries, self.schedule.epoch);
        Ok(())
    }

    /// Learns from a reply to a command that began then.
    fn came(&mut self, entries: &[Entry], began: Instant) {
        let carried = |entry: &&Entry| !matches!(entry.body, Body::TooLarge(_));
        let bytes = entries.iter().filter(carried).map(|entry| entry.bytes);
        let (count, bytes) = (bytes.clone().count(), bytes.sum());
        let reply_size = &mut self.schedule.reply_size;
        reply_size.came(count, bytes, began.elapsed());
        if count < entries.len() {
            // There may be more of them.
            self.schedule.bounded_until = Some(Instant::now() + BOUNDED_READS);
        }
    }

    /// Another epoch: what is held was recognised, and what is pending for this worker
    /// besides that has to be found. All that comes from now on is newer than what is there.
    fn begin_epoch(&mut self) {
        let schedule = &mut self.schedule;
        schedule.epoch = self.link.epoch();
        schedule.newest = self.held.newest();
        // Nothing can be lost of what was never read.
        if schedule.epoch > 1 {
            schedule.look_for_orphans(Instant::now(), true);
        }
    }

    /// Takes out what this process may have been given before: a group that was made anew
    /// or set back, or a Redis that lost its last second, delivers it once more. It may run
    /// here, or have ended since the reply was written, so whose it is now has to be asked.
    fn leave_to_orphan_check(&mut self, entries: &mut Vec<Entry>) {
        let newest = self.schedule.newest;
        let count = entries.len();
        self.schedule.remember(entries);
        entries.retain(|entry| Some(entry.id) > newest);
        if entries.len() < count {
            self.schedule.look_for_orphans(Instant::now(), false);
        }
    }

    /// First on a new connection: keep what is held, before anybody thinks it is lost.
    async fn greet(&mut self) -> Result<(), Error> {
        let held = self.held.renewable(Instant::now(), self.hang_limit);
        if !held.is_empty() {
            self.keep(&held).await?;
        }
        let asked = Instant::now();
        let client_id = self.broker.client_id(&mut self.link).await;
        // What another connection has shown says nothing of this one.
        self.schedule.reply_size.connected();
        self.schedule.rhythm = Rhythm::default();
        self.schedule.rhythm.answered(asked.elapsed());
        self.client_id
            .store(client_id.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Keeps the reclaim mark, and takes over what there is room for.
    async fn reclaim(&mut self, room: Room) -> Result<(), Error> {
        // What is held now: until the reply is here the settler may have settled some of
        // it, and a claim from before that would look like a new delivery.
        let held = self.held.ids();
        let count = self.schedule.reply_size.ask(room.entries);
        let began = Instant::now();
        let look = self.schedule.rhythm.look(began, &self.times);
        let (bytes, time) = self.schedule.reply_size.bytes_and_time();
        let reclaim = self
            .broker
            .reclaim(&mut self.link, &look, count, bytes, time);
        let reclaimed = reclaim.await;
        self.schedule.next_reclaim = Instant::now() + self.times.interval;
        let reclaimed = match reclaimed {
            Err(error) if error.class == Class::Operator => {
                // Reading goes on while a broken state hash waits for its operator.
                self.schedule.next_reclaim = Instant::now() + OPERATOR_RETRY;
                self.schedule.reclaim_first = false;
                return Ok(());
            }
            reclaimed => reclaimed?,
        };
        self.schedule.rhythm.answered(began.elapsed());
        let log = &self.triage.runners.log;
        self.schedule
            .log
            .looked(&self.times, &look, &reclaimed, log);
        if reclaimed.unmended {
            let soon = self.times.interval.min(MEND_PAUSE);
            self.schedule.next_reclaim = Instant::now() + soon;
        }
        self.came(&reclaimed.entries, began);
        self.schedule.remember(&reclaimed.entries);
        self.schedule.reclaim_first = reclaimed.more || room.entries == 0;
        self.paused.store(reclaimed.paused, Ordering::Relaxed);
        self.link.found_paused(reclaimed.paused);
        let (mine, others) = reclaimed
            .entries
            .into_iter()
            .partition(|entry| held.contains(&entry.id));
        self.triage
            .deliver(Step::TakenOver, others, self.schedule.epoch);
        self.decline(mine).await;
        Ok(())
    }

    /// Takes back the delivery that a claim counted for entries that this worker had already,
    /// and does not start them again. Entries whose handler still runs keep their lease.
    /// Entries that hang, or that ended while the claim was on its way, are put back, so that
    /// another worker can claim them.
    async fn decline(&mut self, mine: Vec<Entry>) {
        if mine.is_empty() {
            return;
        }
        let living = self.held.renewable(Instant::now(), self.hang_limit);
        let counts = mine
            .iter()
            .map(|entry| (entry.id, entry.deliveries.saturating_sub(1)));
        let (keep, leave): (Vec<_>, Vec<_>) = counts.partition(|(id, _)| living.contains(id));
        self.broker
            .recount(&mut self.link, Touch::Renew, &keep)
            .await;
        self.broker
            .recount(&mut self.link, Touch::PutBack, &leave)
            .await;
        // One that was just put back, and whose settling was not confirmed when it was
        // claimed, has a fresh lease now and nobody who holds it.
        self.schedule.second_look = Some(Instant::now() + MAX_BLOCK);
    }

    /// Takes what is pending for this consumer and not held: its delivery was lost.
    ///
    /// Never `XREADGROUP ... 0`: that counts a delivery for every pending entry, and
    /// returns entries whose outcome the settler is sending.
    async fn recover_orphans(&mut self, check: OrphanCheck) -> Result<(), Error> {
        let page = self
            .broker
            .pending(&mut self.link, check.after, MAX_REPLY)
            .await?;
        let orphans = page.iter().filter(|id| !self.held.contains(**id));
        let mut orphans: Vec<EntryId> = orphans.copied().collect();
        let mut found = 0;
        while !orphans.is_empty() && !self.stop.is_cancelled() {
            let (bytes, time) = self.schedule.reply_size.bytes_and_time();
            let take = Take {
                lease: self.times.lease,
                time,
                max_bytes: bytes.min(ORPHAN_BYTES),
                counts: false,
            };
            let began = Instant::now();
            let took = self.broker.take(&mut self.link, take, &orphans).await;
            if took.is_err() {
                // For the halving: so much was asked for.
                self.schedule.reply_size.asked_for(take.max_bytes);
            }
            let (looked, entries) = took?;
            self.came(&entries, began);
            self.schedule.remember(&entries);
            found += entries.len();
            // One at least, since the script takes one that fits nowhere as well.
            orphans.drain(..looked.clamp(1, orphans.len()));
            // The settler may have settled some of them between the two commands.
            self.triage
                .deliver(Step::Delivered, entries, self.schedule.epoch);
        }
        if found > 0
            && check.lost
            && let Some(suppressed) =
                self.triage
                    .runners
                    .log
                    .admit_many(FOUND, "", "", found as u64)
        {
            info!(found, suppressed, "{FOUND}");
        }
        let next = page.last().filter(|_| page.len() == MAX_REPLY);
        self.schedule.orphans = next.map(|last| OrphanCheck {
            after: Some(*last),
            ..check
        });
        Ok(())
    }

    /// Renews leases, as many at once as get through.
    async fn keep(&mut self, ids: &[EntryId]) -> Result<(), Error> {
        for ids in ids.chunks(MAX_REPLY) {
            let time = time_for(ids.len() * NAME_BYTES);
            self.broker.renew(&mut self.link, ids, time).await?;
        }
        Ok(())
    }

    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
