//! Gets entries from Redis: reads new ones, takes over expired leases, and finds those whose
//! delivery was lost on the way.
//!
//! It is one task with a connection of its own, and sends one command at a time, but for reads when
//! Redis is far away: several of those are on their way then. `plan` decides what it does next, and
//! [`Triage`] what becomes of the entries. Only the fetcher adds entries
//! to [`Held`]. So an entry that it does not find there cannot be started by another part.

mod lease_log;
mod orphans;
mod plan;
mod reads;
mod reclaim;
mod reply_size;
mod rhythm;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::sleep;

use self::lease_log::LeaseLog;
use self::plan::{Action, Cause, MAX_BLOCK, MAX_READY_AGE, Plan};
use self::reads::Reads;
use self::reply_size::{Asked, MAX_REPLY, ReplySize};
use self::rhythm::Rhythm;
use super::held::Held;
use super::job_log::JobLog;
use super::pace::NEAR;
use super::shared::{Flags, Shared};
use super::tally::Tally;
use super::trail::Step;
use super::triage::Triage;
use crate::service::jobqueue::redis::{
    Body, Broker, Class, Entry, EntryId, Error, LeaseTimes, Link, NAME_BYTES, OPERATOR_RETRY,
    time_for,
};

/// So many round trips measure the way to Redis at the beginning. On a busy machine a single one may take
/// longer than the way is, and a near Redis would be taken for one that is far away.
const FIRST_ROUND_TRIPS: usize = 3;

/// Fetches entries for one worker.
#[derive(Debug)]
pub(crate) struct Fetcher {
    broker: Arc<Broker>,
    held: Arc<Held>,
    triage: Triage,
    log: Arc<JobLog>,
    tally: Arc<Tally>,
    flags: Flags,
    link: Link,
    times: LeaseTimes,
    /// The id of the connection, by which another connection can end a blocking read. It is 0
    /// while there is none, or when Redis does not tell it.
    client_id: Arc<AtomicI64>,
    plan: Plan,
    reply_size: ReplySize,
    rhythm: Rhythm,
    lease_log: LeaseLog,
    /// The epoch of the connection in which it reads.
    epoch: u64,
    /// The newest entry that this process was given in this epoch.
    newest: Option<EntryId>,
}

impl Fetcher {
    /// A fetcher that hands entries to `triage`, and has not read anything yet. `times` are this worker's
    /// lease and what follows from it.
    pub(crate) fn new(shared: &Shared, triage: Triage, times: LeaseTimes) -> Self {
        Self {
            broker: Arc::clone(&shared.broker),
            held: Arc::clone(&shared.held),
            triage,
            log: Arc::clone(&shared.log),
            tally: Arc::clone(&shared.tally),
            flags: shared.flags.clone(),
            link: shared.connector.link("fetch", MAX_BLOCK),
            times,
            client_id: Arc::default(),
            plan: Plan::new(Instant::now()),
            reply_size: ReplySize::new(),
            rhythm: Rhythm::new(),
            lease_log: LeaseLog::new(),
            epoch: 0,
            newest: None,
        }
    }

