//! What this process holds: every entry from its delivery until Redis has confirmed its outcome.
//!
//! Invariant: an entry that is here is never started again. The fetcher adds entries, runners take
//! those that are ready and end them, and the settler removes them; the heartbeat renews their
//! leases. One lock guards it all, held for a few instructions. `phase.rs` shows the phases of an
//! entry.
//!
//! An id means the same entry within one epoch of the connection. When another epoch begins, the
//! settler finds out which entries are still the ones that were read. The others are forgotten: a
//! handler that runs one of them ends without an outcome.

mod aside;
mod entries;
mod inner;
mod phase;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tokio::sync::{Notify, watch};

use self::inner::Inner;
use self::phase::{Event, Phase};
use super::outcome::{Delivery, Outcome, Settlement};
use crate::service::jobqueue::redis::reply::EntryId;

pub(crate) use self::aside::{Aside, Tries};

/// The entries of one worker, and who is to be woken for them.
pub(crate) struct Held {
    concurrency: usize,
    inner: Mutex<Inner>,
    /// Starts a runner. Called without the lock.
    start_runner: Box<dyn Fn() + Send + Sync>,
    /// Wakes the fetcher: a slot became free, or outcomes were settled.
    room: Notify,
    /// Wakes the settler: there are outcomes.
    outcomes: Notify,
    /// Wakes the large entry fetcher: an entry was set aside.
    set_aside: Notify,
    /// The newest epoch in which all that is here was recognised.
    recognised: watch::Sender<u64>,
}

/// What a reply brought, by what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// To run, in order.
    pub(crate) ready: Vec<Arc<Delivery>>,
    /// With an outcome that is known without a run, and the count of deliveries.
    pub(crate) ended: Vec<(EntryId, u32, Outcome)>,
    /// To be fetched by itself: the count of deliveries, and how many bytes it has.
    pub(crate) aside: Vec<(EntryId, u32, usize)>,
}

