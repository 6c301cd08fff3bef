//! Gets entries from Redis: reads new ones, takes over expired leases, finds those
//! whose delivery got lost on the way.
//!
//! One task, one connection of its own, one thing at a time. It alone adds to
//! [`Held`], so what it sees there cannot be started behind its back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::broker::{Broker, LeaseTimes};
use super::connection::OPERATOR_RETRY;
use super::error::{Class, Error};
use super::held::{Delivery, Held, Outcome, Room, Settlement};
use super::job::Job;
use super::letter;
use super::link::Link;
use super::pace::ReplySize;
use super::reply::{Body, Entry, EntryId};
use super::worker::Worker;

/// The longest a read blocks. Redis notices a vanished client no sooner, and a
/// deleted stream or a stop that could not be sent is noticed within this time.
pub(crate) const MAX_BLOCK: Duration = Duration::from_secs(1);
/// How long a delivery may wait behind long jobs before others get a chance.
const MAX_READY_AGE: Duration = Duration::from_millis(50);
/// From this delivery on an entry is a suspect: it may be what kills workers.
const SUSPECT_DELIVERIES: u32 = 3;
/// How many pending ids the orphan check looks at in one command.
const ORPHAN_PAGE: usize = 500;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) broker: Arc<Broker>,
    pub(crate) held: Arc<Held>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) link: Link,
    pub(crate) times: LeaseTimes,
    /// A handler that was started longer ago hangs: nobody should wait for it.
    pub(crate) hang_limit: Duration,
    pub(crate) max_deliveries: u32,
    /// The connection's id, for who wants to end a blocking read; 0 when unknown.
    pub(crate) client_id: Arc<AtomicI64>,
    pub(crate) stop: CancellationToken,
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
    paused: bool,
    reply_size: ReplySize,
}

#[derive(Debug, Clone, Copy)]
struct OrphanCheck {
    after: Option<EntryId>,
}

