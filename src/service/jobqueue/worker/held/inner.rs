//! What is behind the lock of [`super::Held`]: the entries, the queues of those that wait for a
//! runner or for the settler, and whether a runner is wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::entries::Entries;
use super::phase::{Event, Phase};
use super::tries::TryLog;
use crate::service::jobqueue::redis::EntryId;
use crate::service::jobqueue::worker::outcome::{Delivery, Outcome, Settlement};
use crate::service::jobqueue::worker::pace::Pace;

/// How many jobs a worker runs at once, and what it may have beyond those.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of slots.
    pub(crate) concurrency: usize,
    /// How many jobs may have run without Redis knowing it, beyond the number of slots. It is also how
    /// many a reply brings ahead of the free slots at most. Twice as many more may be on their way.
    pub(crate) ahead: usize,
}

impl Limits {
    /// How many jobs may run, or have run without Redis knowing it.
    fn at_risk(self) -> usize {
        self.concurrency + self.ahead
    }

    /// So many outcomes are worth a command of their own. A command costs Redis as much as some
    /// entries of it. No more than an eighth of what may be at risk waits for the one before.
    pub(super) fn many(self) -> usize {
        (self.at_risk() / 8).clamp(1, 64)
    }
}

/// What the fetcher may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// How many entries the next reply may bring: free slots, and ahead of them what the pace of
    /// short jobs allows.
    pub(crate) entries: usize,
    /// When the oldest delivery that no slot is free for was delivered.
    pub(crate) waiting_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) entries: Entries,
    /// The deliveries that are `Ready`, oldest first, and since when they wait.
    pub(super) ready: VecDeque<(Instant, Arc<Delivery>)>,
    /// The outcomes that wait for the settler, oldest first.
    pub(super) outcomes: VecDeque<Settlement>,
    pub(super) tries: TryLog,
    pace: Pace,
    /// A runner was started that has not come yet. One is on its way whenever something is ready
    /// and may start.
    runner_comes: bool,
    /// Something was put back although a job could start: the handlers' threads are all blocked.
    /// Until a runner comes round again, more would only be put back too.
    pub(super) stuck: bool,
    /// Running jobs whose handlers are to be dropped.
    pub(super) cancelled: FxHashSet<EntryId>,
    /// Something was put back because Redis does not take what has ended. While that lasts, more would
    /// only be put back too.
    put_back_behind: bool,
    /// Nothing is started any more.
    stopping: bool,
}

impl Inner {
    pub(super) fn room(
        &mut self,
        limits: Limits,
        fetched: usize,
        round_trip: Duration,
        now: Instant,
    ) -> Room {
        self.pass(limits, now);
        let counts = self.entries.counts();
        let taken = counts.slots() + self.ready.len() + fetched;
        let no_slot = (taken > limits.concurrency).then_some(now);
        let waiting_since = self.ready.front().map(|(since, _)| *since).or(no_slot);
        // Jobs that end without a run go on while no job may start. This limits their number.
        let far_behind = counts.slots() + counts.sending >= 2 * limits.at_risk();
        self.put_back_behind &= self.is_behind(limits);
        let entries = if self.stuck || self.put_back_behind || far_behind {
            0
        } else {
            let Limits { concurrency, ahead } = limits;
            let ahead = self.pace.ahead(round_trip, concurrency, ahead);
            let room = (concurrency + ahead.ready + ahead.coming).saturating_sub(taken);
            room.min(concurrency.saturating_sub(counts.slots()) + ahead.ready)
        };
        Room {
            entries,
            waiting_since,
        }
    }

    pub(super) fn admit_ready(&mut self, delivery: Arc<Delivery>, now: Instant) {
        let (id, deliveries) = (delivery.id, delivery.deliveries);
        let held = Some(Arc::clone(&delivery));
        let held = self.entries.hold(id, deliveries, held, Event::Deliver);
        if held.is_some() {
            self.ready.push_back((now, delivery));
        }
    }

    pub(super) fn admit_aside(&mut self, id: EntryId, deliveries: u32, bytes: usize, now: Instant) {
        let due = self.tries.due(id, now);
        self.entries
            .hold(id, deliveries, None, Event::SetAside { bytes, due });
    }

    pub(super) fn admit_ended(&mut self, id: EntryId, deliveries: u32, outcome: Outcome) {
        let delivery = match &outcome {
            Outcome::Park(delivery) | Outcome::Expire { delivery, .. } => {
                Some(Arc::clone(delivery))
            }
            _ => None,
        };
        let event = ending(&outcome);
        if let Some(serial) = self.entries.hold(id, deliveries, delivery, event) {
            self.push_outcome(id, serial, outcome);
        }
    }

    /// Takes entries that are no longer ready out of the queue for runners.
    pub(super) fn keep_ready(&mut self) {
        let entries = &self.entries;
        let is_ready = |id| entries.get(id).is_some_and(|it| it.phase() == Phase::Ready);
        self.ready.retain(|(_, delivery)| is_ready(delivery.id));
    }

    /// Takes entries that are no longer held out of the queue for the settler.
    pub(super) fn keep_held_outcomes(&mut self) {
        let entries = &self.entries;
        self.outcomes
            .retain(|settlement| entries.get(settlement.id).is_some());
    }

