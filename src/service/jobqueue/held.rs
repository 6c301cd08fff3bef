//! What this process has in hand: every entry from its delivery until Redis has
//! confirmed its outcome.
//!
//! Invariant: an entry id that is here is never started again. The fetcher adds,
//! a runner takes what is ready and ends it, the settler removes; the heartbeat
//! renews all that is here. One lock guards it all, held for a few instructions.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;

use super::broker::DeadLetter;
use super::job::Job;
use super::pace::{MAX_AHEAD, Pace};
use super::reply::EntryId;

/// A job that is to run: an entry that was delivered and understood.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) id: EntryId,
    pub(crate) job: Job,
    /// The job as it stands in the entry.
    pub(crate) json: Vec<u8>,
    pub(crate) deliveries: u32,
}

/// How a delivery ends. Each gets exactly one.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran: acknowledge and delete it.
    Done,
    /// Its delay is not over: to the scheduled set, or to a runner when Redis says
    /// that it is due.
    Park(Box<Delivery>),
    /// It failed and may be tried again: to the scheduled set as `job`, due in `backoff`.
    Retry { job: Vec<u8>, backoff: Duration },
    /// It will not run again: to the dead letters.
    Dead(DeadLetter),
    /// It ends here without a result: anybody may claim it, with this delivery count.
    PutBack { deliveries: u32 },
}

/// An outcome on its way to Redis.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) id: EntryId,
    pub(crate) outcome: Outcome,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Held {
    concurrency: usize,
    state: Mutex<State>,
    /// Wakes the fetcher: a slot became free, or outcomes were settled.
    room: Notify,
    /// Wakes the settler: there are outcomes.
    outcomes: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: FxHashMap<EntryId, Entry>,
    /// Delivered and waiting for a slot, oldest first, with the time of delivery.
    ready: VecDeque<(Instant, Delivery)>,
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
    pace: Pace,
}