impl Schedule {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next_reclaim: now,
            reclaim_first: false,
            orphans: None,
            second_look: None,
            paused: false,
            reply_size: ReplySize::new(),
        }
    }

    fn look_for_orphans(&mut self, now: Instant) {
        self.orphans = Some(OrphanCheck { after: None });
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
                self.schedule.look_for_orphans(Instant::now());
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

    /// One thing: the most urgent of what is due.
    async fn step(&mut self) -> Result<(), Error> {
        tokio::select! {
            fresh = self.link.connect() => if fresh { self.greet().await?; },
            () = self.stop.cancelled() => return Ok(()),
        }
        let now = Instant::now();
        let room = self.held.room(now);
        if self.schedule.next_reclaim <= now || (self.schedule.reclaim_first && room.entries > 0) {
            return self.reclaim(room).await;
        }
        if self.schedule.second_look.is_some_and(|at| at <= now) {
            self.schedule.second_look = None;
            self.schedule.orphans = Some(OrphanCheck { after: None });
        }
        if let Some(check) = self.schedule.orphans {
            return self.recover_orphans(check).await;
        }
        if room
            .waiting_since
            .is_some_and(|since| since + MAX_READY_AGE <= now)
        {
            self.held.put_back_ready(now - MAX_READY_AGE);
            return Ok(());
        }
        let patience = self.patience(now, room);
        if room.entries == 0 || self.schedule.paused {
            tokio::select! {
                () = self.held.wait_for_room() => {}
                () = sleep(patience) => {}
                () = self.stop.cancelled() => {}
            }
            return Ok(());
        }
        let count = self.schedule.reply_size.ask(room.entries);
        let entries = self.broker.read(&mut self.link, count, patience).await?;
        self.schedule.reply_size.came(entries.len());
        // A group that was made anew, or a Redis that lost its last second, delivers what
        // is held once more.
        let (mine, others) = self.split_held(entries);
        if !mine.is_empty() {
            // One whose outcome was refused before it became ours again is let go.
            self.schedule.look_for_orphans(Instant::now());
        }
        self.deliver(others);
        Ok(())
    }

    /// How long nothing else is due.
    fn patience(&self, now: Instant, room: Room) -> Duration {
        let next = [
            Some(self.schedule.next_reclaim),
            self.schedule.second_look,
            room.waiting_since.map(|since| since + MAX_READY_AGE),
        ];
        let next = next.into_iter().flatten().min();
        next.map_or(MAX_BLOCK, |at| at.saturating_duration_since(now))
            .min(MAX_BLOCK)
    }

    /// First on a new connection: keep what is held, before anybody thinks it is lost.
    async fn greet(&mut self) -> Result<(), Error> {
        let held = self.held.renewable(Instant::now(), self.hang_limit);
        if !held.is_empty() {
            self.broker.renew(&mut self.link, &held).await?;
        }
        let client_id = self.broker.client_id(&mut self.link).await;
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
        let reclaimed = self.broker.reclaim(&mut self.link, self.times, count).await;
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
        self.schedule.reply_size.came(reclaimed.entries.len());
        self.schedule.reclaim_first = reclaimed.more || room.entries == 0;
        if reclaimed.paused != self.schedule.paused {
            self.schedule.paused = reclaimed.paused;
            info!(paused = reclaimed.paused, "the queue was paused or resumed");
        }
        if reclaimed.deleted > 0 {
            let count = reclaimed.deleted;
            warn!(
                count,
                "pending jobs had been deleted from the stream by somebody else"
            );
        }
        let (mine, others) = reclaimed
            .entries
            .into_iter()
            .partition(|entry| held.contains(&entry.id));
        self.deliver(others);
        self.decline(mine).await;
        Ok(())
    }

    /// Does not start what was held when it was claimed, and takes back the delivery that
    /// the claim counted. What lives is kept; what hangs, or was put back or ended
    /// meanwhile, is for others, if it is still there.
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
            .recount(&mut self.link, Duration::ZERO, &keep)
            .await;
        let lease = self.times.lease;
        self.broker.recount(&mut self.link, lease, &leave).await;
        // One that was just put back, and whose settling was not confirmed when it was
        // claimed, has a fresh lease now and nobody who holds it.
        self.schedule.second_look = Some(Instant::now() + MAX_BLOCK);
    }

    /// Takes what is pending for this consumer and not held: its delivery was lost.
    ///
    /// Never `XREADGROUP ... 0`: that counts a delivery for every pending entry, and
    /// returns entries whose outcome the settler is sending.
    async fn recover_orphans(&mut self, check: OrphanCheck) -> Result<(), Error> {
        let count = self.schedule.reply_size.ask(ORPHAN_PAGE);
        let page = self
            .broker
            .pending(&mut self.link, check.after, count)
            .await?;
        self.schedule.orphans = match page.last() {
            Some(last) if page.len() == count => Some(OrphanCheck { after: Some(*last) }),
            _ => None,
        };
        let orphans = page.into_iter().filter(|id| !self.held.contains(*id));
        let orphans: Vec<EntryId> = orphans.collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let entries = self
            .broker
            .take(&mut self.link, self.times.lease, &orphans)
            .await?;
        self.schedule.reply_size.came(entries.len());
        let count = entries.len();
        if count > 0 {
            info!(count, "found jobs whose delivery was lost on the way");
        }
        // The settler may have settled some of them between the two commands.
        self.deliver(entries);
        Ok(())
    }

    /// What is held already runs here or waits to be settled: it is not started again.
    fn split_held(&self, entries: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
        entries
            .into_iter()
            .partition(|entry| self.held.contains(entry.id))
    }

    /// Hands new entries on: to the runners, or with their outcome to the settler.
    fn deliver(&self, entries: Vec<Entry>) {
        let mut ready = Vec::with_capacity(entries.len());
        let mut settled = Vec::new();
        for entry in entries {
            let (id, deliveries) = (entry.id, entry.deliveries);
            match self.triage(entry, &ready) {
                Ok(delivery) => ready.push(delivery),
                Err(outcome) => settled.push((Settlement { id, outcome }, deliveries)),
            }
        }
        self.held.admit_settled(settled);
        let now = Instant::now();
        let runners = self.held.admit(ready, now);
        if self.stop.is_cancelled() {
            // It came with the last read: nothing is started any more.
            self.held.put_back_ready(now);
        }
        self.worker.start_runners(runners);
    }

    /// Whether an entry is to run, or else how it ends. `ready` comes with it.
    fn triage(&self, entry: Entry, ready: &[Delivery]) -> Result<Delivery, Outcome> {
        let (id, deliveries) = (entry.id, entry.deliveries);
        if deliveries > self.max_deliveries {
            warn!(%id, deliveries, "a job that ends no delivery; moving it to the dead letters");
            return Err(Outcome::Dead(letter::poison(entry)));
        }
        // Of those that may be killing workers a process holds one at a time, so that
        // the one that does it reaches the limit alone.
        let suspect = deliveries >= SUSPECT_DELIVERIES;
        if suspect
            && (self.held.has_other_delivered(id, SUSPECT_DELIVERIES)
                || ready
                    .iter()
                    .any(|other| other.deliveries >= SUSPECT_DELIVERIES))
        {
            let deliveries = deliveries - 1;
            return Err(Outcome::PutBack { deliveries });
        }
        let Entry { body, .. } = entry;
        let json = match body {
            Body::Job(json) => json,
            body @ Body::Foreign(_) => {
                let error = "expected an entry with the one field `job`";
                warn!(%id, error, "foreign entry; moving it to the dead letters");
                let entry = Entry {
                    id,
                    body,
                    deliveries,
                };
                return Err(Outcome::Dead(letter::unreadable(entry, error)));
            }
        };
        match Job::parse(&json) {
            Ok(job) if job.delay_ms > 0 => {
                let delivery = Delivery {
                    id,
                    job,
                    json,
                    deliveries,
                };
                Err(Outcome::Park(Box::new(delivery)))
            }
            Ok(job) => Ok(Delivery {
                id,
                job,
                json,
                deliveries,
            }),
            Err(error) => {
                let error = error.to_string();
                warn!(%id, error, "malformed job; moving it to the dead letters");
                let body = Body::Job(json);
                let entry = Entry {
                    id,
                    body,
                    deliveries,
                };
                Err(Outcome::Dead(letter::unreadable(entry, &error)))
            }
        }
    }

    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = sleep(duration) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