    /// The runner that was started has come.
    pub(super) fn runner_came(&mut self) {
        self.runner_comes = false;
    }

    /// So many slots were taken until now.
    #[inline(always)]
    fn pass(&mut self, limits: Limits, now: Instant) {
        let slots = self.entries.counts().slots();
        self.pace.pass(slots, limits.concurrency, now);
    }

    /// Whether Redis is slower than the handlers, or away: what has ended must go out before more is
    /// started. All of it that ran runs twice if this process is killed now.
    fn is_behind(&self, limits: Limits) -> bool {
        let counts = self.entries.counts();
        counts.slots() + counts.sending >= limits.at_risk()
    }

    /// Whether a job may start.
    pub(super) fn may_start(&self, limits: Limits) -> bool {
        self.entries.counts().slots() < limits.concurrency && !self.is_behind(limits)
    }

    /// Whether a runner is to be started now.
    pub(super) fn wants_runner(&mut self, limits: Limits) -> bool {
        let wants = !self.runner_comes && !self.ready.is_empty() && self.may_start(limits);
        self.runner_comes |= wants;
        wants
    }

    /// A runner takes the next delivery and a slot, if there is one of each.
    pub(super) fn start_next(&mut self, limits: Limits, now: Instant) -> Option<Arc<Delivery>> {
        if !self.may_start(limits) {
            return None;
        }
        let (_, delivery) = self.ready.pop_front()?;
        self.pass(limits, now);
        let hangs_at = now + delivery.hang_limit;
        self.entries.step(delivery.id, Event::Start(hangs_at));
        Some(delivery)
    }

    /// A handler is over, and its output as well. An entry that was forgotten meanwhile has no
    /// outcome that Redis could be told.
    pub(super) fn end_run(
        &mut self,
        delivery: &Arc<Delivery>,
        outcome: Outcome,
        limits: Limits,
        now: Instant,
    ) {
        self.pass(limits, now);
        if !self.cancelled.is_empty() {
            self.cancelled.remove(&delivery.id);
        }
        match self.entries.step_delivery(delivery, ending(&outcome)) {
            Some(serial) => self.push_outcome(delivery.id, serial, outcome),
            None => self.entries.free_abandoned_slot(),
        }
    }

    /// Gives up an entry that was not started, so that its delivery does not count.
    pub(super) fn put_back(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get(id) {
            let (serial, deliveries) = (entry.serial(), entry.deliveries_before());
            self.entries.step(id, Event::GiveUp);
            self.push_outcome(id, serial, Outcome::PutBack { deliveries });
        }
    }

    /// Gives up what has been ready since `before` or longer. Answers whether there was anything.
    pub(super) fn put_back_ready(&mut self, before: Instant, limits: Limits) -> bool {
        // What is put back is an outcome as well, so this comes first.
        let (could_start, behind) = (self.may_start(limits), self.is_behind(limits));
        let ready = self.ready.iter();
        let old = ready.take_while(|(since, _)| *since <= before).count();
        for (_, delivery) in self.ready.drain(..old).collect::<Vec<_>>() {
            self.put_back(delivery.id);
        }
        if old > 0 {
            self.pace.forget();
        }
        self.stuck |= old > 0 && could_start;
        self.put_back_behind |= old > 0 && behind;
        old > 0
    }

    /// Instead of an outcome that Redis refuses its entry is put back, for a while.
    pub(super) fn put_off(&mut self, settlement: &Settlement) {
        if self.entries.step_settlement(settlement, Event::GiveUp)
            && let Some(entry) = self.entries.get(settlement.id)
        {
            let deliveries = entry.deliveries_before();
            let outcome = Outcome::PutOff { deliveries };
            self.push_outcome(settlement.id, settlement.serial, outcome);
        }
    }

    pub(super) fn push_outcome(&mut self, id: EntryId, serial: u64, outcome: Outcome) {
        // A put back does not count. Otherwise the worker would fetch more entries only to put
        // them back.
        if ending(&outcome) == Event::End {
            self.pace.count();
        }
        self.outcomes.push_back(Settlement {
            id,
            outcome,
            serial,
        });
    }

    pub(super) fn stop_starting(&mut self) {
        self.stopping = true;
    }

    /// Once nothing is started any more, what waits to be started or fetched is put back.
    pub(super) fn put_back_if_stopping(&mut self) {
        if !self.stopping {
            return;
        }
        while let Some((_, delivery)) = self.ready.pop_front() {
            self.put_back(delivery.id);
        }
        if self.entries.counts().set_aside > 0 {
            let aside = self.entries.iter();
            let aside = aside.filter(|(_, entry)| entry.phase().is_set_aside());
            let aside: Vec<EntryId> = aside.map(|(id, _)| id).collect();
            aside.into_iter().for_each(|id| self.put_back(id));
        }
    }
}

fn ending(outcome: &Outcome) -> Event {
    match outcome {
        Outcome::PutBack { .. } | Outcome::PutOff { .. } => Event::GiveUp,
        _ => Event::End,
    }
}