/// What the fetcher may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many entries it may get: free slots, and ahead of them what the pace of short jobs
    /// allows.
    pub(crate) entries: usize,
    /// When the oldest ready delivery was delivered.
    pub(crate) waiting_since: Option<Instant>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// `start_runner` is called whenever something is ready, a slot is free and no other runner is
    /// on its way. The runner that it starts begins with [`Self::start`].
    pub(crate) fn new(concurrency: usize, start_runner: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            concurrency,
            inner: Mutex::default(),
            start_runner: Box::new(start_runner),
            room: Notify::new(),
            outcomes: Notify::new(),
            set_aside: Notify::new(),
            recognised: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a defect, which ends the part that met it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock, and starts a runner if one is wanted.
    fn release(&self, mut inner: MutexGuard<'_, Inner>) {
        let wanted = inner.wants_runner(self.concurrency);
        drop(inner);
        if wanted {
            (self.start_runner)();
        }
    }

    // For the fetcher.

    pub(crate) fn room(&self, now: Instant) -> Room {
        self.lock().room(self.concurrency, now)
    }

    /// Waits until there may be more room than there was. Cancel safe.
    pub(crate) async fn wait_for_room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.lock().entries.get(id).is_some()
    }

    /// All that is here.
    pub(crate) fn ids(&self) -> FxHashSet<EntryId> {
        self.lock().entries.iter().map(|(id, _)| id).collect()
    }

    /// The newest id that is here.
    pub(crate) fn newest(&self) -> Option<EntryId> {
        self.lock().entries.iter().map(|(id, _)| id).max()
    }

    /// Whether an entry other than `id` is here that has been delivered `deliveries` times or more,
    /// and that could be run.
    pub(crate) fn has_other_delivered(&self, id: EntryId, deliveries: u32) -> bool {
        let inner = self.lock();
        let mut entries = inner.entries.iter();
        entries.any(|(other, entry)| {
            other != id && entry.deliveries() >= deliveries && !entry.phase().is_set_aside()
        })
    }

    /// Takes in what was read in `epoch`, in order, unless that epoch is over.
    pub(crate) fn admit(&self, admission: Admission, epoch: u64, now: Instant) {
        let mut inner = self.lock();
        if epoch < inner.entries.epoch() {
            // Redis still has them pending for this consumer, where they are looked for.
            return;
        }
        let any_aside = !admission.aside.is_empty();
        let outcomes = inner.outcomes.len();
        for delivery in admission.ready {
            inner.admit_ready(delivery, now);
        }
        for (id, deliveries, bytes) in admission.aside {
            inner.admit_aside(id, deliveries, bytes, now);
        }
        for (id, deliveries, outcome) in admission.ended {
            inner.admit_ended(id, deliveries, outcome);
        }
        inner.put_back_if_stopping();
        let any_ended = inner.outcomes.len() > outcomes;
        self.release(inner);
        if any_aside {
            self.set_aside.notify_one();
        }
        if any_ended {
            self.outcomes.notify_one();
        }
    }

    /// Puts back what has been ready since `before` or longer.
    pub(crate) fn put_back_ready(&self, before: Instant) {
        let mut inner = self.lock();
        let ready = inner.ready.iter();
        let old = ready.take_while(|(since, _)| *since <= before).count();
        for (_, delivery) in inner.ready.drain(..old).collect::<Vec<_>>() {
            inner.put_back(delivery.id);
        }
        inner.stuck |= old > 0 && inner.entries.counts().slots() < self.concurrency;
        drop(inner);
        if old > 0 {
            self.outcomes.notify_one();
        }
    }

    /// Nothing is started any more: what waits is put back, and so is all that comes.
    pub(crate) fn stop_starting(&self) {
        let mut inner = self.lock();
        inner.stop_starting();
        inner.put_back_if_stopping();
        drop(inner);
        self.outcomes.notify_one();
    }

    // For the large entry fetcher.

    /// The entry that is to be fetched by itself next, if any is set aside.
    pub(crate) fn next_aside(&self) -> Option<(EntryId, Aside)> {
        let inner = self.lock();
        let asides = inner.entries.iter().filter_map(|(id, entry)| {
            let Phase::SetAside { bytes, due } = entry.phase() else {
                return None;
            };
            let deliveries = entry.deliveries();
            let aside = Aside {
                bytes,
                deliveries,
                due,
            };
            Some((id, aside))
        });
        asides.min_by_key(|(id, aside)| (aside.due, *id))
    }

    /// Waits until another entry may have been set aside. Cancel safe.
    pub(crate) async fn wait_for_aside(&self) {
        self.set_aside.notified().await;
    }

    /// How many entries are set aside.
    pub(crate) fn asides(&self) -> usize {
        self.lock().entries.counts().set_aside
    }

    /// An entry that is set aside is tried now, and again only after a while if that fails.
    /// Answers how it was tried before. Once a try has ended its connection the next ones are
    /// deliveries.
    pub(crate) fn try_aside(&self, id: EntryId, now: Instant) -> Tries {
        let mut inner = self.lock();
        let before = inner.tries.count(id);
        let due = inner.tries.due(id, now);
        let Some(entry) = inner.entries.get(id) else {
            return before;
        };
        if let Phase::SetAside { bytes, .. } = entry.phase() {
            let counts = u32::from(before.ended > 0);
            let deliveries = entry.deliveries().saturating_add(counts);
            inner.entries.set_deliveries(id, deliveries);
            inner.entries.step(id, Event::SetAside { bytes, due });
        }
        before
    }

    /// A try has ended its connection.
    pub(crate) fn ended_by_aside(&self, id: EntryId) {
        self.lock().tries.ended(id);
    }

    /// An entry that was set aside is not this consumer's any more.
    pub(crate) fn drop_aside(&self, id: EntryId) {
        let mut inner = self.lock();
        let phase = inner.entries.get(id).map(|entry| entry.phase());
        if phase.is_some_and(Phase::is_set_aside) {
            inner.entries.step(id, Event::LoseLease);
        }
        inner.tries.forget(id);
    }

    /// Waits until all that is here was recognised in `epoch` or later. Cancel safe.
    pub(crate) async fn wait_recognised(&self, epoch: u64) {
        let mut recognised = self.recognised.subscribe();
        // Fails only when `self` is dropped.
        drop(recognised.wait_for(|newest| *newest >= epoch).await);
    }

    // For the runners.

    /// The first delivery of a new runner, which takes a slot. None ends the runner.
    pub(crate) fn start(&self, now: Instant) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.runner_came();
        let was_stuck = std::mem::take(&mut inner.stuck);
        let next = inner.start_next(self.concurrency, now);
        self.release(inner);
        if was_stuck {
            self.room.notify_one();
        }
        next
    }

    /// A handler is over: its slot is free, its outcome goes to the settler. Answers what its
    /// runner takes next, as [`Self::start`] does.
    #[must_use]
    pub(crate) fn end(
        &self,
        delivery: &Arc<Delivery>,
        outcome: Outcome,
        now: Instant,
    ) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.stuck = false;
        inner.end_run(delivery, outcome);
        let next = inner.start_next(self.concurrency, now);
        self.release(inner);
        self.notify_of_end();
        next
    }

    /// A handler has done its part and its output is on its way, for as long as that takes: it
    /// does not hang. It keeps its slot. Answers what its runner takes next, as [`Self::start`]
    /// does.
    #[must_use]
    pub(crate) fn leave_to_output(
        &self,
        delivery: &Arc<Delivery>,
        now: Instant,
    ) -> Option<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.entries.step_delivery(delivery, Event::LeaveToOutput);
        let next = inner.start_next(self.concurrency, now);
        self.release(inner);
        next
    }

    /// What was left to its output is over: its slot is free, its outcome goes to the settler.
    pub(crate) fn end_output(&self, delivery: &Arc<Delivery>, outcome: Outcome) {
        let mut inner = self.lock();
        inner.end_run(delivery, outcome);
        self.release(inner);
        self.notify_of_end();
    }

    fn notify_of_end(&self) {
        self.room.notify_one();
        self.outcomes.notify_one();
    }

    /// How many slots are taken.
    pub(crate) fn running(&self) -> usize {
        self.lock().entries.counts().slots()
    }

    // For the settler.

    /// Up to `limit` outcomes, oldest first.
    pub(crate) fn take_outcomes(&self, limit: usize) -> Vec<Settlement> {
        let mut inner = self.lock();
        let count = inner.outcomes.len().min(limit);
        let Inner {
            entries, outcomes, ..
        } = &mut *inner;
        let taken = outcomes.drain(..count);
        taken
            .inspect(|settlement| {
                entries.step_settlement(settlement, Event::Send);
            })
            .collect()
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.lock().outcomes.is_empty()
    }

    /// Waits until there may be outcomes. Cancel safe.
    pub(crate) async fn wait_for_outcomes(&self) {
        self.outcomes.notified().await;
    }

    /// How many outcomes Redis has not confirmed.
    pub(crate) fn unsettled(&self) -> usize {
        self.lock().entries.counts().unsettled
    }

    /// The job that an outcome is for, if it was one that could be run.
    pub(crate) fn delivery_of(&self, settlement: &Settlement) -> Option<Arc<Delivery>> {
        let inner = self.lock();
        let entry = inner.entries.get(settlement.id);
        let entry = entry.filter(|entry| entry.serial() == settlement.serial)?;
        entry.delivery().cloned()
    }

    /// Redis has confirmed these outcomes, or had nothing left to confirm.
    pub(crate) fn settled(&self, settlements: impl Iterator<Item = Settlement>) {
        let mut inner = self.lock();
        for settlement in settlements {
            inner.entries.step_settlement(&settlement, Event::Confirm);
        }
        drop(inner);
        self.room.notify_one();
    }

    /// These were not confirmed: they go out again, before the others.
    pub(crate) fn unsettle(&self, settlements: Vec<Settlement>) {
        let mut inner = self.lock();
        for settlement in settlements.into_iter().rev() {
            if inner.entries.step_settlement(&settlement, Event::Unsettle) {
                inner.outcomes.push_front(settlement);
            }
        }
    }

    /// Redis refuses these for a reason of their own, until an operator mends it. They do not stop
    /// the fetching, but for the news that a job ran: too many of them would run once more.
    pub(crate) fn refuse(&self, settlements: &[Settlement]) {
        let mut inner = self.lock();
        for settlement in settlements {
            if !matches!(settlement.outcome, Outcome::Done) {
                inner.entries.step_settlement(settlement, Event::Refuse);
            }
        }
        drop(inner);
        self.room.notify_one();
    }

    /// Instead of these outcomes their entries are put back, to be delivered after a while. Their
    /// deliveries do not count, since it is no fault of theirs that they have no outcome.
    pub(crate) fn put_off(&self, settlements: &[Settlement]) {
        let mut inner = self.lock();
        for settlement in settlements {
            inner.put_off(settlement);
        }
        drop(inner);
        self.outcomes.notify_one();
    }

    /// A delivery that was to be parked turned out to be due: it is ready.
    pub(crate) fn resume(&self, settlement: Settlement, now: Instant) {
        let mut inner = self.lock();
        if let Outcome::Park(delivery) = settlement.outcome
            && inner
                .entries
                .step_delivery(&delivery, Event::Resume)
                .is_some()
        {
            inner.ready.push_back((now, delivery));
        }
        inner.put_back_if_stopping();
        self.release(inner);
        self.outcomes.notify_one();
    }

    /// Another epoch has begun, and nothing that was read before is taken in any more. Answers
    /// what is here that runs or ran, or is to run: [`Self::recognised`] wants to know which of it
    /// is still what its id means.
    pub(crate) fn begin_epoch(&self, epoch: u64) -> Vec<Arc<Delivery>> {
        let mut inner = self.lock();
        inner.entries.begin_epoch(epoch);
        let entries = inner.entries.iter();
        let deliveries = entries.filter_map(|(_, entry)| entry.delivery());
        deliveries.map(Arc::clone).collect()
    }

    /// Keeps of what was read before `epoch` what is in `same`, and forgets the rest, which may be
    /// delivered again under another id, or with another content. Answers how many of those were
    /// to run, or run.
    pub(crate) fn recognised(&self, epoch: u64, same: &FxHashSet<EntryId>) -> usize {
        let mut inner = self.lock();
        let Inner {
            entries,
            outcomes,
            ready,
            ..
        } = &mut *inner;
        let lost = entries.forget_others(epoch, same);
        ready.retain(|(_, delivery)| entries.get(delivery.id).is_some());
        outcomes.retain(|settlement| entries.get(settlement.id).is_some());
        drop(inner);
        self.recognised.send_replace(epoch);
        self.room.notify_one();
        lost
    }

    // For the heartbeat.

    /// What is to be renewed: all but entries that are put back, and handlers that were started
    /// `limit` ago or longer.
    pub(crate) fn renewable(&self, now: Instant, limit: Duration) -> Vec<EntryId> {
        let inner = self.lock();
        let renewed = inner.entries.renewed(now, limit);
        renewed.map(|(id, _)| id).collect()
    }
}