#[derive(Debug)]
struct Entry {
    deliveries: u32,
    /// When its handler was started; absent before, and once it only waits for its output.
    started: Option<Instant>,
    /// Its handler is over, one way or another; what is left is to settle it.
    ended: bool,
    /// It is on its way to others: a renewal that came after would keep it from them
    /// for a whole lease.
    put_back: bool,
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
            state: Mutex::new(State::default()),
            room: Notify::new(),
            outcomes: Notify::new(),
        }
    }

    // For the fetcher.

    pub(crate) fn room(&self, now: Instant) -> Room {
        let mut state = self.lock();
        let waiting_since = state.ready.front().map(|(since, _)| *since);
        let in_hand = state.ready.len() + state.running;
        // Redis is slower than the handlers, or away: what is done must go out first.
        if state.stuck || state.unsettled >= MAX_AHEAD + self.concurrency {
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
    /// times or more.
    pub(crate) fn has_other_delivered(&self, id: EntryId, deliveries: u32) -> bool {
        self.lock()
            .entries
            .iter()
            .any(|(other, entry)| *other != id && entry.deliveries >= deliveries)
    }

    /// Takes entries in that are ready to run, in order. Answers whether the caller is to
    /// start a runner.
    #[must_use]
    pub(crate) fn admit(&self, deliveries: Vec<Delivery>, now: Instant) -> bool {
        let mut state = self.lock();
        for delivery in deliveries {
            state.hold(delivery.id, delivery.deliveries, false);
            state.ready.push_back((now, delivery));
        }
        state.call_runner(self.concurrency)
    }

    /// Takes entries in whose outcome is known without running them.
    pub(crate) fn admit_settled(&self, settlements: Vec<(Settlement, u32)>) {
        if settlements.is_empty() {
            return;
        }
        let mut state = self.lock();
        for (settlement, deliveries) in settlements {
            state.hold(settlement.id, deliveries, true);
            state.conclude(settlement);
        }
        drop(state);
        self.outcomes.notify_one();
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
            state.end(delivery.id);
            state.conclude(Settlement {
                id: delivery.id,
                // It did not start, so the delivery does not count.
                outcome: Outcome::PutBack {
                    deliveries: delivery.deliveries.saturating_sub(1),
                },
            });
            any = true;
        }
        state.stuck |= any && state.running < self.concurrency;
        drop(state);
        if any {
            self.outcomes.notify_one();
        }
    }

    // For the runners.

    /// The first delivery of a new runner, which takes a slot, and whether the next runner
    /// is to be started. None ends the runner.
    pub(crate) fn start(&self, now: Instant) -> Option<(Delivery, bool)> {
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
        id: EntryId,
        outcome: Outcome,
        now: Instant,
    ) -> Option<(Delivery, bool)> {
        let mut state = self.lock();
        state.stuck = false;
        state.end_run(id, outcome);
        let next = state.start_next(self.concurrency, now);
        drop(state);
        self.notify_of_end();
        next
    }

    /// A handler has done its part and its output is on its way, which takes as long as it
    /// takes: it does not hang. It keeps its slot. Answers what its runner takes next, as
    /// [`Self::start`] does.
    #[must_use]
    pub(crate) fn leave_to_output(&self, id: EntryId, now: Instant) -> Option<(Delivery, bool)> {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(&id) {
            entry.started = None;
        }
        state.start_next(self.concurrency, now)
    }

    /// What was left to its output is over: its slot is free, its outcome goes to the
    /// settler. Answers whether the caller is to start a runner.
    #[must_use]
    pub(crate) fn end_output(&self, id: EntryId, outcome: Outcome) -> bool {
        let mut state = self.lock();
        state.end_run(id, outcome);
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

    /// Waits until there may be outcomes. Cancel safe.
    pub(crate) async fn wait_for_outcomes(&self) {
        self.outcomes.notified().await;
    }

    /// Redis has confirmed the outcomes of `ids`, or had nothing left to confirm.
    pub(crate) fn settled(&self, ids: impl Iterator<Item = EntryId>) {
        let mut state = self.lock();
        for id in ids {
            state.entries.remove(&id);
            state.unsettled -= 1;
        }
        drop(state);
        self.room.notify_one();
    }

    /// These were not confirmed: they go out again, before the others.
    pub(crate) fn unsettle(&self, settlements: Vec<Settlement>) {
        let mut state = self.lock();
        for settlement in settlements.into_iter().rev() {
            state.outcomes.push_front(settlement);
        }
    }

    /// A parked delivery turned out to be due: it is ready. Answers whether the caller is
    /// to start a runner.
    #[must_use]
    pub(crate) fn resume(&self, delivery: Delivery, now: Instant) -> bool {
        let mut state = self.lock();
        state.unsettled -= 1;
        if let Some(entry) = state.entries.get_mut(&delivery.id) {
            entry.ended = false;
        }
        state.ready.push_back((now, delivery));
        state.call_runner(self.concurrency)
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold(&mut self, id: EntryId, deliveries: u32, ended: bool) {
        let entry = Entry {
            deliveries,
            started: None,
            ended,
            put_back: false,
        };
        self.entries.insert(id, entry);
    }

    /// A runner takes the next delivery if it may, else it ends.
    fn start_next(&mut self, concurrency: usize, now: Instant) -> Option<(Delivery, bool)> {
        if self.running >= concurrency {
            return None;
        }
        let (_, delivery) = self.ready.pop_front()?;
        self.running += 1;
        if let Some(entry) = self.entries.get_mut(&delivery.id) {
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

    fn end_run(&mut self, id: EntryId, outcome: Outcome) {
        self.running -= 1;
        self.end(id);
        self.conclude(Settlement { id, outcome });
    }

    fn end(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.ended = true;
        }
    }

    fn conclude(&mut self, settlement: Settlement) {
        if let Outcome::PutBack { .. } = settlement.outcome {
            if let Some(entry) = self.entries.get_mut(&settlement.id) {
                entry.put_back = true;
            }
        } else {
            // What is put back was not disposed of: at its pace the worker would fetch
            // the next ones only to put them back too.
            self.pace.count();
        }
        self.outcomes.push_back(settlement);
        self.unsettled += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EntryId {
        format!("{n}-0").parse().unwrap()
    }

    fn delivery(n: u64) -> Delivery {
        let json = br#"{"type":"x"}"#.to_vec();
        Delivery {
            id: id(n),
            job: Job::parse(&json).unwrap(),
            json,
            deliveries: 1,
        }
    }

    fn ids(next: Option<(Delivery, bool)>) -> Option<(EntryId, bool)> {
        next.map(|(delivery, more)| (delivery.id, more))
    }

    #[test]
    fn a_runner_is_called_for_while_something_is_ready_and_a_slot_is_free() {
        let (held, now) = (Held::new(2), Instant::now());
        assert!(held.admit(vec![delivery(1)], now));
        let deliveries = vec![delivery(2), delivery(3), delivery(4)];
        assert!(!held.admit(deliveries, now), "one is on its way");
        assert_eq!(ids(held.start(now)), Some((id(1), true)));
        assert_eq!(
            ids(held.start(now)),
            Some((id(2), false)),
            "no slot is left"
        );
        let full = Room {
            entries: 0,
            waiting_since: Some(now),
        };
        assert_eq!(held.room(now), full);
        let next = held.end(id(1), Outcome::Done, now);
        assert_eq!(ids(next), Some((id(3), false)));
        assert!(
            held.leave_to_output(id(3), now).is_none(),
            "it keeps its slot"
        );
        assert!(held.end_output(id(3), Outcome::Done));
        assert_eq!(ids(held.start(now)), Some((id(4), false)));
        assert!(held.end(id(4), Outcome::Done, now).is_none());
        assert!(held.admit(vec![delivery(5)], now));
    }

    #[test]
    fn an_entry_is_held_until_its_outcome_is_confirmed() {
        let (held, now) = (Held::new(1), Instant::now());
        assert!(held.admit(vec![delivery(1)], now));
        held.start(now).unwrap();
        assert!(held.end(id(1), Outcome::Done, now).is_none());
        let batch = held.take_outcomes(10);
        assert!(held.contains(id(1)) && held.unsettled() == 1);
        held.unsettle(batch);
        assert_eq!(held.take_outcomes(10).len(), 1);
        held.settled([id(1)].into_iter());
        assert!(!held.contains(id(1)) && held.unsettled() == 0);
    }

    #[test]
    fn fetching_stops_at_the_limit_of_unsettled_outcomes() {
        let (held, now) = (Held::new(1), Instant::now());
        for n in 0..(MAX_AHEAD as u64 + 1) {
            let settlement = Settlement {
                id: id(n),
                outcome: Outcome::Done,
            };
            assert!(held.room(now).entries > 0, "{n}");
            held.admit_settled(vec![(settlement, 1)]);
        }
        assert_eq!(held.room(now).entries, 0);
        held.settled([id(0)].into_iter());
        assert!(held.room(now).entries > 0);
    }

    #[test]
    fn what_is_put_back_sets_no_pace() {
        let (held, now) = (Held::new(1), Instant::now());
        assert_eq!(held.room(now).entries, 1);
        assert!(held.admit((0..50).map(delivery).collect(), now));
        held.start(now).unwrap();
        held.put_back_ready(now);
        assert!(held.end(id(0), Outcome::Done, now).is_none());
        assert_eq!(
            held.room(now).entries,
            2,
            "the slot, and the one that ended"
        );
    }

    #[test]
    fn a_worker_whose_threads_are_blocked_gets_nothing_until_a_runner_comes_round() {
        let (held, now) = (Held::new(2), Instant::now());
        assert!(held.admit(vec![delivery(1), delivery(2)], now));
        held.start(now).unwrap();
        held.put_back_ready(now);
        assert_eq!(held.room(now).entries, 0);
        assert!(held.start(now).is_none());
        assert_eq!(held.room(now).entries, 1);
    }

    #[test]
    fn a_handler_that_hangs_is_not_renewed_for_ever() {
        let (held, start) = (Held::new(2), Instant::now());
        let limit = Duration::from_secs(10);
        let deliveries = (1..=4).map(delivery).collect();
        assert!(held.admit(deliveries, start));
        held.start(start).unwrap();
        held.start(start).unwrap();
        let next = held.end(id(2), Outcome::Done, start + limit);
        assert_eq!(ids(next), Some((id(3), false)));
        assert_eq!(held.renewable(start, limit).len(), 4);
        let mut late = held.renewable(start + limit, limit);
        late.sort();
        assert_eq!(
            late,
            [id(2), id(3), id(4)],
            "unsettled ones, fresh ones and those not started are renewed"
        );
        assert!(held.leave_to_output(id(1), start).is_none());
        assert_eq!(held.renewable(start + limit, limit).len(), 4);
    }
}