    /// The id of the connection that a blocking read is on. It changes with the connection, and
    /// is 0 while there is none to end.
    pub(crate) fn client_id(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.client_id)
    }

    /// Fetches until the stop is requested.
    ///
    /// Not cancel safe: a read that is dropped loses its delivery until the lease ends.
    pub(crate) async fn run(mut self) {
        while !self.flags.stop.is_cancelled() {
            if let Err(error) = self.step().await {
                self.plan.look_for_orphans(Instant::now(), Cause::LostReply);
                if error.code.is_none() {
                    self.reply_size.lost();
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
            is_new = self.link.connect() => if is_new { self.on_connect().await?; },
            () = self.flags.stop.cancelled() => return Ok(()),
        }
        if self.link.epoch() != self.epoch {
            tokio::select! {
                () = self.held.wait_recognised(self.link.epoch()) => self.begin_epoch(),
                () = self.link.next_epoch() => {}
                () = self.flags.stop.cancelled() => {}
            }
            return Ok(());
        }
        let now = Instant::now();
        match self.next_action(now, 0) {
            Action::Reclaim { room } => self.reclaim(room).await?,
            Action::RecoverOrphans(check) => {
                self.plan.orphan_check_began(now);
                self.recover_orphans(check).await?;
            }
            Action::PutBackReady => self.held.put_back_ready(now - MAX_READY_AGE),
            Action::Read { .. } => self.read().await?,
            Action::ReadBounded { room } => self.read_bounded(room).await?,
            Action::Wait(time) => tokio::select! {
                () = self.held.wait_for_room() => {}
                () = self.pause(time) => {}
            },
        }
        Ok(())
    }

    /// What to do next, while `fetched` entries are here that are not handed on yet.
    fn next_action(&self, now: Instant, fetched: usize) -> Action {
        let room = self.held.room(fetched, self.rhythm.round_trip(), now);
        self.plan.next_action(now, self.flags.taking(), room)
    }

    /// Reads until something else is to be done.
    ///
    /// What a read brought is handed on while the next read is on its way. So Redis works while this
    /// worker parses jobs, and neither waits for the other. When Redis is far away and replies bring all
    /// that was asked for, several reads are on their way. Short jobs need them: one connection brings all
    /// that the slots run.
    async fn read(&mut self) -> Result<(), Error> {
        let mut reads = Reads::default();
        let mut result = Ok(());
        self.send_reads(&mut reads, 0, false).await;
        while let Some((asked, began, read)) = reads.next().await {
            let mut entries = match self.link.judge_in(self.epoch, "read", read) {
                Ok(entries) => entries,
                Err(error) => {
                    result = result.and(Err(error));
                    continue;
                }
            };
            let is_full = entries.len() == asked.count;
            self.measure(asked, &entries, began);
            self.leave_to_orphan_check(&mut entries);
            if result.is_ok() && self.goes_on() {
                self.send_reads(&mut reads, entries.len(), is_full).await;
            }
            // The connection's task writes the commands first, and the jobs are parsed meanwhile.
            yield_now().await;
            self.triage.deliver(Step::Delivered, entries, self.epoch);
        }
        result
    }

    /// Whether what it reads is still taken in.
    fn goes_on(&self) -> bool {
        !self.flags.stop.is_cancelled() && self.link.is_still_in(self.epoch)
    }

    /// Sends the reads for which there is room, while `fetched` entries are here that are not handed on
    /// yet. The last reply brought all that was asked for when it `was_full`.
    async fn send_reads(&mut self, reads: &mut Reads, fetched: usize, was_full: bool) {
        let several = was_full && self.is_far();
        while reads.coming() == 0 || several {
            let fetched = fetched + reads.coming();
            let Action::Read { room, block } = self.next_action(Instant::now(), fetched) else {
                return;
            };
            let Some(asked) = self.reply_size.ask_behind(room, reads.coming()) else {
                return;
            };
            let time = self.reply_size.time();
            // No read stands behind one that waits.
            let block = (!several).then_some(block);
            let read = self.broker.read(&self.link, asked.count, block, time);
            reads.send(asked, read).await;
        }
    }

    /// Whether Redis is so far away that a second read is worth more than a larger one.
    fn is_far(&self) -> bool {
        self.rhythm.round_trip() > NEAR
    }

    /// Reads entries that wait, and no more bytes of them than one reply carries.
    async fn read_bounded(&mut self, room: usize) -> Result<(), Error> {
        let began = Instant::now();
        let asked = self.reply_size.ask(room);
        let (bytes, time) = self.reply_size.bytes_and_time();
        let read = self
            .broker
            .read_bounded(&mut self.link, asked.count, bytes, time);
        let mut entries = read.await?;
        if entries.is_empty() {
            self.plan.bounded_read_was_empty(Instant::now());
        }
        self.measure(asked, &entries, began);
        self.leave_to_orphan_check(&mut entries);
        self.triage.deliver(Step::Delivered, entries, self.epoch);
        Ok(())
    }

    /// Learns from a reply how much the next one may bring. Its command asked for `asked`, and began
    /// at `began`.
    fn measure(&mut self, asked: Asked, entries: &[Entry], began: Instant) {
        let carried = |entry: &&Entry| !matches!(entry.body, Body::TooLarge(_));
        let bytes = entries.iter().filter(carried).map(|entry| entry.bytes);
        let (count, bytes) = (bytes.clone().count(), bytes.sum());
        self.reply_size
            .measure(asked, count, bytes, began.elapsed());
        if count < entries.len() {
            self.plan.found_too_large(Instant::now());
        }
    }

    /// Takes out entries that this process may have been given before, and asks Redis whose
    /// they are now.
    ///
    /// Redis delivers an entry again when the group was made anew or set back, or when it came
    /// back without its last second. The entry may run here, or may have ended since the reply
    /// was written.
    fn leave_to_orphan_check(&mut self, entries: &mut Vec<Entry>) {
        let newest = self.newest;
        let count = entries.len();
        self.remember(entries);
        entries.retain(|entry| Some(entry.id) > newest);
        if entries.len() < count {
            self.plan.look_for_orphans(Instant::now(), Cause::OldIds);
        }
    }

    fn remember(&mut self, entries: &[Entry]) {
        self.newest = self.newest.max(entries.iter().map(|entry| entry.id).max());
    }

    /// Renews everything that is held, before anything else is sent on a new connection: the
    /// outage may have lasted for most of a lease.
    async fn on_connect(&mut self) -> Result<(), Error> {
        let leases = self.held.renewable(Instant::now());
        for leases in leases.chunks(MAX_REPLY) {
            let ids: Vec<EntryId> = leases.iter().map(|lease| lease.id).collect();
            let time = time_for(ids.len() * NAME_BYTES);
            self.broker.renew(&mut self.link, &ids, time).await?;
        }
        // What was measured on another connection says nothing about this one.
        self.reply_size.connected();
        self.rhythm = Rhythm::new();
        let mut client_id = None;
        for _ in 0..FIRST_ROUND_TRIPS {
            let asked = Instant::now();
            client_id = self.broker.client_id(&mut self.link).await;
            self.rhythm.answered(asked.elapsed());
        }
        self.client_id
            .store(client_id.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Begins to read in another epoch, once it is known what of the held entries is still
    /// there. All entries that come from now on are newer than those.
    fn begin_epoch(&mut self) {
        self.epoch = self.link.epoch();
        self.newest = self.held.newest();
        // Before the first epoch nothing was read, so nothing can be lost.
        if self.epoch > 1 {
            self.plan.look_for_orphans(Instant::now(), Cause::LostReply);
        }
    }

    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = sleep(duration) => {}
            () = self.flags.stop.cancelled() => {}
        }
    }
}
