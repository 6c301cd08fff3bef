//! What this process has in hand: every entry from its delivery until Redis has
//! confirmed its outcome.
//!
//! Invariant: an entry that is here is never started again. The fetcher adds,
//! a runner takes what is ready and ends it, the settler removes; the heartbeat
//! renews all that is here. One lock guards it all, held for a few instructions.
//!
//! An id means the same entry within one epoch of the connection. When another epoch
//! begins, the settler finds out which entries are still the ones that were read, and the
//! others are forgotten: a handler that runs one of them ends without an outcome.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, watch};

use super::outcome::{Delivery, Outcome, Settlement};
use super::pace::{MAX_AHEAD, Pace};
use crate::service::jobqueue::redis::reply::EntryId;

/// How long an entry waits that did not get through by itself either, at first. Each time
/// twice as long, up to four times.
const ASIDE_PAUSE: Duration = Duration::from_secs(2);
/// How many entries' tries are remembered.
const MAX_TRIED: usize = 1000;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Held {
    concurrency: usize,
    state: Mutex<Inner>,
    /// Wakes the fetcher: a slot became free, or outcomes were settled.
    room: Notify,
    /// Wakes the settler: there are outcomes.
    outcomes: Notify,
    /// Wakes who fetches what is set aside.
    set_aside: Notify,
    /// The newest epoch in which all that is here was recognised.
    recognised: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: FxHashMap<EntryId, HeldEntry>,
    /// Counts the entries that were ever held.
    serials: u64,
    /// What was read in an earlier epoch is not taken in any more.
    epoch: u64,
    /// Entries that one reply could not carry, and when each is tried by itself.
    aside: FxHashMap<EntryId, Aside>,
    /// How often each of them was tried, and how often that ended its connection. Kept when an epoch ends, because an entry that is
    /// too large can be what ended it.
    tries: FxHashMap<EntryId, Tries>,
    /// Delivered and waiting for a slot, oldest first, with the time of delivery.
    ready: VecDeque<(Instant, Arc<Delivery>)>,
    /// Slots that are taken: deliveries whose handler runs or whose output is on its way.
    running: usize,
    /// A runner has been called for and has not come yet. There is always one on its way
    /// while something is ready and a slot is free.
    runner_called: bool,
    /// Something was put back although a slot was free: the handlers' threads are all
    /// blocked. Until a runner comes round again, more would only be put back too.
    stuck: bool,
    outcomes: VecDeque<Settlement>,
    /// Outcomes that Redis has not confirmed, those in `outcomes` included.
    unsettled: usize,
    /// Those of them that Redis refuses for a reason of their own. They hold up nothing.
    refused: usize,
    pace: Pace,
}

/// An entry that is to be fetched by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) bytes: usize,
    pub(crate) deliveries: u32,
    pub(crate) due: Instant,
}

/// How an entry that was set aside was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    pub(crate) all: u32,
    /// How many of them ended the connection: a line that is slow does not.
    pub(crate) ended: u32,
}

#[derive(Debug)]
struct HeldEntry {
    serial: u64,
    /// The epoch in which this was known to be the entry of its id.
    epoch: u64,
    /// What runs, or is to run, or ran. Whatever else is here would end in the same way
    /// if it were delivered once more.
    delivery: Option<Arc<Delivery>>,
    deliveries: u32,
    /// When its handler was started; absent before, and once it only waits for its output.
    started: Option<Instant>,
    /// Its handler is over, one way or another; what is left is to settle it.
    ended: bool,
    /// It is on its way to others: a renewal that came after would keep it from them
    /// for a whole lease.
    put_back: bool,
}

/// How long an entry that was set aside waits after so many tries.
fn aside_pause(tries: u32) -> Duration {
    match tries {
        0 => Duration::ZERO,
        tries => ASIDE_PAUSE * 2_u32.pow(tries.min(3) - 1),
    }
}

/// What a reply brought, by what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// To run, in order.
    pub(crate) ready: Vec<Arc<Delivery>>,
    /// With an outcome that is known without a run, and the count of deliveries.
    pub(crate) settled: Vec<(EntryId, u32, Outcome)>,
    /// To be fetched by itself: the count of deliveries, and how many bytes it has.
    pub(crate) aside: Vec<(EntryId, u32, usize)>,
}

/// What the fetcher may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many entries it may get: free slots, and ahead of them what the pace of
    /// short jobs allows.
    pub(crate) entries: usize,
    /// When the oldest ready delivery was delivered.
    pub(crate) waiting_since: Option<Instant>,
}

impl Held {
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            state: Mutex::new(Inner::default()),
            room: Notify::new(),
            outcomes: Notify::new(),
            set_aside: Notify::new(),
            recognised: watch::Sender::new(0),
        }
    }

    // For the fetcher.

    pub(crate) fn room(&self, now: Instant) -> Room {
        let mut state = self.lock();
        let waiting_since = state.ready.front().map(|(since, _)| *since);
        let in_hand = state.ready.len() + state.running;
        // Redis is slower than the handlers, or away: what is done must go out first.
        if state.stuck
            || state.unsettled.saturating_sub(state.refused) >= MAX_AHEAD + self.concurrency
        {
            return Room {
                entries: 0,
                waiting_since,
            };
        }
        let ahead = state.pace.ahead(now);
        Room {
            entries: (self.concurrency + ahead).saturating_sub(in_hand),
            waiting_since,
        }
    }

    /// Waits until there may be more room than there was. Cancel safe.
    pub(crate) async fn wait_for_room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.lock().entries.contains_key(&id)
    }

    /// All that is here.
    pub(crate) fn ids(&self) -> FxHashSet<EntryId> {
        self.lock().entries.keys().copied().collect()
    }

    /// Whether an entry other than `id` is here that has been delivered `deliveries`
    /// times or more, and that could be run.
    pub(crate) fn has_other_delivered(&self, id: EntryId, deliveries: u32) -> bool {
        let state = self.lock();
        state.entries.iter().any(|(other, entry)| {
            *other != id && entry.deliveries >= deliveries && !state.aside.contains_key(other)
        })
    }

    /// Takes in what was read in `epoch`, in order, unless that is over. Answers whether the
    /// caller is to start a runner.
    #[must_use]
    pub(crate) fn admit(&self, admission: Admission, epoch: u64, now: Instant) -> bool {
        let mut state = self.lock();
        if epoch < state.epoch {
            // Redis still has them pending for this consumer, where they are looked for.
            return false;
        }
        for delivery in admission.ready {
            if state.is_held_for_good(delivery.id) {
                continue;
            }
            state.hold(
                delivery.id,
                delivery.deliveries,
                Some(Arc::clone(&delivery)),
            );
            state.ready.push_back((now, delivery));
        }
        if !admission.aside.is_empty() {
            self.set_aside.notify_one();
        }
        for (id, deliveries, bytes) in admission.aside {
            if state.is_held_for_good(id) {
                continue;
            }
            state.hold(id, deliveries, None);
            let tries = state.tries.get(&id).map_or(0, |tries| tries.all);
            let due = now + aside_pause(tries);
            let aside = Aside {
                bytes,
                deliveries,
                due,
            };
            state.aside.insert(id, aside);
        }
        let settled = !admission.settled.is_empty();
        for (id, deliveries, outcome) in admission.settled {
            if state.is_held_for_good(id) {
                continue;
            }
            let delivery = match &outcome {
                Outcome::Park(delivery) => Some(Arc::clone(delivery)),
                _ => None,
            };
            state.hold(id, deliveries, delivery);
            state.conclude(id, outcome);
        }
        let called_for = state.call_runner(self.concurrency);
        drop(state);
        if settled {
            self.outcomes.notify_one();
        }
        called_for
    }

    /// The entry that is to be fetched by itself next, if any is set aside.
    pub(crate) fn next_aside(&self) -> Option<(EntryId, Aside)> {
        let state = self.lock();
        let aside = state
            .aside
            .iter()
            .min_by_key(|(id, aside)| (aside.due, **id));
        aside.map(|(id, aside)| (*id, *aside))
    }

    /// Waits until another entry may have been set aside. Cancel safe.
    pub(crate) async fn wait_for_aside(&self) {
        self.set_aside.notified().await;
    }

    /// How many entries are set aside.
    pub(crate) fn asides(&self) -> usize {
        self.lock().aside.len()
    }

    /// An entry that is set aside is tried now, and again only after a while if that fails.
    /// Answers how it was tried before. Once a try has ended its connection the next ones are
    /// deliveries.
    pub(crate) fn try_aside(&self, id: EntryId, now: Instant) -> Tries {
        let mut state = self.lock();
        if state.tries.len() >= MAX_TRIED {
            state.tries.clear();
        }
        let tries = state.tries.entry(id).or_default();
        let before = *tries;
        tries.all = tries.all.saturating_add(1);
        if let Some(aside) = state.aside.get_mut(&id) {
            aside.due = now + aside_pause(before.all + 1);
            let counts = u32::from(before.ended > 0);
            aside.deliveries = aside.deliveries.saturating_add(counts);
            let deliveries = aside.deliveries;
            if let Some(entry) = state.entries.get_mut(&id) {
                entry.deliveries = deliveries;
            }
        }
        before
    }

    /// A try has ended its connection.
    pub(crate) fn ended_by_aside(&self, id: EntryId) {
        if let Some(tries) = self.lock().tries.get_mut(&id) {
            tries.ended = tries.ended.saturating_add(1);
        }
    }

    /// An entry that was set aside is not this consumer's any more.
    pub(crate) fn drop_aside(&self, id: EntryId) {
        let mut state = self.lock();
        if state.aside.remove(&id).is_some() {
            state.entries.remove(&id);
        }
        state.tries.remove(&id);
    }

    /// Waits until all that is here was recognised in `epoch` or later. Cancel safe.
    pub(crate) async fn wait_recognised(&self, epoch: u64) {
        let mut recognised = self.recognised.subscribe();
        // Fails only when `self` is dropped.
        drop(recognised.wait_for(|newest| *newest >= epoch).await);
    }

    /// The newest id that is here.
    pub(crate) fn newest(&self) -> Option<EntryId> {
        self.lock().entries.keys().copied().max()
    }

    /// Gives up what has been ready since `before` or longer; `Instant::now()` for all.
    pub(crate) fn put_back_ready(&self, before: Instant) {
        let mut state = self.lock();
        let mut any = false;
        while state
            .ready
            .front()
            .is_some_and(|(since, _)| *since <= before)
            && let Some((_, delivery)) = state.ready.pop_front()
        {
            state.put_back(delivery.id);
            any = true;
        }
        state.stuck |= any && state.running < self.concurrency;
        drop(state);
        if any {
            self.outcomes.notify_one();
        }
    }

    /// Gives up what is set aside.
    pub(crate) fn put_back_aside(&self) {
        let mut state = self.lock();
        for id in std::mem::take(&mut state.aside).into_keys() {
            state.put_back(id);
        }
        drop(state);
        self.outcomes.notify_one();
    }

    // For the runners.

    /// The first delivery of a new runner, which takes a slot, and whether the next runner
    /// is to be started. None ends the runner.
    pub(crate) fn start(&self, now: Instant) -> Option<(Arc<Delivery>, bool)> {
        let mut state = self.lock();
        state.runner_called = false;
        if std::mem::take(&mut state.stuck) {
            self.room.notify_one();
        }
        state.start_next(self.concurrency, now)
    }

    /// A handler is over: its slot is free, its outcome goes to the settler. Answers what
    /// its runner takes next, as [`Self::start`] does.
    #[must_use]
    pub(crate) fn end(
        &self,
        delivery: &Arc<Delivery>,
        outcome: Outcome,
        now: Instant,
    ) -> Option<(Arc<Delivery>, bool)> {
        let mut state = self.lock();
        state.stuck = false;
        state.end_run(delivery, outcome);
        let next = state.start_next(self.concurrency, now);
        drop(state);
        self.notify_of_end();
        next
    }

    /// A handler has done its part and its output is on its way, which takes as long as it
    /// takes: it does not hang. It keeps its slot. Answers what its runner takes next, as
    /// [`Self::start`] does.
    #[must_use]
    pub(crate) fn leave_to_output(
        &self,
        delivery: &Arc<Delivery>,
        now: Instant,
    ) -> Option<(Arc<Delivery>, bool)> {
        let mut state = self.lock();
        if let Some(entry) = state.entry_of(delivery) {
            entry.started = None;
        }
        state.start_next(self.concurrency, now)
    }

    /// What was left to its output is over: its slot is free, its outcome goes to the
    /// settler. Answers whether the caller is to start a runner.
    #[must_use]
    pub(crate) fn end_output(&self, delivery: &Arc<Delivery>, outcome: Outcome) -> bool {
        let mut state = self.lock();
        state.end_run(delivery, outcome);
        let called_for = state.call_runner(self.concurrency);
        drop(state);
        self.notify_of_end();
        called_for
    }

    fn notify_of_end(&self) {
        self.room.notify_one();
        self.outcomes.notify_one();
    }

    /// How many handlers run.
    pub(crate) fn running(&self) -> usize {
        self.lock().running
    }

    // For the settler.

    /// Up to `limit` outcomes, oldest first.
    pub(crate) fn take_outcomes(&self, limit: usize) -> Vec<Settlement> {
        let mut state = self.lock();
        let count = state.outcomes.len().min(limit);
        state.outcomes.drain(..count).collect()
    }

    pub(crate) fn has_outcomes(&self) -> bool {
        !self.lock().outcomes.is_empty()
    }

    /// Waits until there may be outcomes. Cancel safe.
    pub(crate) async fn wait_for_outcomes(&self) {
        self.outcomes.notified().await;
    }

    /// The job that an outcome is for, if it was one that could be run.
    pub(crate) fn delivery_of(&self, settlement: &Settlement) -> Option<Arc<Delivery>> {
        let state = self.lock();
        let current = state.is_current(settlement);
        let entry = state.entries.get(&settlement.id).filter(|_| current);
        entry.and_then(|entry| entry.delivery.clone())
    }

    /// Redis has confirmed these outcomes, or had nothing left to confirm.
    pub(crate) fn settled(&self, settlements: impl Iterator<Item = Settlement>) {
        let mut state = self.lock();
        for settlement in settlements {
            state.unsettled -= 1;
            if state.is_current(&settlement) {
                state.entries.remove(&settlement.id);
            }
        }
        drop(state);
        self.room.notify_one();
    }

    /// These were not confirmed: they go out again, before the others.
    pub(crate) fn unsettle(&self, settlements: Vec<Settlement>) {
        let mut state = self.lock();
        for settlement in settlements.into_iter().rev() {
            if state.is_current(&settlement) {
                state.outcomes.push_front(settlement);
            } else {
                state.unsettled -= 1;
            }
        }
    }

    /// Instead of these outcomes their entries are put back, to be delivered after a while.
    /// Their deliveries do not count, since that they have no outcome is no fault of theirs.
    pub(crate) fn put_off(&self, settlements: Vec<Settlement>) {
        let mut state = self.lock();
        for settlement in settlements {
            state.unsettled -= 1;
            if state.is_current(&settlement)
                && let Some(entry) = state.entries.get(&settlement.id)
            {
                let deliveries = entry.deliveries.saturating_sub(1);
                state.conclude(settlement.id, Outcome::PutOff { deliveries });
            }
        }
        drop(state);
        self.outcomes.notify_one();
    }

    /// A parked delivery turned out to be due: it is ready. Answers whether the caller is
    /// to start a runner.
    #[must_use]
    pub(crate) fn resume(&self, delivery: Arc<Delivery>, now: Instant) -> bool {
        let mut state = self.lock();
        state.unsettled -= 1;
        if let Some(entry) = state.entry_of(&delivery) {
            entry.ended = false;
            state.ready.push_back((now, delivery));
        }
        state.call_runner(self.concurrency)
    }

    /// How many of the unsettled outcomes Redis refuses for a reason of their own.
    pub(crate) fn set_refused(&self, refused: usize) {
        self.lock().refused = refused;
        self.room.notify_one();
    }

    /// Another epoch has begun, and nothing that was read before is taken in any more.
    /// Answers what is here that runs or ran, or is to run: [`Self::recognised`] wants to
    /// know which of it is still what its id means.
    pub(crate) fn begin_epoch(&self, epoch: u64) -> Vec<Arc<Delivery>> {
        let mut state = self.lock();
        state.epoch = epoch;
        let entries = state.entries.values();
        let deliveries = entries.filter_map(|entry| entry.delivery.as_ref());
        deliveries.map(Arc::clone).collect()
    }

    /// Keeps of what was read before `epoch` what is in `same`, and forgets the rest, which
    /// may be delivered again under another id, or with another content. Answers how many of
    /// those were to run, or run.
    pub(crate) fn recognised(&self, epoch: u64, same: &FxHashSet<EntryId>) -> usize {
        let mut state = self.lock();
        let mut lost = 0;
        state.entries.retain(|id, entry| {
            if entry.delivery.is_some() && same.contains(id) {
                entry.epoch = epoch;
            }
            let kept = entry.epoch >= epoch;
            // What has ended may have been settled, by a command whose reply was lost.
            lost += usize::from(!kept && entry.delivery.is_some() && !entry.ended);
            kept
        });
        let Inner {
            entries,
            outcomes,
            ready,
            aside,
            unsettled,
            ..
        } = &mut *state;
        aside.retain(|id, _| entries.contains_key(id));
        ready.retain(|(_, delivery)| entries.contains_key(&delivery.id));
        let before = outcomes.len();
        outcomes.retain(|settlement| entries.contains_key(&settlement.id));
        *unsettled -= before - outcomes.len();
        drop(state);
        self.recognised.send_replace(epoch);
        self.room.notify_one();
        lost
    }

    /// How many outcomes Redis has not confirmed.
    pub(crate) fn unsettled(&self) -> usize {
        self.lock().unsettled
    }

    // For the heartbeat.

    /// What is to be renewed: everything but what is put back, and handlers that were
    /// started longer than `limit` ago, which no timeout has ended and nobody should
    /// wait for.
    pub(crate) fn renewable(&self, now: Instant, limit: Duration) -> Vec<EntryId> {
        let state = self.lock();
        let renewable = state.entries.iter().filter(|(_, entry)| {
            let hangs = entry.started.is_some_and(|started| now - started >= limit);
            !entry.put_back && (entry.ended || !hangs)
        });
        renewable.map(|(id, _)| *id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn hold(&mut self, id: EntryId, deliveries: u32, delivery: Option<Arc<Delivery>>) {
        self.serials += 1;
        let entry = HeldEntry {
            serial: self.serials,
            epoch: self.epoch,
            delivery,
            deliveries,
            started: None,
            ended: false,
            put_back: false,
        };
        self.entries.insert(id, entry);
        self.aside.remove(&id);
    }

    /// Whether an entry of this id is here whose delivery has come. One that is set aside may
    /// come by itself.
    fn is_held_for_good(&self, id: EntryId) -> bool {
        self.entries.contains_key(&id) && !self.aside.contains_key(&id)
    }

    /// The entry of a delivery, unless it was forgotten.
    fn entry_of(&mut self, delivery: &Arc<Delivery>) -> Option<&mut HeldEntry> {
        let entry = self.entries.get_mut(&delivery.id)?;
        let held = entry.delivery.as_ref()?;
        Arc::ptr_eq(held, delivery).then_some(entry)
    }

    fn is_current(&self, settlement: &Settlement) -> bool {
        let entry = self.entries.get(&settlement.id);
        entry.is_some_and(|entry| entry.serial == settlement.serial)
    }

    /// A runner takes the next delivery if it may, else it ends.
    fn start_next(&mut self, concurrency: usize, now: Instant) -> Option<(Arc<Delivery>, bool)> {
        if self.running >= concurrency {
            return None;
        }
        let (_, delivery) = self.ready.pop_front()?;
        self.running += 1;
        if let Some(entry) = self.entry_of(&delivery) {
            entry.started = Some(now);
        }
        Some((delivery, self.call_runner(concurrency)))
    }

    /// Whether a runner is to be started that has not been called for already.
    fn call_runner(&mut self, concurrency: usize) -> bool {
        let call = !self.runner_called && !self.ready.is_empty() && self.running < concurrency;
        self.runner_called |= call;
        call
    }

    fn end_run(&mut self, delivery: &Arc<Delivery>, outcome: Outcome) {
        self.running -= 1;
        // What was forgotten has no outcome that Redis could be told.
        if self.entry_of(delivery).is_some() {
            self.conclude(delivery.id, outcome);
        }
    }

    /// Gives up an entry that was not started, so that its delivery does not count.
    fn put_back(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get(&id) {
            let deliveries = entry.deliveries.saturating_sub(1);
            self.conclude(id, Outcome::PutBack { deliveries });
        }
    }

    fn conclude(&mut self, id: EntryId, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.ended = true;
        if let Outcome::PutBack { .. } | Outcome::PutOff { .. } = outcome {
            entry.put_back = true;
        } else {
            // What is put back was not disposed of: at its pace the worker would fetch
            // the next ones only to put them back too.
            self.pace.count();
        }
        self.outcomes.push_back(Settlement {
            id,
            outcome,
            serial: entry.serial,
        });
        self.unsettled += 1;
    }
}

#[cfg(test)]
mod tests;
